"""The file: plain HDF5 for everybody, and the same bytes for the same rows."""

from __future__ import annotations

import hashlib
import json
import zlib
from dataclasses import replace

import h5py
import numpy as np
import pandas
import pytest
import xarray
from store_samples import (
    CLASSES,
    RECIPE,
    STAMP,
    block,
    failure,
    identity,
    key,
    name,
    packed,
    sizes,
    store,
    vectors,
)

from featcache.features.store.packed_file import open_packed

SHAPES = [((5,), "float32"), ((5,), "float16"), ((3, 2, 7), "float32"), ((1,), "float32")]


@pytest.mark.parametrize(("shape", "dtype"), SHAPES)
def test_h5py_alone_reads_the_rows(tmp_path, shape, dtype):
    """Plain h5py reads vectors, names and checksums, and everything is where DESIGN says."""
    path = packed(tmp_path, shape=shape, dtype=dtype)
    with h5py.File(path) as file:
        features = file["features"]
        assert features.dtype == dtype
        assert features.chunks is None
        assert features.compression is None
        np.testing.assert_array_equal(features[:], vectors(range(6), shape=shape, dtype=dtype))
        assert file["path"].asstr()[:].tolist() == [name(image) for image in range(6)]
        assert file["key"].asstr()[2] == key(2).decode()
        assert file["classes"].asstr()[:].tolist() == CLASSES
        assert [zlib.crc32(row) for row in features[:]] == file["row_crc32"][:].tolist()
        np.testing.assert_array_equal(file["source_size"][:], sizes(range(6)))
        dimensions = [dimension.label or dimension[0].name for dimension in features.dims]
        named = ["/row", "/channel"] if len(shape) == 1 else ["/row", "/y", "/x", "/channel"]
        assert dimensions == named


def test_root_attributes_say_what_the_file_is(tmp_path):
    """The root carries fixed-length attributes: format, kind, recipe and its hash, counts."""
    path = packed(tmp_path)
    with h5py.File(path) as file:
        attributes = dict(file.attrs)
        types = {file.attrs.get_id(each).get_type().get_class() for each in attributes}
    assert attributes["format"] == b"featcache"
    assert attributes["format_version"] == 1
    assert attributes["kind"] == b"features"
    assert attributes["recipe"].decode() == RECIPE
    assert attributes["recipe_key"].decode() == hashlib.sha256(RECIPE.encode()).hexdigest()
    assert json.loads(attributes["provenance"]) == {"numpy": "2"}
    assert (attributes["n_rows"], attributes["n_failed"]) == (6, 0)
    assert types == {h5py.h5t.STRING, h5py.h5t.INTEGER}


def test_pandas_in_one_line(tmp_path):
    """The line that the documentation gives makes a table with the paths as its index."""
    with h5py.File(packed(tmp_path)) as f:
        table = pandas.DataFrame(f["features"][:], index=f["path"].asstr()[:])
    assert table.index[3] == name(3)
    np.testing.assert_array_equal(table.loc[name(3)].to_numpy(np.float32), vectors([3])[0])


@pytest.mark.parametrize("shape", [(5,), (3, 2, 7)])
def test_xarray_opens_with_coordinates_and_groups(tmp_path, shape):
    """xarray finds dimensions and coordinates without a warning, and groups rows by label."""
    with xarray.open_dataset(packed(tmp_path, shape=shape), engine="h5netcdf") as dataset:
        rows = dataset.features
        assert rows.dims == ("row", *(("channel",) if len(shape) == 1 else ("y", "x", "channel")))
        assert {"path", "key", "view", "label", "split", "group"} <= set(rows.coords)
        assert str(rows.path.values[1]) == name(1)
        mean = rows.groupby("label").mean().sel(label=1).values
    np.testing.assert_allclose(mean, vectors([1, 4], shape=shape).mean(axis=0), rtol=1e-6)


def test_xarray_opens_a_part_and_an_empty_file(tmp_path):
    """Parts, and files with no row but failures, open in xarray too."""
    made = store(tmp_path)
    part = made.commit(block([], failed=[1, 2]), STAMP)
    with xarray.open_dataset(part, engine="h5netcdf") as dataset:
        assert dataset.sizes["failure"] == 2
        assert str(dataset.failed_code.values[0]) == "truncated"
    path = made.pack(identity([], failed=[1, 2]), STAMP).path
    with xarray.open_dataset(path, engine="h5netcdf") as dataset:
        assert dataset.sizes["failure"] == 2


def test_a_file_without_rows(tmp_path):
    """No row at all is a valid file: h5py sees (0, D), and failures are told."""
    made = store(tmp_path)
    made.commit(block([], failed=[1, 2]), STAMP)
    found = made.pack(identity([], failed=[1, 2]), STAMP)
    assert found.vectors.shape == (0, 5)
    assert found.failures == [failure(1), failure(2)]
    assert found.bad_rows().tolist() == []
    assert made.verify() == []
    with h5py.File(found.path) as file:
        assert file["features"].shape == (0, 5)
        assert file["features"].id.get_storage_size() == 0


def test_an_empty_place_packs(tmp_path):
    """Packing nothing, where nothing ever was, gives a valid file of no rows."""
    found = store(tmp_path).pack(identity([]), STAMP)
    assert len(found) == 0
    assert len(store(tmp_path).snapshot()) == 0


def test_open_packed_gives_everything_back(tmp_path):
    """What went in comes out of `open_packed`: rows, names, codes, sizes, probe and texts."""
    made = store(tmp_path)
    made.commit(block(range(4), failed=[9]), STAMP)
    made.pack(identity(range(4), failed=[9]), STAMP)
    found = open_packed(made.packed_path)
    expected = identity(range(4))
    np.testing.assert_array_equal(found.vectors, vectors(range(4)))
    assert [path.decode() for path in found.paths] == expected.paths
    np.testing.assert_array_equal(found.keys, expected.keys)
    np.testing.assert_array_equal(found.labels, expected.labels)
    np.testing.assert_array_equal(found.splits, expected.splits)
    np.testing.assert_array_equal(found.groups, [-1] * 4)
    np.testing.assert_array_equal(found.source_sizes, sizes(range(4)))
    np.testing.assert_array_equal(found.probe, STAMP.probe)
    assert (found.classes, found.split_names, found.group_names) == (CLASSES, ["test", "train"], [])
    assert (found.recipe, found.provenance) == (RECIPE, STAMP.provenance)
    assert found.failures == [failure(9)]
    assert len(found) == 4


@pytest.mark.parametrize(("shape", "dtype"), SHAPES)
def test_the_map_is_aligned_and_read_only(tmp_path, shape, dtype):
    """The vectors are mapped, aligned to 64 bytes, and cannot be written."""
    found = open_packed(packed(tmp_path, shape=shape, dtype=dtype))
    assert found.vectors.ctypes.data % 64 == 0
    assert not found.vectors.flags.writeable
    assert not found.vectors.flags.owndata


def test_files_are_read_only_and_named_by_their_header(tmp_path):
    """Files get mode 0444; a part's name is the SHA-256 of its first 4096 bytes."""
    made = store(tmp_path)
    part = made.commit(block([1]), STAMP)
    assert part.name == f"p-{hashlib.sha256(part.read_bytes()[:4096]).hexdigest()[:16]}.h5"
    made.pack(identity([1]), STAMP)
    assert made.packed_path.stat().st_mode & 0o777 == 0o444


def test_the_same_rows_give_the_same_bytes(tmp_path):
    """Two stores that are told the same write byte-identical parts and packed files."""
    first, second = packed(tmp_path / "a"), packed(tmp_path / "b")
    assert first.read_bytes() == second.read_bytes()
    parts = [store(tmp_path / each).commit(block([7]), STAMP) for each in "ab"]
    assert parts[0].read_bytes() == parts[1].read_bytes()


def test_odd_names_survive(tmp_path):
    """Newlines, right-to-left marks, 4096 bytes and NFC/NFD twins are kept as they are."""
    odd = ["a\nb\t\x1b[0m", "\u202egpj.exe", "é", "e\u0301", "x" * 4096, "=1+1", " "]
    made = store(tmp_path)
    rows, names = block(range(len(odd))), identity(range(len(odd)))
    rows.paths[:] = odd
    names.paths[:] = odd
    made.commit(rows, STAMP)
    found = made.pack(names, STAMP)
    assert [path.decode() for path in found.paths] == odd


def test_many_long_class_names(tmp_path):
    """A class list far above HDF5's 64 KB for attributes is kept."""
    made = store(tmp_path)
    made.commit(block([1]), STAMP)
    long = [f"{number:03d}" + "ä" * 150 for number in range(500)]
    assert made.pack(replace(identity([1]), classes=long), STAMP).classes == long
    assert made.verify() == []
