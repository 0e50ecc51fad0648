"""Outputs: what a user names with --out is never an input, features, a link or a device."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

import featcache
from featcache.cli import app

X = {"backbone": "efficientnet_lite0", "size": 32}


@pytest.fixture(scope="module")
def work(tmp_path_factory, digits):
    """Images, a manifest of them, their features and a head, made once."""
    folder = tmp_path_factory.mktemp("work")
    for label in "01":
        shutil.copytree(digits / label, folder / "images" / label)
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png"))
    manifest = "path,label\n" + "".join(f"{name},{Path(name).parent.name}\n" for name in names)
    (folder / "m.csv").write_text(manifest)
    made = featcache.extract(folder / "images", **X, cache=folder / "cache")
    featcache.fit_head(made, head="centroid", out=folder / "the.head")
    (folder / "link.csv").symlink_to("m.csv")
    os.mkfifo(folder / "pipe.csv")
    return folder


def image(folder: Path) -> str:
    return str(sorted((folder / "images" / "0").iterdir())[0])


def features(folder: Path) -> str:
    return str(next((folder / "cache").rglob("features.h5")))


#: The arguments of a command, of which one of the files is its output too.
REFUSED = [
    lambda f: ("predict", f / "the.head", f / "m.csv", "--out", f / "m.csv"),
    lambda f: ("predict", f / "the.head", f / "m.csv", "--out", f / "link.csv"),
    lambda f: ("predict", f / "the.head", f / "m.csv", "--out", f / "pipe.csv"),
    lambda f: ("classify", f / "m.csv", "--out", f / "m.csv"),
    lambda f: ("views", image(f), "--size", "32", "--out", image(f)),
    lambda f: ("views", image(f), "--size", "32", "--out", "/dev/null"),
    lambda f: ("fit-head", features(f), "--head", "centroid", "--out", features(f)),
    lambda f: ("fit-head", features(f), "--head", "centroid", "--out", image(f)),
    lambda f: ("fit-head", features(f), "--head", "centroid", "--out", "/dev/null"),
    lambda f: ("sweep", features(f), "--heads", "centroid", "--out", features(f)),
    lambda f: ("split", features(f), "--splits", f / "link.csv"),
    lambda f: ("baseline", f / "images", "--epochs", "1", "--out", image(f)),
]


@pytest.mark.parametrize("arguments", REFUSED, ids=range(len(REFUSED)))
def test_an_output_writes_over_nothing_that_is_read(work, arguments):
    """Exit code 2 and one JSON object, before any work; every file stays as it was."""
    files = [path for path in work.rglob("*") if path.is_file()]
    before = {path: (path.read_bytes(), path.lstat().st_mtime_ns) for path in files}
    done = CliRunner().invoke(app, [*map(str, arguments(work)), "--json"])
    assert done.exit_code == 2
    assert json.loads(done.stdout)["exit_code"] == 2
    assert {path: (path.read_bytes(), path.lstat().st_mtime_ns) for path in files} == before
    assert not list(work.rglob(".tmp-*"))


def test_an_output_is_written_over_an_earlier_one(work):
    """The legitimate twin: the same command twice, into a folder that a link leads to."""
    (work / "real").mkdir()
    (work / "short").symlink_to("real")
    out = work / "short" / "p.csv"
    for _ in range(2):
        arguments = ["predict", work / "the.head", work / "images", "--out", out]
        arguments += ["--cache", work / "cache"]
        assert CliRunner().invoke(app, list(map(str, arguments))).exit_code == 0
    assert (work / "real" / "p.csv").read_text().startswith("path,class_1")
