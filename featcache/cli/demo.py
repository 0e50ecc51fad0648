"""The demo: the whole story offline, through the very commands a user would type."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

from featcache.errors import FeatcacheError
from featcache.images.datasets import write_dataset

BACKBONE, SIZE = "efficientnet_lite0", "96"


def run_demo(folder: Path, command: Callable[[list[str]], None], say: Callable[..., None]) -> None:
    """Digits as an image folder, then extract, fit, evaluate and predict, each command shown.

    `command` runs one line of the command line; `say` prints lines of text.
    """
    images, cache = folder / "digits", folder / "cache"
    if images.exists() and not (images / "0").is_dir():
        raise FeatcacheError(f"{images} is there already and not the demo's: name another folder")
    if not images.exists():
        write_dataset("digits", images)
    say(f"1,797 handwritten digits lie in {images}, a folder a class. No network is needed.")
    extract = [
        "extract", str(images), "--backbone", BACKBONE, "--size", SIZE, "--cache", str(cache),
    ]  # fmt: skip
    features = ["digits", "--cache", str(cache)]
    head = folder / "digits.head"
    example = sorted((images / "7").iterdir())[0]
    for remark, arguments in (
        ("Every image goes through the frozen network once:", extract),
        ("Again: nothing is new, so nothing is computed:", extract),
        ("A head is trained on the cached vectors:", ["fit-head", *features, "--out", str(head)]),
        (
            "and judged on images it has not seen, with its confusion matrix as a picture:",
            ["evaluate", str(head), *features, "--plots", str(folder / "pictures")],
        ),
        (
            "Images in, classes out:",
            ["predict", str(head), str(example), "--top", "3", "--cache", str(cache)],
        ),
        ("What the cache holds:", ["ls", "--cache", str(cache)]),
    ):
        say("", remark, f"$ featcache {shlex.join(arguments)}")
        command(arguments)
    say("", f"In a notebook:  features = featcache.load({str(cache / 'digits')!r})")
