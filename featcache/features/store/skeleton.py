"""Skeleton: everything of a file but its rows, written by h5py into memory.

The rows are the last thing in the file, so the skeleton is simply what comes before them: rows
stream in behind it, and memory holds none. Nothing here depends on time, place or order of
arrival, so equal input gives equal bytes.
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass, replace
from typing import Any

import h5py
import numpy as np

from featcache.features.store.layout import (
    BLOCK,
    COLUMNS,
    VECTOR_DIMENSIONS,
    VERSION,
    Extent,
    Layout,
    build_header,
    columns_of,
)
from featcache.features.store.records import Array

_COORDINATES = ("path", "key", "view", "label", "split", "group")
_COUNTED = ("row", "y", "x", "channel")  # the dimensions that also get a variable 0, 1, 2, …


@dataclass(frozen=True, slots=True)
class Skeleton:
    """The bytes before the rows (header first), and how long the whole file will be."""

    head: bytes
    layout: Layout

    @property
    def name(self) -> str:
        """First 16 hex digits of the header's SHA-256: the name of a part."""
        return hashlib.sha256(self.head[:BLOCK]).hexdigest()[:16]


def build_skeleton(kind: str, columns: dict[str, Array], *, rows: Extent) -> Skeleton:
    """Everything but the rows.

    `columns` has an array for each name that `kind` needs (of metadata, all or none); `rows` gives
    shape and type of the vectors (its offset is ignored).
    """
    buffer = io.BytesIO()
    with h5py.File(
        buffer,
        "w",
        libver="earliest",
        userblock_size=BLOCK,
        alignment_threshold=1,
        alignment_interval=64,
    ) as file:
        _write_attributes(file, kind, columns=columns, rows=rows)
        for name in columns_of(kind, columns):
            if COLUMNS[name][1]:
                _write_column(file, name, column=columns[name])
        features = _declare_features(file, rows)
        _attach_dimensions(file, kind, columns=columns, rows=rows)
        file.flush()
        offset = _place_features(features, rows)
        arrays = _extents(file, columns_of(kind, columns))
    # With no rows there is nothing to place, and the skeleton is the file.
    content = buffer.getvalue()[:offset]
    arrays |= _attribute_extents(content, columns)
    arrays["features"] = replace(rows, offset=len(content))
    return _with_header(kind, content, arrays=arrays, recipe=columns["recipe"].tobytes())


def _write_attributes(
    file: h5py.File, kind: str, *, columns: dict[str, Array], rows: Extent
) -> None:
    recipe = columns["recipe"].tobytes()
    texts = {
        "recipe": recipe,  # these two come first: `_attribute_extents` looks for them
        "provenance": columns["provenance"].tobytes(),
        "format": b"featcache",
        "kind": kind.encode("ascii"),
        "recipe_key": hashlib.sha256(recipe).hexdigest().encode("ascii"),
    }
    for name, text in texts.items():
        file.attrs[name] = np.bytes_(text)
    file.attrs["format_version"] = np.int32(VERSION)
    file.attrs["n_rows"] = np.int64(rows.shape[0])
    file.attrs["n_failed"] = np.int64(len(columns["failed_path"]))


def _write_column(file: h5py.File, name: str, *, column: Array) -> None:
    if column.dtype.kind != "S":
        file.create_dataset(name, data=column)
        return
    text = h5py.string_dtype("utf-8", column.dtype.itemsize)
    file.create_dataset(name, data=column.astype(text))
    file[name].attrs["_Encoding"] = np.bytes_(b"utf-8")  # netCDF's way to say it


def _declare_features(file: h5py.File, rows: Extent) -> Any:
    """The data set of the rows, contiguous and with no place in the file yet."""
    creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    creation.set_alloc_time(h5py.h5d.ALLOC_TIME_LATE)
    creation.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    creation.set_obj_track_times(False)
    dtype = h5py.h5t.py_create(np.dtype(rows.dtype))
    space = h5py.h5s.create_simple(rows.shape)
    return h5py.h5d.create(file.id, b"features", dtype, space, creation)


def _attach_dimensions(
    file: h5py.File, kind: str, *, columns: dict[str, Array], rows: Extent
) -> None:
    """Name every dimension of every array, as netCDF and so xarray expect."""
    named = {"features": VECTOR_DIMENSIONS[len(rows.shape)]}
    named |= {name: COLUMNS[name][1] for name in columns_of(kind, columns) if COLUMNS[name][1]}
    lengths: dict[str, int] = {}
    for name, dimensions in named.items():
        lengths |= dict(zip(dimensions, file[name].shape, strict=True))
    for dimension, length in lengths.items():
        _make_scale(file, dimension, length=length)
    for name, dimensions in named.items():
        for axis, dimension in enumerate(dimensions):
            file[name].dims[axis].attach_scale(file[dimension])
    present = [name for name in _COORDINATES if name in columns]
    file["features"].attrs["coordinates"] = np.bytes_(" ".join(present).encode("ascii"))


def _make_scale(file: h5py.File, dimension: str, *, length: int) -> None:
    if dimension in _COUNTED:
        dtype = "<i8" if dimension == "row" else "<i4"
        file.create_dataset(dimension, data=np.arange(length, dtype=dtype)).make_scale(dimension)
        return
    # A pure dimension: a name and a length, no values. The words are netCDF's own mark for that.
    scale = file.create_dataset(dimension, shape=(length,), dtype=">f4")
    scale.make_scale(f"This is a netCDF dimension but not a netCDF variable.{length:10d}")


def _place_features(features: Any, rows: Extent) -> int | None:
    """Give the rows their place, which is then the end of the file; None where there are none.

    Writing the first element makes HDF5 reserve them all, and only that element is in memory.
    """
    if not rows.size:
        return None
    corner = (0,) * len(rows.shape), (1,) * len(rows.shape)
    target = features.get_space()
    target.select_hyperslab(*corner)
    source = h5py.h5s.create_simple(corner[1])
    features.write(source, target, np.zeros(corner[1], rows.dtype))
    return int(features.get_offset())


def _extents(file: h5py.File, names: list[str]) -> dict[str, Extent]:
    found = {}
    for name in names:
        if not COLUMNS[name][1]:
            continue
        stored = file[name]
        text = h5py.check_string_dtype(stored.dtype)
        dtype = f"|S{text.length}" if text else stored.dtype.str
        offset = int(stored.id.get_offset()) if stored.size else BLOCK
        found[name] = Extent(dtype, stored.shape, offset)
    return found


def _attribute_extents(content: bytes, columns: dict[str, Array]) -> dict[str, Extent]:
    """Where the texts of the two long attributes lie, so that they can be read without HDF5.

    In an HDF5 attribute the text follows the name and a zero byte. The two are written first and
    hold no zero byte themselves, so the first such place is theirs.
    """
    found = {}
    for name in ("recipe", "provenance"):
        text = columns[name].tobytes()
        offset = content.index(text, content.index(name.encode("ascii") + b"\0", BLOCK))
        found[name] = Extent(f"|S{len(text)}", (), offset)
    return found


def _with_header(
    kind: str, content: bytes, *, arrays: dict[str, Extent], recipe: bytes
) -> Skeleton:
    layout = Layout(
        kind=kind,
        recipe_key=hashlib.sha256(recipe).hexdigest(),
        file_size=arrays["features"].end,
        metadata_sha256=hashlib.sha256(memoryview(content)[BLOCK:]).hexdigest(),
        arrays=arrays,
    )
    return Skeleton(build_header(layout) + content[BLOCK:], layout)
