"""Commit, snapshot and pack: rows come back as they went in, and the packed bytes are one."""

from __future__ import annotations

import tempfile
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store_samples import (
    OTHER_RECIPE,
    STAMP,
    block,
    failure,
    identity,
    keys,
    packed,
    sizes,
    store,
    vectors,
    views,
)

from featcache.errors import FeatcacheError
from featcache.features.store import stored_file
from featcache.features.store.disk import Disk
from featcache.features.store.recipe_store import RecipeStore
from featcache.features.store.records import Stamp


def test_rows_are_found_and_read(tmp_path):
    """Committed rows are found by key and view, and read back bit for bit, in any order."""
    made = store(tmp_path)
    made.commit(block([1, 2, 3]), STAMP)
    made.commit(block([4, 5], failed=[8]), STAMP)
    snapshot = made.snapshot()
    wanted = [5, 77, 1, 4, 1]
    positions = snapshot.find(keys(wanted), views(wanted))
    assert (positions < 0).tolist() == [False, True, False, False, False]
    present = [5, 1, 4, 1]
    np.testing.assert_array_equal(snapshot.read(positions[positions >= 0]), vectors(present))
    np.testing.assert_array_equal(snapshot.source_sizes(positions[positions >= 0]), sizes(present))
    assert len(snapshot) == 5
    assert snapshot.failures == [failure(8)]
    assert snapshot.provenances == [STAMP.provenance]
    assert (snapshot.row_shape, snapshot.dtype) == ((5,), np.float32)
    np.testing.assert_array_equal(snapshot.probe, STAMP.probe)
    assert snapshot.packed is None


def test_views_are_rows_of_their_own(tmp_path):
    """The key alone does not answer: another view of the same image is another row."""
    made = store(tmp_path)
    rows = replace(block([1, 2]), keys=keys([1, 1]), views=np.array([0, 300], np.int32))
    made.commit(rows, STAMP)
    found = made.snapshot().find(keys([1, 1, 1]), np.array([300, 0, 1]))
    np.testing.assert_array_equal(made.snapshot().read(found[:2]), vectors([2, 1]))
    assert found[2] == -1


def test_an_empty_place_is_a_snapshot_of_nothing(tmp_path):
    """Looking makes no folder, finds nothing, and reading nothing says what to do."""
    snapshot = store(tmp_path).snapshot()
    assert (len(snapshot), snapshot.probe, snapshot.row_shape) == (0, None, None)
    assert snapshot.find(keys([1]), views([1])).tolist() == [-1]
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(FeatcacheError, match="featcache extract"):
        snapshot.read(np.array([], np.int64))


def test_a_missing_position_cannot_be_read(tmp_path):
    """-1 never wraps around to the last row."""
    made = store(tmp_path)
    made.commit(block([1]), STAMP)
    with pytest.raises(FeatcacheError, match="missing row"):
        made.snapshot().read(np.array([-1]))


def test_pack_orders_and_drops_parts(tmp_path):
    """Packed rows are in the order asked for, and nothing else is left of the run."""
    made = store(tmp_path)
    for images in ([1, 2], [3], [4, 5]):
        made.commit(block(images), STAMP)
    found = made.pack(identity([5, 1, 3, 2, 4]), STAMP)
    np.testing.assert_array_equal(found.vectors, vectors([5, 1, 3, 2, 4]))
    folder = made.packed_path.parent
    assert sorted(each.name for each in folder.iterdir()) == ["features.h5", "lock", "parts"]
    assert list((folder / "parts").iterdir()) == []


def test_a_second_name_of_one_image_is_a_second_row(tmp_path):
    """Two paths with the same bytes are two rows of the packed file, from one computed row."""
    made = store(tmp_path)
    made.commit(block([1]), STAMP)
    names = replace(identity([1, 2]), keys=keys([1, 1]))
    np.testing.assert_array_equal(made.pack(names, STAMP).vectors, vectors([1, 1]))
    assert len(made.snapshot()) == 1


def test_rows_nobody_asked_for_wait_in_one_part(tmp_path):
    """Rows whose image left stay findable in one part, come back at no cost, or go with `gc`."""
    made = store(tmp_path)
    for images in ([1, 2], [3, 4], [5]):
        made.commit(block(images), STAMP)
    made.pack(identity([2, 3]), STAMP)
    parts = made.packed_path.parent / "parts"
    assert len(list(parts.iterdir())) == 1
    assert len(made.snapshot()) == 5
    np.testing.assert_array_equal(made.pack(identity([1, 2]), STAMP).vectors, vectors([1, 2]))
    assert len(list(parts.iterdir())) == 1
    assert len(made.snapshot()) == 5
    made.pack(identity([1, 2, 3, 4, 5]), STAMP)
    assert list(parts.iterdir()) == []


def test_pack_names_what_is_missing(tmp_path):
    """A pack that lacks rows says how many and which, and changes nothing."""
    made = store(tmp_path)
    made.commit(block([1]), STAMP)
    with pytest.raises(FeatcacheError, match=r"2 of 3 rows .*0008"):
        made.pack(identity([1, 8, 9]), STAMP)
    assert not made.packed_path.exists()


def test_a_pack_with_nothing_new_writes_nothing(tmp_path):
    """When `features.h5` is right already, it is not touched."""
    path = packed(tmp_path)
    before = path.stat()
    store(tmp_path).pack(identity(range(6)), STAMP)
    after = path.stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_new_labels_need_no_rows(tmp_path):
    """Other labels for the same images rewrite the file from its own rows."""
    packed(tmp_path)
    names = replace(identity(range(6)), labels=np.full(6, -1, np.int32))
    assert store(tmp_path).pack(names, STAMP).labels.tolist() == [-1] * 6
    assert len(store(tmp_path).snapshot()) == 6


def _divisions(count: int) -> st.SearchStrategy[list[list[int]]]:
    """Any order of the images, cut anywhere, some of them twice."""

    def cut(order: list[int], cuts: set[int], again: list[int]) -> list[list[int]]:
        pieces = [piece.tolist() for piece in np.split(np.array(order), sorted(cuts))]
        return [piece for piece in [*pieces, again] if piece]

    images = list(range(count))
    return st.builds(
        cut,
        st.permutations(images),
        st.sets(st.integers(1, count - 1)),
        st.lists(st.sampled_from(images), max_size=2, unique=True),
    )


@settings(max_examples=8, deadline=None)
@given(division=_divisions(7), pack_early=st.booleans())
def test_packed_bytes_do_not_depend_on_the_way(division, pack_early):
    """However rows were divided, ordered, repeated and packed between, the bytes are the same."""
    with tempfile.TemporaryDirectory() as folder:
        plain = packed(Path(folder, "plain"), range(5)).read_bytes()
        made = store(Path(folder, "other"))
        for piece in division:
            made.commit(block(piece), STAMP)
            if pack_early:
                made.pack(identity(piece), STAMP)
        made.pack(identity(range(5)), STAMP)
        assert made.packed_path.read_bytes() == plain
        parts = list((made.packed_path.parent / "parts").iterdir())
        assert len(parts) == 1
        assert len(made.snapshot()) == 7


def _broken(**changes):
    return replace(block([1, 2]), **changes)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (_broken(vectors=np.array([[1, 2], [np.nan, 3]], "f4")), "0002.* is not finite"),
        (_broken(vectors=np.array([[1, 2], [np.inf, 3]], "f2")), "is not finite"),
        (_broken(vectors=np.zeros((2, 5))), "float64, not float32"),
        (_broken(vectors=np.zeros((2, 3, 4), "f4")), r"shape \(2, 3, 4\)"),
        (_broken(vectors=np.zeros((2, 0), "f4")), r"shape \(2, 0\)"),
        (_broken(paths=["one"]), "columns of other lengths"),
        (_broken(paths=["a", "b" * 4097]), "4097 bytes"),
        (_broken(paths=["a", "b\0c"]), "no zero byte"),
        (_broken(paths=["a", "b\udcff"]), "not UTF-8"),
        (_broken(keys=np.array([b"x" * 64] * 2)), "lower-case hex"),
        (_broken(views=np.array([0, -1])), "negative"),
        (_broken(failures=[replace(failure(1), code="x" * 33)]), "short ASCII word"),
        (_broken(failures=[replace(failure(1), key="12")]), "SHA-256"),
    ],
)
def test_a_block_that_cannot_be_kept_is_refused(tmp_path, rows, message):
    """What the file could not say truly is refused, with the image or column named."""
    with pytest.raises(FeatcacheError, match=message):
        store(tmp_path).commit(rows, STAMP)
    assert list(tmp_path.rglob("*.h5")) == []


def test_codes_need_names(tmp_path):
    """A label code beyond the classes is refused."""
    made = store(tmp_path)
    made.commit(block([1]), STAMP)
    with pytest.raises(FeatcacheError, match="label codes run from 3 to 3"):
        made.pack(replace(identity([1]), labels=np.array([3])), STAMP)


@pytest.mark.parametrize("recipe", ["", "[1]", '{"a":1,"a":2}', '{"a":NaN}', '{"a":' + "[" * 9999])
def test_a_recipe_is_a_json_object(tmp_path, recipe):
    """Text that is not one strict JSON object is no recipe."""
    with pytest.raises(FeatcacheError, match="recipe"):
        RecipeStore(tmp_path, recipe)


def test_a_probe_is_finite(tmp_path):
    """A probe with NaN would agree with nothing, so it is refused."""
    with pytest.raises(FeatcacheError, match="probe"):
        store(tmp_path).commit(block([1]), Stamp("{}", np.full((8, 2), np.nan, np.float32)))


def test_long_messages_are_cut(tmp_path):
    """A decoder that talks at length costs 500 bytes at most."""
    made = store(tmp_path)
    made.commit(replace(block([]), failures=[replace(failure(1), message="ä" * 400)]), STAMP)
    (found,) = made.snapshot().failures
    assert len(found.message.encode()) <= 500
    assert found.message.endswith("…")


def test_features_beat_parts(tmp_path):
    """Where a part has another row for a packed image, the packed row answers; verify tells."""
    path = packed(tmp_path, [1, 2])
    made = store(tmp_path)
    made.commit(replace(block([2, 3]), vectors=vectors([7, 8])), STAMP)
    snapshot = made.snapshot()
    found = snapshot.read(snapshot.find(keys([2, 3]), views([2, 3])))
    np.testing.assert_array_equal(found, vectors([2, 8]))
    (problem,) = made.verify()
    assert "differ" in problem.reason
    assert problem.rows == [0]
    assert problem.path.parent.name == "parts"
    assert path.exists()


def test_two_recipes_do_not_mix(tmp_path):
    """A part of another recipe is a problem, and none of its rows is found."""
    made = store(tmp_path)
    part = made.commit(block([1]), STAMP)
    other = RecipeStore(tmp_path / "other", OTHER_RECIPE)
    other.commit(block([2]), STAMP)
    target = tmp_path / "other" / "parts" / part.name
    part.rename(target)
    snapshot = other.snapshot()
    assert [problem.path for problem in snapshot.problems] == [target]
    assert "another recipe" in snapshot.problems[0].reason
    assert len(snapshot) == 1


def test_another_shape_is_a_problem_until_it_is_repaired(tmp_path):
    """Rows of another width never join the others."""
    made = store(tmp_path)
    made.commit(block([1]), STAMP)
    made.pack(identity([1]), STAMP)
    odd = made.commit(block([2], shape=(4,)), STAMP)
    assert [problem.path for problem in made.snapshot().problems] == [odd]
    assert [problem.path for problem in made.verify()] == [odd]
    assert made.repair().moved == [odd.parent.parent / "quarantine" / odd.name]
    assert made.verify() == []
    assert len(made.snapshot()) == 1


def test_an_index_row_costs_less_than_200_bytes(tmp_path):
    """The index of a snapshot is arrays, and small ones."""
    made = store(tmp_path)
    many = 5000
    image = np.arange(many)
    raw = np.zeros((many, 64), np.uint8) + 48
    raw[:, :8] = np.frombuffer("".join(f"{i:08x}" for i in image).encode(), np.uint8).reshape(-1, 8)
    rows = replace(
        block([]),
        vectors=np.zeros((many, 1), np.float32),
        keys=raw.view("S64").reshape(-1),
        views=np.zeros(many, np.int32),
        paths=[f"{i}" for i in image],
        source_sizes=np.ones((many, 2), np.int32),
    )
    made.commit(rows, STAMP)
    index = made.snapshot().index
    arrays = (getattr(index, name) for name in index.__slots__)
    assert sum(array.nbytes for array in arrays) / many < 200


def test_pack_holds_a_few_blocks_of_rows_in_memory(tmp_path, monkeypatch):
    """Rows stream through pack: 20 MB of them need a few blocks of 1 MB, and not 20."""
    made = store(tmp_path)
    images = range(20)
    for image in images:
        made.commit(block([image], shape=(64, 64, 64)), STAMP)
    monkeypatch.setattr(stored_file, "ROW_BLOCK", 1 << 20)
    tracemalloc.start()
    made.pack(identity(images), STAMP)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10 << 20
    assert made.verify() == []


def test_an_interrupted_commit_leaves_nothing_behind(tmp_path, monkeypatch):
    """Ctrl-C in the middle of a write removes the unfinished file; the rest is as it was."""
    made = store(tmp_path)
    made.commit(block([1]), STAMP)

    def interrupt(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Disk, "write", interrupt)
        with pytest.raises(KeyboardInterrupt):
            made.commit(block([2]), STAMP)
    assert list(tmp_path.rglob(".tmp-*")) == []
    assert len(made.snapshot()) == 1
