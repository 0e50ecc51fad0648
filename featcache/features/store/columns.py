"""Columns: blocks, identities and failures as the arrays that lie in a file, checked on the way."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from math import prod

import numpy as np

from featcache.errors import DamagedFile, FeatcacheError
from featcache.features.store.layout import strict_json
from featcache.features.store.records import FLOAT32, INT32, Array, Block, Failure, Identity, Stamp

_PATH_LIMIT = 4096
_NAME_LIMIT = 4096
_MESSAGE_LIMIT = 500
_ATTRIBUTE_LIMIT = 60_000  # HDF5 keeps no attribute above 64 KB in a file that everybody can open
_HEX = re.compile(r"[0-9a-f]{64}")


def row_checksums(rows: Array) -> Array:
    """CRC-32 of each row's bytes as they are stored: (n,) uint32."""
    return np.fromiter((zlib.crc32(row.data) for row in as_bytes(rows)), "<u4", len(rows))


def as_bytes(rows: Array) -> Array:
    """The same memory as the bytes of each row: (n, bytes of a row) uint8."""
    width = prod(rows.shape[1:])
    return np.ascontiguousarray(rows).reshape(len(rows), width).view(np.uint8)


def encode(texts: Sequence[str], what: str, *, limit: int = _NAME_LIMIT) -> Array:
    """Texts as fixed-width UTF-8: (n,) 'S'. Raises `FeatcacheError` naming the one that cannot."""
    try:
        coded = [text.encode("utf-8") for text in texts]
    except UnicodeEncodeError as error:
        raise FeatcacheError(f"{what} {error.object!r} is not UTF-8: rename it") from error
    for text in coded:
        if len(text) > limit or b"\0" in text:
            raise FeatcacheError(
                f"{what} {text[:80]!r} has {len(text)} bytes; at most {limit} and no zero byte"
            )
    return np.array(coded, dtype=f"S{max((len(text) for text in coded), default=1) or 1}")


def decode(column: Array) -> list[str]:
    """The texts again. Raises `DamagedFile` where they are not UTF-8."""
    try:
        return [text.decode("utf-8") for text in column.tolist()]
    except UnicodeDecodeError as error:
        raise DamagedFile("a text in the file is not UTF-8") from error


def block_rows(block: Block) -> Array:
    """The vectors of a block as they are stored: little endian, finite, of a shape we keep."""
    vectors = block.vectors
    if vectors.ndim not in {2, 4} or 0 in vectors.shape[1:]:
        raise FeatcacheError(f"vectors have shape {vectors.shape}, not (n, D) or (n, H, W, C)")
    if vectors.dtype not in (np.float32, np.float16):
        raise FeatcacheError(f"vectors are {vectors.dtype}, not float32 or float16")
    finite = np.isfinite(vectors).all(axis=tuple(range(1, vectors.ndim)))
    if not finite.all():
        path = block.paths[int(np.argmin(finite))]
        raise FeatcacheError(f"the vector of {path!r} is not finite: list it as a failure instead")
    return np.ascontiguousarray(vectors, dtype=vectors.dtype.newbyteorder("<"))


def block_columns(block: Block) -> dict[str, Array]:
    """The columns of a part."""
    count = len(block.vectors)
    sizes = np.asarray(block.source_sizes, INT32).reshape(-1, 2)
    if {len(block.paths), len(block.keys), len(block.views), len(sizes)} != {count}:
        raise FeatcacheError(f"a block of {count} vectors has columns of other lengths")
    return {
        "path": encode(block.paths, "path", limit=_PATH_LIMIT),
        "key": checked_keys(block.keys),
        "view": checked_views(block.views),
        "source_size": sizes,
        **failure_columns(block.failures),
    }


def identity_columns(identity: Identity) -> dict[str, Array]:
    """The columns of `features.h5` that the caller decides."""
    coded = {
        "label": (identity.labels, identity.classes),
        "split": (identity.splits, identity.split_names),
        "group": (identity.groups, identity.group_names),
    }
    count = len(identity.paths)
    if {len(identity.keys), len(identity.views), *(len(c) for c, _ in coded.values())} != {count}:
        raise FeatcacheError(f"an identity of {count} paths has columns of other lengths")
    return {
        "path": encode(identity.paths, "path", limit=_PATH_LIMIT),
        "key": checked_keys(identity.keys),
        "view": checked_views(identity.views),
        **{name: checked_codes(*pair, what=name) for name, pair in coded.items()},
        "classes": encode(identity.classes, "class"),
        "split_names": encode(identity.split_names, "split"),
        "group_names": encode(identity.group_names, "group"),
        **metadata_columns(identity.metadata, count),
        **failure_columns(identity.failures),
    }


def metadata_columns(metadata: dict[str, list[str]], count: int) -> dict[str, Array]:
    """What else is known of `count` rows: codes of each column into one list of texts, -1 = none.

    Nothing where nothing is known: such files are as they were before there was metadata.
    """
    if not metadata:
        return {}
    if {len(column) for column in metadata.values()} != {count}:
        raise FeatcacheError(f"metadata of {count} rows has columns of other lengths")
    values = sorted({text for column in metadata.values() for text in column} - {""})
    code = {"": -1, **{text: place for place, text in enumerate(values)}}
    codes = [[code[text] for text in column] for column in metadata.values()]
    return {
        "metadata": np.ascontiguousarray(np.array(codes, INT32).T),
        "metadata_names": encode(list(metadata), "metadata column"),
        "metadata_values": encode(values, "metadata"),
    }


def stamp_columns(stamp: Stamp, recipe: str) -> dict[str, Array]:
    """The columns that every file of a run shares."""
    probe = np.ascontiguousarray(stamp.probe, dtype=FLOAT32)
    if probe.ndim != 2 or not np.isfinite(probe).all():
        raise FeatcacheError(f"the probe has shape {probe.shape} or is not finite; (8, k) expected")
    return {
        "probe": probe,
        "recipe": attribute(recipe, "recipe"),
        "provenance": provenance_attribute(stamp.provenance),
    }


def attribute(text: str, what: str) -> Array:
    """A JSON object as one fixed-width text of shape ()."""
    coded = text.encode("utf-8")
    try:
        is_object = isinstance(strict_json(coded), dict)
    except ValueError as error:
        raise FeatcacheError(f"the {what} is not JSON: {error}") from error
    if not is_object or len(coded) > _ATTRIBUTE_LIMIT or b"\0" in coded:
        raise FeatcacheError(
            f"the {what} is no JSON object of at most {_ATTRIBUTE_LIMIT:,} bytes ({len(coded):,})"
        )
    return np.array(coded)


def provenance_attribute(text: str) -> Array:
    """Versions as such an object; where rows of several came together, `mixed` lists theirs."""
    coded = attribute(text, "provenance")
    mixed = strict_json(bytes(coded.item())).get("mixed", [{}])
    if (
        not isinstance(mixed, list)
        or not mixed
        or not all(isinstance(each, dict) for each in mixed)
    ):
        raise FeatcacheError("the provenance is mixed of what are no JSON objects")
    return coded


def failure_columns(failures: Sequence[Failure]) -> dict[str, Array]:
    """Failures as columns; a message is cut at 500 bytes."""
    for failure in failures:
        if failure.key and not _HEX.fullmatch(failure.key):
            raise FeatcacheError(f"the key of failure {failure.path!r} is not SHA-256 in hex")
        if not failure.code.isascii() or not 0 < len(failure.code) <= 32:
            raise FeatcacheError(f"the code of failure {failure.path!r} is no short ASCII word")
    return {
        "failed_path": encode([each.path for each in failures], "path", limit=_PATH_LIMIT),
        "failed_key": encode([each.key for each in failures], "key"),
        "failed_code": encode([each.code for each in failures], "code"),
        "failed_message": encode([_cut(each.message) for each in failures], "message"),
        "failed_decoder": encode([each.decoder for each in failures], "decoder"),
    }


def failures_of(columns: dict[str, Array]) -> list[Failure]:
    """The failures that `failure_columns` wrote."""
    names = ("failed_path", "failed_key", "failed_code", "failed_message", "failed_decoder")
    return [Failure(*each) for each in zip(*(decode(columns[name]) for name in names), strict=True)]


def checked_keys(keys: Array) -> Array:
    """Keys as (n,) 'S64'. Raises `FeatcacheError` where one is not SHA-256 in hex."""
    keys = np.ascontiguousarray(keys, dtype="S64")
    if keys.tobytes().translate(None, b"0123456789abcdef"):
        bad = next(key for key in keys.tolist() if not _HEX.fullmatch(key.decode("latin-1")))
        raise FeatcacheError(f"the key {bad!r} is not a SHA-256 in lower-case hex")
    return keys


def checked_views(views: Array) -> Array:
    """Views as (n,) int32. Raises `FeatcacheError` where one is negative."""
    views = np.ascontiguousarray(views, dtype=INT32)
    if views.size and views.min() < 0:
        raise FeatcacheError(f"view {views.min()} is negative")
    return views


def checked_codes(codes: Array, names: Sequence[str], *, what: str) -> Array:
    """Codes as (n,) int32. Raises `FeatcacheError` where one has no name."""
    codes = np.ascontiguousarray(codes, dtype=INT32)
    if codes.size and not (codes.min() >= -1 and codes.max() < len(names)):
        raise FeatcacheError(
            f"{what} codes run from {codes.min()} to {codes.max()}, and there are {len(names)} "
            "names; -1 = none"
        )
    return codes


def _cut(message: str) -> str:
    coded = message.replace("\0", "").encode("utf-8", "backslashreplace")
    if len(coded) <= _MESSAGE_LIMIT:
        return coded.decode("utf-8")
    return coded[: _MESSAGE_LIMIT - 3].decode("utf-8", "ignore") + "…"
