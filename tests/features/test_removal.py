"""rm and gc: they delete what they recognise, inside the cache, and nothing else."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

import featcache
from featcache.cli import app
from featcache.features.cache import FeatureCache

X = {"backbone": "efficientnet_lite0", "size": 32}


def run(*arguments: object):
    """A command in this process: its exit code, stdout and stderr."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def run_json(*arguments: object):
    done = run(*arguments, "--json")
    return json.loads(done.stdout), done.exit_code


@pytest.fixture(scope="session")
def whole_cache(tmp_path_factory, digit_features):
    """A cache with one entry and a head beside it."""
    folder = tmp_path_factory.mktemp("whole") / "cache"
    # Other tests may have put more data sets there.
    shutil.copytree(digit_features / "digits", folder / "digits")
    featcache.fit_head(featcache.load("digits", cache=folder), head="centroid")
    return folder


@pytest.fixture
def cache(tmp_path, whole_cache):
    shutil.copytree(whole_cache, tmp_path / "cache")
    return tmp_path / "cache"


@pytest.fixture
def entry(cache):
    return next((cache / "digits").glob("*-*"))


@pytest.fixture
def outside(tmp_path):
    """Folders of the user's own that a received cache leads to; compared by bytes, mode, time."""
    folder = tmp_path / "outside"
    (folder / "deep").mkdir(parents=True)
    for name in ("features.h5", "p-0123456789abcdef.h5", "left-0123456789abcdef.h5", "deep/x.h5"):
        (folder / name).write_bytes(b"featcache-h5 1\nmine")
        os.utime(folder / name, (1_000_000, 1_000_000))
    before = _state(folder)
    yield folder
    assert _state(folder) == before


def _state(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    return {
        str(path.relative_to(folder)): (
            path.lstat().st_mode,
            path.lstat().st_mtime_ns,
            b"" if path.is_dir() else path.read_bytes(),
        )
        for path in sorted(folder.rglob("*"))
    }


def below(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_rm_deletes_an_entry_and_its_empty_folders(cache):
    """Everything that featcache wrote goes, also the data set's folder with its last entry."""
    removed, code = run_json("rm", "digits", "--yes", "--cache", cache)
    assert (code, removed["left"], removed["files"]) == (0, [], 6)
    assert below(cache) == set()


def test_rm_of_one_of_two_entries_leaves_the_other(cache, digits):
    """The data set's marker stays as long as one of its entries does."""
    featcache.extract(digits, **{**X, "size": 40}, cache=cache)
    first, second = sorted((cache / "digits").glob("*-*"))
    removed, code = run_json("rm", f"digits/{first.name}", "--yes", "--cache", cache)
    assert (code, removed["left"]) == (0, [])
    assert not first.exists()
    assert featcache.load("digits", cache=cache).path == second / "features.h5"
    assert (cache / "digits" / "featcache.json").exists()


def test_rm_leaves_what_it_does_not_recognise(cache, entry):
    """Files of the user's own stay, byte for byte, and are listed: other names, our names with
    other content, links, folders.
    """
    foreign = {
        "notes.txt": b"mine",
        "mine.head": (entry / "centroid.head").read_bytes(),
        "dense.head": b"not a head",
        "parts/p-0123456789abcdef.h5": b"text under our name",
        "parts/mine.h5": b"featcache-h5 1\n",
        "quarantine/notes/x.txt": b"mine",
        "quarantine/features-2.h5": b"text under our name",
        "../list.txt": b"mine",
    }
    for name, content in foreign.items():
        (entry / name).parent.mkdir(parents=True, exist_ok=True)
        (entry / name).write_bytes(content)
    (entry / "quarantine" / "features-3.h5").write_bytes(b"")
    (entry / "link").symlink_to(entry / "notes.txt")
    removed, code = run_json("rm", "digits", "--yes", "--cache", cache)
    assert code == 0
    for name, content in foreign.items():
        assert (entry / name).read_bytes() == content
    kept = {str((entry / name).resolve()) for name in foreign if name != "../list.txt"}
    assert {os.path.realpath(path) for path in removed["left"]} == kept
    assert str(entry / "link") in removed["left"]
    assert not (entry / "features.h5").exists()
    assert not (entry / "centroid.head").exists()
    assert not (entry / "quarantine" / "features-3.h5").exists()


def test_rm_deletes_a_damaged_entry(cache, entry):
    """A file of ours is recognised by its beginning, or by its HDF5, or by being empty."""
    packed = entry / "features.h5"
    content = packed.read_bytes()
    packed.unlink()
    packed.write_bytes(bytes(4096) + content[4096:])
    (entry / "parts" / "p-0123456789abcdef.h5").write_bytes(content[:100])
    (entry / "parts" / "p-0123456789abcde0.h5").write_bytes(b"")
    removed, code = run_json("rm", "digits", "--yes", "--cache", cache)
    assert (code, removed["left"]) == (0, [])
    assert below(cache) == set()


def test_rm_of_a_class_called_parts_leaves_the_images(tmp_path, digits):
    """A folder of images with a class `parts` is no entry: its features go, its images stay."""
    images = tmp_path / "car"
    shutil.copytree(digits / "0", images / "parts")
    shutil.copytree(digits / "1", images / "features")
    before = _state(images)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        featcache.extract("car", **X)
        run("rm", "car", "--yes")
    assert _state(images) == before


@pytest.mark.parametrize("level", ["data set", "entry"])
def test_rm_deletes_nothing_through_a_link(cache, entry, tmp_path, level):
    """A data set or an entry that is a link can be read; deleting it names --cache, exit code 2."""
    real = tmp_path / "big"
    linked = cache / "digits" if level == "data set" else entry
    linked.rename(real)
    linked.symlink_to(real)
    before = _state(real)
    assert featcache.load("digits", cache=cache).vectors.shape[0] == 300
    done, code = run_json("rm", "digits", "--yes", "--cache", cache)
    assert code == 2
    assert "--cache" in done["error"]
    assert run("gc", "--yes", "--cache", cache).exit_code == 0
    assert _state(real) == before


def test_extract_writes_nothing_through_a_link(cache, digits, tmp_path):
    """`cache/digits` as a link is read; what would be written there is refused before any work."""
    real = tmp_path / "big"
    (cache / "digits").rename(real)
    (cache / "digits").symlink_to(real)
    before = _state(real)
    with pytest.raises(featcache.FeatcacheError, match="--cache") as caught:
        featcache.extract(digits, **{**X, "size": 40}, cache=cache)
    assert caught.value.exit_code == 2
    with pytest.raises(featcache.FeatcacheError, match="--cache"):
        featcache.fit_head(featcache.load("digits", cache=cache), head="centroid")
    assert _state(real) == before


def test_the_cache_itself_may_be_a_link(cache, digits, tmp_path):
    """The folder that is named by --cache is followed, wherever it leads."""
    (tmp_path / "short").symlink_to(cache)
    again = featcache.extract(digits, **X, cache=tmp_path / "short")
    assert again.run.extracted == 0
    assert run_json("rm", "digits", "--yes", "--cache", tmp_path / "short")[1] == 0
    assert below(cache) == set()


def test_gc_follows_no_link_of_a_received_cache(cache, entry, outside):
    """Links at parts, quarantine and the files in them lead to nothing that is deleted."""
    shutil.rmtree(entry / "parts")
    (entry / "parts").symlink_to(outside)
    (entry / "quarantine").symlink_to(outside)
    (entry / "lock").unlink()
    (entry / "lock").symlink_to(outside / "features.h5")
    found, code = run_json("gc", "--yes", "--cache", cache)
    assert (code, found["files"]) == (0, 0)
    assert {str(entry / "parts"), str(entry / "quarantine")} <= set(found["left"])


def test_gc_takes_the_link_and_not_what_it_leads_to(cache, entry, outside):
    """A link in the quarantine under a name of ours goes by itself; a pipe there stays."""
    (entry / "quarantine").mkdir()
    (entry / "quarantine" / "features.h5").symlink_to(outside / "features.h5")
    os.mkfifo(entry / "quarantine" / "features-2.h5")
    found, code = run_json("gc", "--cache", cache)
    assert (code, found["files"]) == (0, 1)
    assert found["left"] == [str(entry / "quarantine" / "features-2.h5")]


def test_gc_keeps_rows_that_are_nowhere_else(tmp_path, digits):
    """Without a terminal or --yes the last copy of a row stays and is counted; copies go."""
    images, cache = tmp_path / "images", tmp_path / "cache"
    shutil.copytree(digits / "0", images / "0")
    shutil.copytree(digits / "1", images / "1")
    count = len(list((images / "0").iterdir()))
    featcache.extract(images, **X, cache=cache)
    shutil.move(images / "0", tmp_path / "elsewhere")
    featcache.extract(images, **X, cache=cache)
    found, code = run_json("gc", "--cache", cache)
    assert (code, found["files"], found["kept_rows"]) == (0, 0, count)
    done = run("gc", "--cache", cache)
    assert f"{count} rows kept" in done.stdout
    # The same rows in another data set: now they are copies.
    back = featcache.extract(tmp_path / "elsewhere", **X, cache=cache)
    assert back.run.extracted == 0
    found, code = run_json("gc", "images", "--cache", cache)
    assert (code, found["files"], found["kept_rows"]) == (0, 1, 0)
    # And with --yes they go even as the last ones.
    shutil.rmtree(tmp_path / "elsewhere")
    shutil.copytree(digits / "2", tmp_path / "elsewhere")
    featcache.extract(tmp_path / "elsewhere", **X, cache=cache)
    found, code = run_json("gc", "--yes", "--cache", cache)
    assert (code, found["files"], found["kept_rows"]) == (0, 1, 0)


def test_gc_writes_nothing_where_there_is_nothing_to_do(cache, entry):
    """A look at a cache leaves it as it was, to the time of its folders."""
    (entry / "lock").unlink()
    (entry / "parts").rmdir()
    before = _state(cache)
    assert run("gc", "--cache", cache).exit_code == 0
    assert _state(cache) == before


def test_gc_deletes_quarantine_and_stale_drafts(cache, entry):
    """What `repair` put aside and what dead writers left goes, files of other names stay."""
    shutil.copy(entry / "features.h5", entry / "quarantine-features.h5")
    (entry / "quarantine").mkdir()
    for name in ("features.h5", "features-2.h5", "p-0123456789abcdef-3.h5"):
        shutil.copy(entry / "features.h5", entry / "quarantine" / name)
    (entry / "quarantine" / "keep.h5").write_bytes(b"featcache-h5 ")
    draft = entry / "parts" / ".tmp-somehost-12345-0123456789abcdef0123456789abcdef"
    draft.write_bytes(b"featcache-h5 ")
    past = time.time() - 25 * 3600
    os.utime(draft, (past, past))
    found, code = run_json("gc", "--cache", cache)
    assert (code, found["files"]) == (0, 4)
    assert found["left"] == [str(entry / "quarantine" / "keep.h5")]
    assert (entry / "quarantine-features.h5").exists()


def test_rm_beside_an_extraction_costs_no_row_silently(tmp_path, digits):
    """An extraction whose entry is removed meanwhile ends well or with exit code 5, and the same
    command then finishes.
    """
    images, cache = tmp_path / "images", tmp_path / "cache"
    shutil.copytree(digits / "0", images / "0")
    opened = FeatureCache.open(cache)

    def delete(progress):
        if opened.entries():
            opened.remove("images")

    featcache.extract(images, **X, cache=cache)
    shutil.copytree(digits / "1", images / "1")
    with pytest.raises(featcache.FeatcacheError) as caught:
        featcache.extract(images, **X, cache=cache, progress=delete)
    assert caught.value.exit_code == 5
    made = featcache.extract(images, **X, cache=cache)
    assert len(made) == sum(1 for path in images.rglob("*.png"))
    assert json.loads((cache / "images" / "featcache.json").read_text())["root"] == str(images)


def test_no_tag_tells_backups_to_leave_a_cache_out(cache):
    """A feature cache holds users' heads: it has no CACHEDIR.TAG."""
    assert not any(path.name == "CACHEDIR.TAG" for path in cache.rglob("*"))
