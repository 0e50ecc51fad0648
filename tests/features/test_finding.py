"""Which features a name or a path means, and what `rm` takes for an order to delete."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

import featcache
from featcache.cli import app
from featcache.errors import DamagedFile, FeatcacheError
from featcache.features.cache import FeatureCache
from featcache.features.finding import Entry


def run(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def run_json(*arguments: object):
    done = run(*arguments, "--json")
    return json.loads(done.stdout), done.exit_code


@pytest.fixture
def cache(digit_features: Path, tmp_path: Path) -> Path:
    """A cache with the data sets `digits` and `digits2`."""
    folder = tmp_path / "cache"
    for name in ("digits", "digits2"):
        shutil.copytree(digit_features / "digits", folder / name)
    return folder


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, and its bytes."""
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_name_in_the_cache_comes_before_a_folder_of_images(cache, tmp_path, monkeypatch):
    """A folder of images named as the features are, with a class called parts, is in no way."""
    images = tmp_path / "digits" / "parts"
    images.mkdir(parents=True)
    (images / "a.png").write_bytes(b"an image")
    monkeypatch.chdir(tmp_path)
    assert run("info", "digits").exit_code == 0
    assert run("fit-head", "digits", "--C", "0.01").exit_code == 0
    assert run("rm", "digits", "--yes").exit_code == 0
    assert (images / "a.png").read_bytes() == b"an image"
    assert [entry.data_set for entry in FeatureCache.open(cache).entries()] == ["digits2"]


def test_a_path_counts_only_where_a_file_of_ours_lies(cache, tmp_path, monkeypatch):
    """./x, /x and x.h5 are paths only; x is one where no name is exactly so; others are told."""
    monkeypatch.chdir(tmp_path)
    (entry,) = (each for each in FeatureCache.open().entries() if each.data_set == "digits")
    shutil.copy(entry.packed, "copy")
    shutil.copy(entry.packed, "copy.h5")
    Path("foreign/parts").mkdir(parents=True)
    Path("foreign/features.h5").write_bytes(b"somebody else's")
    Path("dig").mkdir()
    found = FeatureCache.open()
    for text in (f"cache/{entry.name}", f"./cache/{entry.name}", entry.packed, "copy", "copy.h5"):
        assert len(found.load(text)) == 300
    assert found.find(f"cache/{entry.name}/features.h5") == Entry(entry.directory.absolute())
    for text in ("./digits", "/digits", "foreign", "./foreign", "foreign/features.h5", "x.h5", ""):
        with pytest.raises(FeatcacheError):
            found.load(text)
    with pytest.raises(FeatcacheError, match="could be any"):
        found.load("dig")
    with pytest.raises(FeatcacheError, match="without features"):
        found.load("foreign")


def test_deleting_takes_the_whole_name(cache, tmp_path, monkeypatch):
    """Beginnings, paths, nothing, the root, foreign folders and files: refused, nothing changes."""
    monkeypatch.chdir(tmp_path)
    thesis = tmp_path / "thesis"
    (thesis / "parts").mkdir(parents=True)
    (thesis / "a.txt").write_text("years of work")
    (thesis / "features.h5").write_text("mine")
    (cache / "digits" / "mine" / "parts").mkdir(parents=True)
    before = tree(tmp_path)
    names = [entry.name for entry in FeatureCache.open(cache).entries()]
    for text in ("", "/", "digit", "digits2/", "digits/eff", "digits/efficientnet_lite0",
                 "thesis", "thesis/a.txt", "thesis/features.h5", "digits/mine", "cache", ".",
                 f"cache/{names[0]}", f"{cache}/{names[0]}/features.h5",
                 names[0][:-1]):  # fmt: skip
        told, code = run_json("rm", text, "--yes")
        assert (code, "error" in told) == (2, True), text
    assert tree(tmp_path) == before
    assert run("rm", names[0], "--yes").exit_code == 0
    for _ in range(2):  # the second time nothing is called so
        told, code = run_json("rm", "digits", "--yes")
        assert (code, told["exit_code"]) == (2, 2)
    assert [entry.name for entry in FeatureCache.open(cache).entries()] == names[1:]


def test_deleting_a_data_set_of_several_entries_names_them(cache):
    """`rm` of a data set with two entries lists both and deletes neither."""
    first = next(iter(FeatureCache.open(cache).entries()))
    shutil.copytree(first.directory, first.directory.with_name("other-12345678"))
    done = run("rm", "digits", "--yes", "--cache", cache)
    assert done.exit_code == 2
    assert "other-12345678" in done.stderr
    assert len(FeatureCache.open(cache).entries()) == 3


def test_deleting_asks_and_without_an_answer_does_nothing(cache, monkeypatch):
    """`rm` without --yes and without anybody to answer: a sentence and its JSON, exit code 2."""
    told, code = run_json("rm", "digits", "--cache", cache)
    assert code == 2
    assert "--yes" in told["error"]
    assert len(FeatureCache.open(cache).entries()) == 2


def test_a_damaged_file_is_still_found_by_its_path(cache):
    """A path to a file whose header was damaged says so, instead of that there is none."""
    entry = FeatureCache.open(cache).find("digits")
    entry.packed.chmod(0o644)
    with entry.packed.open("r+b") as file:
        file.seek(100)
        file.write(b"\0\0")
    for text in (entry.packed, entry.directory):
        with pytest.raises(DamagedFile):
            featcache.load(text, cache=cache)


def test_names_that_cannot_be_paths_are_only_unknown(cache, monkeypatch):
    """Too long a name, a loop of links, a pipe: a sentence and exit code 2, at once."""
    monkeypatch.chdir(cache)
    Path("loop").symlink_to("loop")
    os.mkfifo("pipe")
    os.mkfifo("pipe.h5")
    for text in ("x" * 300, "x" * 5000 + "/y", "loop", "pipe", "./pipe", "pipe.h5", "\udcff"):
        for command in ("info", "verify", "repair", "fit-head"):
            done = run(command, text, "--cache", cache)
            assert (done.exit_code, done.exception.__class__) == (2, SystemExit), (command, text)
