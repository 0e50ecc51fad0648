"""Layout: the first 4096 bytes of every file, which say where everything is and hold its checksum.

    featcache-h5 1
    {"arrays": {name: {dtype, offset, shape}}, "file_size": …, "kind": …, "metadata_sha256": …, …}
    <SHA-256 of the two lines above>
    zeros up to 4096

HDF5 calls this its user block and never looks at it. We read a file by it alone: libhdf5 can hang
or lie on a damaged file, so it never sees one whose checksums were not right before.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import Any, NoReturn

import numpy as np

from featcache.errors import DamagedFile, FeatcacheError
from featcache.files.write import FEATURES

BLOCK = 4096
VERSION = 1
_ALLOWED = {"<f2", "<f4", "<i4", "<i8", "|u1", "<u4"}

#: name of an array -> (its type, the names of its dimensions); "S" is text of any fixed width.
COLUMNS: dict[str, tuple[str, tuple[str, ...]]] = {
    "path": ("S", ("row",)),
    "key": ("|S64", ("row",)),
    "view": ("<i4", ("row",)),
    "source_size": ("<i4", ("row", "side")),
    "row_crc32": ("<u4", ("row",)),
    "label": ("<i4", ("row",)),
    "classes": ("S", ("class",)),
    "split": ("<i4", ("row",)),
    "split_names": ("S", ("split_code",)),
    "group": ("<i4", ("row",)),
    "group_names": ("S", ("group_code",)),
    "failed_path": ("S", ("failure",)),
    "failed_key": ("S", ("failure",)),
    "failed_code": ("S", ("failure",)),
    "failed_message": ("S", ("failure",)),
    "failed_decoder": ("S", ("failure",)),
    "probe": ("<f4", ("probe_image", "probe_value")),
    "recipe": ("S", ()),
    "provenance": ("S", ()),
}
IDENTITY = ("label", "classes", "split", "split_names", "group", "group_names")
PART = tuple(name for name in COLUMNS if name not in IDENTITY)
KINDS: dict[str, tuple[str, ...]] = {"part": PART, "features": tuple(COLUMNS)}
VECTOR_DIMENSIONS = {2: ("row", "channel"), 4: ("row", "y", "x", "channel")}


@dataclass(frozen=True, slots=True)
class Extent:
    """Where one array lies: its numpy type, its shape and its first byte."""

    dtype: str
    shape: tuple[int, ...]
    offset: int

    @property
    def size(self) -> int:
        """Length in bytes, in Python's own integers: a crafted shape cannot overflow."""
        return prod(self.shape) * int(np.dtype(self.dtype).itemsize)

    @property
    def end(self) -> int:
        """The first byte after it."""
        return self.offset + self.size


@dataclass(frozen=True, slots=True)
class Layout:
    """What a header says: kind of file, whose rows, where every array is."""

    kind: str
    recipe_key: str
    file_size: int
    metadata_sha256: str
    arrays: dict[str, Extent]

    @property
    def features(self) -> Extent:
        """The rows: always the last thing in a file."""
        return self.arrays["features"]


def build_header(layout: Layout) -> bytes:
    """The 4096 bytes that `parse_header` reads."""
    values = {
        "arrays": {
            name: {"dtype": extent.dtype, "offset": extent.offset, "shape": list(extent.shape)}
            for name, extent in layout.arrays.items()
        },
        "file_size": layout.file_size,
        "kind": layout.kind,
        "metadata_sha256": layout.metadata_sha256,
        "recipe_key": layout.recipe_key,
    }
    text = json.dumps(values, sort_keys=True, separators=(",", ":")).encode("ascii")
    body = FEATURES + str(VERSION).encode("ascii") + b"\n" + text + b"\n"
    block = body + _digest(body) + b"\n"
    if len(block) > BLOCK:
        raise FeatcacheError(f"the header needs {len(block)} bytes, and {BLOCK} is the limit")
    return block.ljust(BLOCK, b"\0")


def check_version(block: bytes) -> None:
    """Refuse a file of a format that this version does not know; never mistake it for damage."""
    if not block.startswith(FEATURES):
        return
    version = block[len(FEATURES) :].split(b"\n", 1)[0]
    if is_header_sound(block) and version != str(VERSION).encode("ascii"):
        shown = version[:20].decode("ascii", "backslashreplace")
        raise FeatcacheError(
            f"the file has format version {shown}, and this featcache reads version {VERSION}: "
            "upgrade featcache"
        )


def is_header_sound(block: bytes) -> bool:
    """Whether the first two lines of a header match the checksum in the third."""
    lines = block.split(b"\n", 3)
    return len(lines) == 4 and _digest(b"\n".join(lines[:2]) + b"\n") == lines[2]


def parse_header(block: bytes) -> Layout:
    """Read and check a header, without libhdf5.

    Raises `FeatcacheError` where the file is not ours or of another version, `DamagedFile` where
    it was ours once. The messages name no file: the caller does.
    """
    if not block.startswith(FEATURES):
        raise FeatcacheError("not a featcache file: it does not start with 'featcache-h5'")
    check_version(block)
    lines = block.split(b"\n", 3)
    if len(block) != BLOCK or len(lines) != 4 or lines[3].strip(b"\0"):
        raise DamagedFile("the header is damaged")
    if not is_header_sound(block):
        raise DamagedFile("the header does not match its checksum")
    try:
        layout = _layout(strict_json(lines[1]))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise DamagedFile(f"the header makes no sense: {error}") from error
    return layout


def strict_json(text: bytes) -> Any:
    """JSON as we write it: UTF-8, no key twice, no NaN, not nested without end.

    Raises ValueError.
    """
    try:
        return json.loads(
            text.decode("utf-8"), object_pairs_hook=_without_duplicates, parse_constant=_no_constant
        )
    except RecursionError as error:
        raise ValueError("JSON is nested too deeply") from error


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest().encode("ascii")


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("JSON has a key twice")
    return values


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"JSON holds {name}")


def _layout(values: dict[str, Any]) -> Layout:
    layout = Layout(
        kind=values["kind"],
        recipe_key=_text(values["recipe_key"]),
        file_size=_count(values["file_size"]),
        metadata_sha256=_text(values["metadata_sha256"]),
        arrays={name: _extent(each) for name, each in values["arrays"].items()},
    )
    _check_arrays(layout)
    _check_places(layout)
    return layout


def _extent(values: dict[str, Any]) -> Extent:
    dtype = _text(values["dtype"])
    is_text = dtype.startswith("|S") and dtype[2:].isdecimal() and 0 < int(dtype[2:]) < 1 << 20
    if not is_text and dtype not in _ALLOWED:
        raise ValueError(f"type {dtype!r} is not allowed")
    shape = tuple(_count(length) for length in values["shape"])
    return Extent(dtype, shape, _count(values["offset"]))


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is not text")
    return value


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 1 << 62:
        raise ValueError(f"{value!r} is not a size")
    return value


def _check_arrays(layout: Layout) -> None:
    """Every array of this kind of file is there, of its type, and shapes agree by dimension."""
    features = layout.features
    dimensions = VECTOR_DIMENSIONS.get(len(features.shape))
    if dimensions is None or 0 in features.shape[1:] or features.dtype not in {"<f4", "<f2"}:
        raise ValueError(f"features of shape {features.shape} and type {features.dtype}")
    lengths = dict(zip(dimensions, features.shape, strict=True))
    for name in KINDS[layout.kind]:
        dtype, dimensions = COLUMNS[name]
        extent = layout.arrays[name]
        if extent.dtype != dtype and not (dtype == "S" and extent.dtype.startswith("|S")):
            raise ValueError(f"{name} is of type {extent.dtype}")
        for dimension, length in zip(dimensions, extent.shape, strict=True):
            if lengths.setdefault(dimension, length) != length:
                raise ValueError(f"{name} has {length} of {dimension}")
    if lengths["side"] != 2:
        raise ValueError("source_size is not (height, width)")


def _check_places(layout: Layout) -> None:
    """No array lies outside, over another, or behind the rows."""
    extents = sorted((each for each in layout.arrays.values()), key=lambda each: each.offset)
    for extent in extents:
        if extent.offset < BLOCK or extent.end > layout.file_size:
            raise ValueError("an array lies outside of the file")
    solid = [extent for extent in extents if extent.size]
    if any(first.end > second.offset for first, second in pairwise(solid)):
        raise ValueError("two arrays overlap")
    if layout.features.end != layout.file_size:
        raise ValueError("the rows are not the last thing in the file")
