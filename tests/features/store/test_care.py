"""Care: verify names what is wrong, repair keeps what is right, gc deletes what is not needed."""

from __future__ import annotations

import os
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from crafting import overwrite
from store_samples import STAMP, block, failure, identity, keys, packed, store, vectors, views

from featcache.features.store.clearing import collect
from featcache.files.folders import create, draft_name, opened_folder


def _flip(path: Path, offset: int) -> None:
    content = bytearray(path.read_bytes())
    content[offset] ^= 1
    overwrite(path, bytes(content))


def _present(folder: Path, images: range) -> list[int]:
    snapshot = store(folder).snapshot()
    found = snapshot.find(keys(images), views(images)) >= 0
    return [image for image, is_there in zip(images, found, strict=True) if is_there]


def test_a_healthy_place_has_no_problem(tmp_path):
    """What was just written verifies, parts and packed file alike, in every shape."""
    for shape, dtype in (((5,), "float32"), ((2, 3, 4), "float16")):
        folder = tmp_path / dtype
        packed(folder, range(4), shape=shape, dtype=dtype)
        store(folder).commit(block([9], failed=[3], shape=shape, dtype=dtype), STAMP)
        assert store(folder).verify() == []
    assert store(tmp_path / "nothing").verify() == []


def test_verify_names_the_rows(tmp_path):
    """Flipped bits in two rows: verify names the file and these rows."""
    path = packed(tmp_path)
    _flip(path, -1)
    _flip(path, -4 * 20)
    (problem,) = store(tmp_path).verify()
    assert (problem.path, problem.rows) == (path, [2, 5])
    assert "2 of 6 rows" in problem.reason


def test_repair_keeps_the_good_rows(tmp_path):
    """Good rows of a bad file are kept, the file is put aside, the rest can be computed again."""
    path = packed(tmp_path)
    right = path.read_bytes()
    _flip(path, -1)
    made = store(tmp_path)
    result = made.repair()
    assert (result.kept, result.lost) == (5, 1)
    assert result.moved == [path.parent / "quarantine" / "features.h5"]
    assert made.verify() == []
    assert _present(tmp_path, range(6)) == [0, 1, 2, 3, 4]
    made.commit(block([5]), STAMP)
    made.pack(identity(range(6)), STAMP)
    assert path.read_bytes() == right


def test_repair_of_nothing_does_nothing(tmp_path):
    """A healthy place is left as it is."""
    path = packed(tmp_path)
    before = path.stat().st_ino
    result = store(tmp_path).repair()
    assert (result.moved, result.kept, result.lost) == ([], 0, 0)
    assert path.stat().st_ino == before


def test_repair_saves_the_rows_before_the_end_of_a_cut_file(tmp_path):
    """A file cut short in its rows gives the whole rows before the cut."""
    made = store(tmp_path)
    part = made.commit(block(range(4), failed=[8]), STAMP)
    part.chmod(0o644)
    os.truncate(part, part.stat().st_size - 25)
    result = made.repair()
    assert (result.kept, result.lost) == (2, 2)
    assert _present(tmp_path, range(4)) == [0, 1]
    assert made.snapshot().failures == [failure(8)]


def test_repair_puts_aside_what_it_cannot_read(tmp_path):
    """A file whose layout is lost gives no row; twice gives two names."""
    made = store(tmp_path)
    for _ in range(2):
        part = made.commit(block([1, 2]), STAMP)
        overwrite(part, bytes(512) + part.read_bytes()[512:])
        assert made.repair().kept == 0
    names = sorted(each.name for each in (part.parent.parent / "quarantine").iterdir())
    assert names == [f"{part.stem}-2.h5", part.name]
    assert len(made.snapshot()) == 0


def test_gc_frees_what_nobody_needs(tmp_path):
    """gc deletes leftovers and the quarantine, tells the bytes, and keeps everything else."""
    made = store(tmp_path)
    made.commit(block(range(5)), STAMP)
    made.pack(identity([1, 2]), STAMP)
    damaged = made.commit(block([7]), STAMP)
    _flip(damaged, -1)
    made.repair()
    fresh = made.commit(block([8]), STAMP)
    folder = made.packed_path.parent
    doomed = [*(folder / "quarantine").iterdir(), *(folder / "parts").glob("left-*")]
    size = sum(each.stat().st_size for each in doomed)
    result = collect(made.packed_path.parent)
    assert (result.files, result.bytes) == (2, size)
    assert _present(tmp_path, range(9)) == [1, 2, 8]
    assert fresh.exists()
    assert collect(made.packed_path.parent).files == 0


def test_gc_keeps_the_work_of_an_unfinished_run(tmp_path):
    """Finished rows that are not packed yet are work, not garbage."""
    made = store(tmp_path)
    made.commit(block([1, 2]), STAMP)
    assert collect(made.packed_path.parent).files == 0
    packed(tmp_path, [3])
    made.commit(block([4]), STAMP)
    collect(made.packed_path.parent)
    assert _present(tmp_path, range(5)) == [3, 4]


def test_gc_of_nowhere_makes_no_folder(tmp_path):
    """A place that does not exist is not made."""
    assert collect(store(tmp_path).packed_path.parent).files == 0
    assert list(tmp_path.iterdir()) == []


def test_gc_sweeps_only_stale_drafts(tmp_path):
    """A draft goes when its writer is dead, one of an earlier version after a day; others stay."""
    made = store(tmp_path)
    made.commit(block([1]), STAMP)
    parts = made.packed_path.parent / "parts"
    living, dead = (draft_name("p-1.h5") for _ in range(2))
    young, old, theirs = ".tmp-host-1-0a", ".tmp-host-1-0b", ".tmp-thesis"
    with opened_folder(parts) as folder:
        descriptor = create(folder, living)
    yesterday = time.time() - 25 * 3600
    for name in (dead, young, old, theirs):
        (parts / name).write_bytes(b"x")
    for name in (old, theirs, living):
        os.utime(parts / name, (yesterday, yesterday))
    assert collect(made.packed_path.parent).files == 2
    assert {living, young, theirs} <= {each.name for each in parts.iterdir()}
    assert {dead, old}.isdisjoint(each.name for each in parts.iterdir())
    os.close(descriptor)
    assert collect(made.packed_path.parent).files == 1


def test_a_good_file_that_comes_while_repair_looks_is_not_put_aside(tmp_path, monkeypatch):
    """Somebody commits the same rows anew just before repair moves the damaged file: they stay."""
    made = store(tmp_path)
    part = made.commit(block([1, 2]), STAMP)
    _flip(part, 5000)
    from featcache.features.store import care

    salvage = care._salvage

    def salvage_slowly(place, path):
        result = salvage(place, path)
        store(tmp_path).commit(block([1, 2]), STAMP)
        return result

    monkeypatch.setattr(care, "_salvage", salvage_slowly)
    assert made.repair().moved == []
    assert _present(tmp_path, range(3)) == [1, 2]


def test_rows_of_hdf5_are_seen_by_verify(tmp_path):
    """The checks of verify and plain h5py agree on a healthy file, for every array."""
    path = packed(tmp_path)
    with h5py.File(path) as file:
        np.testing.assert_array_equal(file["features"][:], vectors(range(6)))
    assert store(tmp_path).verify() == []


@pytest.mark.parametrize("count", [0, 1, 3])
def test_many_parts_verify_one_by_one(tmp_path, count):
    """Only the damaged ones of several parts are named."""
    made = store(tmp_path)
    parts = [made.commit(block([image]), STAMP) for image in range(4)]
    for part in parts[:count]:
        _flip(part, -1)
    assert sorted(problem.path for problem in made.verify()) == sorted(parts[:count])
