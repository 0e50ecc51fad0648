"""What users rightly do with links goes on working, whatever strangers do with theirs."""

from __future__ import annotations

import json

import pytest
from hostile_world import LITE, World, differences, look


def _object(world: World, *argv: str) -> tuple[int, dict]:
    done = world.run(*argv, "--json")
    return done.code, json.loads(done.stdout)


@pytest.fixture
def tree(world):
    world.renew()
    return world


def _moved(tree: World, name: str) -> None:
    """A folder of `work` lives elsewhere now, and a link is where it was."""
    big = tree.root / "big" / name
    big.parent.mkdir(parents=True)
    path = tree.root / "work" / name
    path.rename(big)
    path.symlink_to(big)


READING = [("ls",), ("info", "photos"), ("verify", "photos"), ("evaluate", "photos.head", "photos")]


@pytest.mark.parametrize("verb", READING, ids=lambda verb: verb[0])
def test_a_linked_data_set_is_read(tree, verb):
    """cache/photos -> /big/photos: every reading command gives what it gave before."""
    before = _object(tree, *verb)
    _moved(tree, "cache/photos")
    after = _object(tree, *verb)
    assert before[0] == 0
    assert _without_places(after) == _without_places(before)


def _without_places(answer: tuple[int, dict]) -> tuple[int, dict]:
    """Size on disk may differ behind a link."""
    code, record = answer
    for row in record.get("features", []) if isinstance(record.get("features"), list) else []:
        row.pop("bytes")
    return code, record


@pytest.mark.parametrize(
    "verb",
    [("rm", "photos", "--yes"), ("fit-head", "photos", "--C", "1")],
    ids=lambda verb: verb[0],
)
def test_a_write_through_a_linked_data_set_is_refused(tree, verb):
    """cache/photos -> /big/photos: what would write there exits 2 and names --cache."""
    _moved(tree, "cache/photos")
    before = look(tree.root / "big")
    code, record = _object(tree, *verb)
    assert (code, "--cache" in record["error"]) == (2, True)
    assert differences(before, look(tree.root / "big")) == []


def test_links_to_files_are_read(tree):
    """Features, heads and images that are links to regular files (DVC, annex) are read."""
    (features,) = (tree.root / "work" / "cache" / "photos").glob("*/features.h5")
    image = tree.root / "work" / "photos" / "train" / "cat" / "00.png"
    for number, path in enumerate((features, tree.root / "work" / "photos.head", image)):
        blob = tree.root / "work" / "photos" / f".blob-{number}"
        path.rename(blob)
        path.symlink_to(blob)
    for verb in [*READING, ("predict", "photos.head", "photos")]:
        assert _object(tree, *verb)[0] == 0


WRITING = [("extract", "photos/train", *LITE), ("gc",), ("rm", "other", "--yes")]


@pytest.mark.parametrize("verb", WRITING, ids=lambda verb: verb[0])
def test_the_cache_itself_may_be_a_link(tree, verb):
    """--cache names a link: it is followed, and everything works as in the folder."""
    _moved(tree, "cache")
    assert _object(tree, *verb)[0] == 0


def test_outputs_may_go_through_a_linked_folder(tree):
    """--out below a linked folder is written there; a link at --out itself is refused."""
    (tree.root / "work" / "results").mkdir()
    _moved(tree, "results")
    assert _object(tree, "predict", "photos.head", "photos", "--out", "results/p.csv")[0] == 0
    assert (tree.root / "big" / "results" / "p.csv").is_file()
    code, record = _object(tree, "predict", "photos.head", "photos", "--out", "out-link.csv")
    assert code == 2, record
    assert differences(tree.untouched, look(tree.root / "canary")) == []
