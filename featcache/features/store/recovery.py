"""Recovery: what a damaged file still says for certain, so that `repair` can keep its good rows.

Digests do more than refuse. Where one byte of a header or a recipe was changed, trying the others
finds the one that gives the digest again. Where HDF5's own structures or the checksums were hit,
the skeleton built anew from the small arrays has the digest that the header names, which proves
them all. Where another small array was hit, it is not known which: then rows are kept whose bytes,
key and view hold together, and what cannot be proved is left out.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from featcache.errors import FeatcacheError
from featcache.features.store.columns import (
    attribute,
    failure_columns,
    provenance_attribute,
    row_checksums,
)
from featcache.features.store.disk import Disk, opened
from featcache.features.store.layout import (
    BLOCK,
    KINDS,
    PART,
    is_header_sound,
    parse_header,
    strict_json,
)
from featcache.features.store.records import Array
from featcache.features.store.skeleton import build_skeleton
from featcache.features.store.stored_file import StoredFile, is_metadata_sound, row_blocks, row_size

#: Beside the versions of a file whose small arrays were damaged: they may be wrong too.
_REPAIRED = "kept by `featcache repair` out of a file whose small arrays were damaged"
#: Every header holds both.
_MARKS = (b"featcache-h5 ", b'"metadata_sha256"')
#: What one byte may have been changed by: single bits first, which is what usually happens.
_CHANGES = sorted(range(1, 256), key=int.bit_count)


@dataclass(frozen=True, slots=True, eq=False)
class Recovered:
    """A file whose layout is known: the columns of a part out of it.

    `usable` (R,) bool are the rows whose columns can be trusted; their vectors have their own
    checksums, `columns["row_crc32"]`.
    """

    file: StoredFile
    columns: dict[str, Array]
    usable: Array


def recovered_file(disk: Disk, path: Path) -> StoredFile | None:
    """A file whose header is whole, or was but for one byte; None where its layout is lost.

    Raises `FileNotFoundError`, `StorageFailure`.
    """
    with opened(disk, path) as descriptor:
        block, size = disk.read(descriptor, BLOCK, 0), disk.size(descriptor)
    try:
        layout = parse_header(_corrected_header(block))
    except FeatcacheError:  # no file of ours, or one that cannot be read any more
        return None
    return StoredFile(disk, path, block, layout) if size >= layout.features.offset else None


def recipe_of(file: StoredFile) -> str | None:
    """The recipe's text, which hashes to its key; None where more than a byte of it is wrong."""
    key = file.layout.recipe_key
    text = _one_byte_right(
        bytes(file.column("recipe").item()), lambda text: hashlib.sha256(text).hexdigest() == key
    )
    return None if text is None else text.decode("utf-8", "replace")


def recover(file: StoredFile) -> Recovered | None:
    """The columns of a part, out of a file that may be damaged; None where they are lost."""
    columns = file.columns(*KINDS[file.layout.kind])
    recipe = recipe_of(file)
    if recipe is None:
        return None
    columns["recipe"] = np.array(recipe.encode("utf-8"))
    proved = columns if is_metadata_sound(file) else _proved(file, columns)
    if proved:
        part = {name: proved[name] for name in PART}
        return Recovered(file, part, np.ones(len(file), dtype=bool))
    try:
        return Recovered(file, *_plausible(columns))
    except ValueError:  # FeatcacheError is one too: a text, a key or the probe makes no sense
        return None


def _proved(file: StoredFile, columns: dict[str, Array]) -> dict[str, Array] | None:
    """The columns as they were written, where the damage is outside of them or in the checksums."""
    for checksums in (columns["row_crc32"], _actual_checksums(file)):
        tried = {**columns, "row_crc32": checksums}
        try:
            skeleton = build_skeleton(file.layout.kind, tried, rows=file.layout.features)
        except (ValueError, TypeError, OSError, RuntimeError):  # HDF5 cannot hold damaged columns
            return None
        if skeleton.layout.metadata_sha256 == file.layout.metadata_sha256:
            return tried
    return None


def _plausible(columns: dict[str, Array]) -> tuple[dict[str, Array], Array]:
    """Columns of which one is damaged, and the rows whose key and view hold together.

    A damaged key is that of no image, so its row answers for none; a damaged view leaves a gap
    among the views of its image. Sizes of images are unknown (0), failures are tried again.
    Raises ValueError.
    """
    if not np.isfinite(columns["probe"]).all():
        raise ValueError("the probe is not finite")
    part = {name: columns[name] for name in PART}
    part["source_size"] = np.zeros_like(columns["source_size"])
    part["provenance"] = attribute(_marked(bytes(columns["provenance"].item())), "provenance")
    part |= failure_columns([])
    return part, _are_texts(columns["path"]) & _hold_together(columns)


def _marked(provenance: bytes) -> str:
    """The versions, with the remark that they may be wrong."""
    provenance_attribute(provenance.decode("utf-8"))
    record = strict_json(provenance)
    records = [{**each, "repaired": _REPAIRED} for each in record.get("mixed", [record])]
    return json.dumps(records[0] if len(records) == 1 else {"mixed": records}, sort_keys=True)


def _are_texts(column: Array) -> Array:
    texts = [each.decode("utf-8", "replace").encode("utf-8") == each for each in column.tolist()]
    return np.array(texts, dtype=bool)


def _hold_together(columns: dict[str, Array]) -> Array:
    """(R,) bool: the views of the row's image are 0, 1, 2, ..., and copies have one checksum."""
    keys, views, checksums = (columns[name] for name in ("key", "view", "row_crc32"))
    digits = np.ascontiguousarray(keys).view(np.uint8).reshape(-1, 64)
    is_key = np.isin(digits, np.frombuffer(b"0123456789abcdef", np.uint8)).all(axis=1)
    order = np.lexsort((views, keys))
    keys, views, checksums = keys[order], views[order], checksums[order]
    is_first = np.append(True, keys[1:] != keys[:-1])[: len(keys)]
    before = np.where(is_first, -1, np.roll(views, 1))
    is_copy = ~is_first & (views == before) & (checksums == np.roll(checksums, 1))
    wrong = keys[(views != before + 1) & ~is_copy]
    together: Array = is_key & ~np.isin(columns["key"], wrong)
    return together


def _actual_checksums(file: StoredFile) -> Array:
    """CRC-32 of the rows as they lie there."""
    none = np.zeros(len(file), "<u4")
    blocks = row_blocks(len(file), row_size(file.layout.features))
    found = [row_checksums(file.read_rows(block, none[block])[0]) for block in blocks]
    return np.concatenate([none[:0], *found])


def _corrected_header(block: bytes) -> bytes:
    """A header that matches its own checksum, where one byte before its padding was changed."""
    text = block.rstrip(b"\0")
    if any(mark in text for mark in _MARKS):  # one of them survives a changed byte
        text = _one_byte_right(text, is_header_sound) or text
    if is_header_sound(text):  # whatever else stands behind it should be zero
        text = b"\n".join(text.split(b"\n", 3)[:3]) + b"\n"
    return text.ljust(BLOCK, b"\0")


def _one_byte_right(text: bytes, is_right: Callable[[bytes], bool]) -> bytes | None:
    """The text, or the one that differs in a single byte, that is right; None: there is none.

    In a text longer than a header none is looked for: the time grows with the square of its length.
    """
    if is_right(text):
        return text
    if len(text) > BLOCK:
        return None
    tried = bytearray(text)
    for change in _CHANGES:
        for place in range(len(text)):
            tried[place] ^= change
            if is_right(bytes(tried)):
                return bytes(tried)
            tried[place] ^= change
    return None
