"""Recovery: a flipped byte costs one row at most, and repair ends where verify accepts."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from crafting import header_of
from store_samples import STAMP, block, keys, packed, store, vectors, views

from featcache.features.store.recipe_store import RecipeStore
from featcache.features.store.records import Block

IMAGES = range(6)


def repaired(folder: Path, content: bytes, place: int, bit: int) -> RecipeStore:
    """A place with nothing but a `features.h5` of which one bit was flipped, after `repair`."""
    shutil.rmtree(folder, ignore_errors=True)
    made = store(folder)
    made.packed_path.parent.mkdir(parents=True)
    wrong = bytearray(content)
    wrong[place] ^= 1 << bit
    made.packed_path.write_bytes(wrong)
    assert made.verify() != []
    made.repair()
    assert made.verify() == []
    return made


def kept(made: RecipeStore) -> list[int]:
    """The images whose rows are there; each must be the right one."""
    snapshot = made.snapshot()
    found = snapshot.find(keys(IMAGES), views(IMAGES))
    there = np.flatnonzero(found >= 0)
    np.testing.assert_array_equal(snapshot.read(found[there]), vectors(there.tolist()))
    assert set(snapshot.keys_and_views()[1].tolist()) <= {0}
    return there.tolist()


def places(content: bytes) -> dict[str, Iterable[int]]:
    """Where a file's header, small arrays, HDF5 structures and rows lie."""
    arrays = header_of(content)["arrays"]
    size = {name: int(np.dtype(each["dtype"]).itemsize) * int(np.prod(each["shape"]))
            for name, each in arrays.items()}  # fmt: skip
    spans = {name: range(each["offset"], each["offset"] + size[name])
             for name, each in arrays.items()}  # fmt: skip
    rows = spans.pop("features")
    small = sorted({place for span in spans.values() for place in span})
    between = sorted(set(range(4096, rows[0])) - set(small))
    return {"header": range(len(content[:4096].rstrip(b"\0"))), "padding": range(4000, 4096),
            "small": small, "structures": between, "rows": rows, **spans}  # fmt: skip


def sample(spots: Iterable[int], count: int) -> list[tuple[int, int]]:
    random = np.random.default_rng(3)
    spots = list(spots)
    return [(int(random.choice(spots)), int(random.integers(8))) for _ in range(count)]


@pytest.fixture(scope="module")
def content(tmp_path_factory) -> bytes:
    """A `features.h5` of six rows."""
    return packed(tmp_path_factory.mktemp("whole"), IMAGES).read_bytes()


@pytest.mark.parametrize("region", ["header", "padding", "structures", "recipe", "row_crc32"])
def test_what_its_digest_tells_again_costs_no_row(region, content, tmp_path):
    """A bit of the header, of HDF5's structures, the recipe or a checksum: all six rows stay."""
    for place, bit in sample(places(content)[region], 3):
        assert kept(repaired(tmp_path / "x", content, place, bit)) == list(IMAGES), (place, bit)


@pytest.mark.parametrize("region", ["key", "view", "path", "source_size", "label", "failed_path"])
def test_a_bit_of_a_small_array_costs_its_row_at_most(region, content, tmp_path):
    """Where it is unknown which bit it was, rows that hold together stay, and none is wrong."""
    spots = places(content)[region] or [0]
    for place, bit in sample(spots, 3):
        made = repaired(tmp_path / "x", content, place, bit)
        assert len(kept(made)) >= len(IMAGES) - 1, (place, bit)


def test_a_bit_of_a_row_costs_that_row(content, tmp_path):
    """A flipped bit in a vector: the other five stay."""
    spots = places(content)["rows"]
    for place, bit in sample(spots, 3):
        row = (place - spots[0]) // vectors([0]).nbytes
        made = repaired(tmp_path / "x", content, place, bit)
        assert kept(made) == [image for image in IMAGES if image != row]


@pytest.mark.slow
def test_any_byte_may_be_flipped(content, tmp_path):
    """Every seventh byte: repair ends where verify accepts, no wrong row comes back, five stay."""
    spots = places(content)
    few = [*spots["provenance"], *spots["probe"]]
    for place in [*spots["header"], *range(4096, len(content))][::7]:
        made = repaired(tmp_path / "x", content, place, place % 8)
        assert len(kept(made)) >= len(IMAGES) - 1 or place in few, place


def test_a_long_recipe_is_not_guessed(tmp_path):
    """A byte of a recipe of 50 kB is not looked for: that would take hours."""
    made = RecipeStore(tmp_path / "cache" / "photos" / "long", json.dumps({"layer": "x" * 50_000}))
    part = made.commit(block(IMAGES), STAMP)
    part.chmod(0o644)
    part.write_bytes(part.read_bytes().replace(b"x" * 1000, b"y" + b"x" * 999, 1))
    began = time.process_time()
    result = made.repair()
    assert time.process_time() - began < 10
    assert (result.kept, made.verify()) == (0, [])


def test_a_damaged_view_never_answers(tmp_path):
    """Three views of each image, one number changed: that image's rows go, no other's."""
    made = store(tmp_path)
    plain = block([1, 1, 1, 2, 2, 2])
    numbers = np.array([0, 1, 2, 0, 1, 2], np.int32)
    rows = np.arange(30, dtype=np.float32).reshape(6, 5)
    part = made.commit(Block(rows, plain.keys, numbers, plain.paths, plain.source_sizes, []), STAMP)
    content = part.read_bytes()
    part.unlink()
    first = places(content)["view"][0]
    for row, number in ((1, 2), (2, 1), (2, 3), (0, 1), (4, 0)):
        wrong = bytearray(content)
        wrong[first + 4 * row] = number
        part.write_bytes(wrong)
        made.repair()
        assert made.verify() == []
        snapshot = made.snapshot()
        image = 2 if row < 3 else 1
        found = snapshot.find(keys([image] * 3), np.arange(3))
        assert len(snapshot) == 3, (row, number)
        np.testing.assert_array_equal(snapshot.read(found), rows[3 * (image - 1) :][:3])
        for path in part.parent.iterdir():
            path.unlink()


def test_files_that_disagree_end_in_one_answer(tmp_path):
    """Two files with other rows for an image: repair keeps the one that answered, and the rest."""
    made = store(tmp_path)
    packed(tmp_path, [1, 2])
    other = block([2, 3])
    changed = Block(other.vectors + 1, other.keys, other.views, other.paths, other.source_sizes, [])
    part = made.commit(changed, STAMP)
    assert [problem.path for problem in made.verify()] == [part]
    result = made.repair()
    assert (result.kept, result.lost) == (1, 1)
    assert made.verify() == []
    snapshot = made.snapshot()
    np.testing.assert_array_equal(snapshot.read(snapshot.find(keys([2]), views([2]))), vectors([2]))
    assert len(snapshot) == 3
