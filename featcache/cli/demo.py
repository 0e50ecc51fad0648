"""featcache demo, dataset: the whole story offline, through the commands a user would type."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from featcache.cli import options as o
from featcache.cli.console import answer, command, say, show
from featcache.errors import FeatcacheError

BACKBONE, SIZE = "efficientnet_lite0", "96"


def register(app: typer.Typer) -> None:
    @app.command("demo")
    @command
    def demo(
        folder: Annotated[
            Path,
            typer.Argument(help="Where the demo puts its images and features.", parser=o.path),
        ] = Path("featcache-demo"),
    ) -> None:
        """The whole story on handwritten digits, offline, in under two minutes."""

        def run(arguments: list[str]) -> None:
            code = app(arguments, standalone_mode=False)
            if code:
                raise typer.Exit(code)

        run_demo(folder, run, show)

    app.command("dataset")(command(dataset))


def dataset(
    name: Annotated[str, typer.Argument(help="digits, fashion_mnist or cats_and_dogs.")],
    destination: Annotated[Path, typer.Argument(help="A new or empty folder.", parser=o.path)],
    source: Annotated[
        str | None,
        typer.Option(help="Folder (or zip) with the original files, where they were downloaded."),
    ] = None,
    json: o.Json = False,
) -> None:
    """Write a known data set as a folder of images."""
    from featcache.images.datasets import write_dataset

    say(f"writing {name} to {destination}")
    count = write_dataset(name, destination, source)
    if json:
        answer({"dataset": name, "path": str(destination), "images": count})
    else:
        show(f"{count:,} images in {destination}")


def run_demo(folder: Path, command: Callable[[list[str]], None], say: Callable[..., None]) -> None:
    """Digits as an image folder, then extract, fit, evaluate and predict, each command shown.

    `command` runs one line of the command line; `say` prints lines of text.
    """
    from featcache.images.datasets import write_dataset

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
