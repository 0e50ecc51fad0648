"""A throw-away tree for commands to do their worst in, with a canary beside it.

canary/    what is not ours: documents, images, a home; no command may change anything in it
work/      where commands run: images, a manifest, a cache of two data sets, heads, links
home/      FEATCACHE_HOME
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from fork_server import Done, ForkServer
from PIL import Image

from featcache.training.checkpoint import Checkpoint, Saved

EXIT_CODES = {0, 2, 3, 4, 5, 6, 130}
LITE = ("--backbone", "efficientnet_lite0", "--size", "32")
#: Control characters, and those that turn the direction of text: they must never be printed.
UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
#: No command may reach the network, whatever it is asked for.
OFFLINE = {name: "http://127.0.0.1:9" for name in ("http_proxy", "https_proxy", "HTTPS_PROXY")}
OLD = 1_600_000_000  # a time in 2020: old enough for anything that clears up


class World:
    """The template of the tree, and how it is made new for each case."""

    def __init__(self, folder: Path, server: ForkServer, *, deep: bool = False) -> None:
        self.folder, self.server = folder, server
        self.template, self.root = folder / "template", folder / "tree"
        _make_canary(self.template / "canary")
        _make_images(self.template / "work" / "photos")
        _make_images(self.template / "canary" / "pictures", seed=1)
        self._fill()
        if deep:
            # Into a cache of its own: of two entries called `photos` no command would choose one.
            self._do("finetune", "photos", *LITE, "--epochs", "1", "--out", "tuned",
                     "--cache", "cache-of-tuning")  # fmt: skip
        self.root = folder / "tree"
        self.renew()
        entry = next((self.template / "work" / "cache" / "photos").glob("efficientnet_lite0-*"))
        self.entry = f"photos/{entry.name}"

    def renew(self) -> None:
        """The tree as it was made, times and modes included."""
        shutil.rmtree(self.root, ignore_errors=True)
        shutil.copytree(self.template, self.root, symlinks=True, copy_function=_copy)
        os.mkfifo(self.root / "work" / "pipe")
        self.untouched = look(self.root / "canary")

    def run(self, *argv: str | bytes, timeout: float = 60, **env: str) -> Done:
        """A command in `work`."""
        home = {"FEATCACHE_HOME": "../home", "HOME": "../canary/home", "KERAS_HOME": "../keras"}
        env = home | OFFLINE | env
        return self.server.run(*argv, cwd=self.root / "work", env=env, timeout=timeout)

    def _do(self, *argv: str) -> None:
        self.root = self.template
        done = self.run(*argv, timeout=300)
        assert done.code == 0, done.stderr.decode()

    def _fill(self) -> None:
        self._do("extract", "photos", *LITE)
        self._do("extract", "photos/train", *LITE, "--name", "other")
        self._do("extract", "photos/val", *LITE, "--name", "mended")
        self._do("fit-head", "photos", "--C", "0.1", "--out", "photos.head")
        self._do("fit-head", "photos", "--C", "0.1")
        self._mend()
        work = self.template / "work"
        names = sorted(path.relative_to(work) for path in (work / "photos").rglob("*.png"))
        lines = [f"{name},{name.parts[2]}" for name in names]
        (work / "manifest.csv").write_text("\n".join(["path,label", *lines]) + "\n")
        _make_checkpoint(work / "tuning" / "checkpoint.safetensors")
        (work / "out-link.csv").symlink_to("../canary/documents/letter.txt")
        (work / "out-link").symlink_to("../canary/documents")

    def _mend(self) -> None:
        """A data set that was damaged and repaired: it has a part and a quarantine."""
        (features,) = (self.template / "work" / "cache" / "mended").glob("*/features.h5")
        features.chmod(0o644)
        features.write_bytes(features.read_bytes()[:-4] + b"\x00\x00\x80\x3f")
        self._do("repair", "mended")


def _copy(source: str, target: str) -> None:
    """Copy a file; of a compiled network, which takes 13 MB, another name must do."""
    if Path(source).name == "graph.bin":
        os.link(source, target)
    else:
        shutil.copy2(source, target)


def _make_images(folder: Path, seed: int = 0) -> None:
    """Twelve tiny PNG files in two classes and two splits."""
    pixels = np.random.default_rng(seed).integers(0, 255, (12, 9, 11, 3), dtype=np.uint8)
    for number in range(12):
        split, label = ("train", "val")[number % 3 == 2], ("cat", "dog")[number % 2]
        target = folder / split / label / f"{number:02d}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels[number]).save(target)


def _make_checkpoint(path: Path) -> None:
    """An interrupted fine-tuning."""
    saved = Saved([np.ones((3, 2), np.float32)], [], [], {"epochs": 1, "history": {}})
    Checkpoint(path, {"recipe": {"backbone": "efficientnet_lite0"}, "images": "12"}).save(saved)


def _make_canary(folder: Path) -> None:
    """What a user may have around: also names that look like ours, and all of it old."""
    texts = {
        "documents/letter.txt": "a letter", "documents/features.h5": "not ours",
        "documents/parts/p-0123456789abcdef.h5": "not ours either", "documents/notes.head": "",
        "documents/quarantine/features.h5": "evidence", "documents/.tmp-1-draft": "a draft",
        "documents/lock": "", "home/.bashrc": "export EDITOR=vi\n", "images/parts/1.png": "x",
        "images/cats/2.png": "x", "documents/featcache.json": "{}",
    }  # fmt: skip
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
        os.utime(folder / name, (OLD, OLD))


def look(folder: Path) -> dict[str, tuple[Any, ...]]:
    """Every name below a folder: mode, time, and what it holds."""
    found: dict[str, tuple[Any, ...]] = {}
    for path in [folder, *sorted(folder.rglob("*"))]:
        status = path.lstat()
        content = b""
        if path.is_symlink():
            content = os.fsencode(path.readlink())
        elif path.is_file():
            content = hashlib.sha256(path.read_bytes()).digest()
        found[str(path.relative_to(folder))] = (status.st_mode, status.st_mtime_ns, content)
    return found


def differences(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """The names that came, went or changed."""
    names = sorted(before.keys() | after.keys())
    return [name for name in names if before.get(name) != after.get(name)]


def fault_of(done: Done, *, as_json: bool, may_be_late: bool = False) -> str:
    """What is wrong with how a command ended, in a few words; "" where nothing is."""
    stdout, stderr = done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
    if done.late and not (may_be_late and done.code == 130):
        return f"hangs, and ends with {done.code} after SIGTERM"
    if "Traceback (most recent call last)" in stdout + stderr:
        return f"traceback: {stderr.strip().splitlines()[-1][:200]}"
    if done.code not in EXIT_CODES:
        return f"exit code {done.code}: {stderr[-200:]}"
    if found := UNPRINTABLE.search(stdout + stderr):
        return f"prints {found[0]!r}"
    if as_json and not _is_one_object(stdout):
        return f"not one JSON object, exit code {done.code}: {stdout[:200]!r}"
    return ""


def _is_one_object(text: str) -> bool:
    def refuse(name: str) -> None:
        raise ValueError(name)

    try:
        return isinstance(json.loads(text, parse_constant=refuse), dict)
    except ValueError:
        return False
