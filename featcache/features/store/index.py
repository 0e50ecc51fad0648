"""Index: where the row of an image and a view is, for all files of a place at once.

Everything is numpy: about 100 bytes for each row, and no Python object for any.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from featcache.features.store.records import Array
from featcache.features.store.stored_file import StoredFile

#: 32 bytes of SHA-256, then the view as four bytes, highest first: sorts by key, then view.
_NAME = "S36"
#: What a hex digit is worth, by its byte. (A table is four times as quick as arithmetic.)
_WORTH = np.array([b"0123456789abcdef".find(byte) for byte in range(256)]).astype(np.uint8)


@dataclass(frozen=True, slots=True, eq=False)
class Index:
    """The rows of several files in a row: a *position* counts through all of them.

    Attributes
    ----------
    names: (P,) 'S36', key and view of each position.
    checksums: (P,) uint32. sizes: (P, 2) int32.
    starts: (F,) int64, the position of each file's first row.
    distinct: (N,) 'S36', sorted, each name once. chosen: (N,) int64, the position that answers.
    """

    names: Array
    checksums: Array
    sizes: Array
    starts: Array
    distinct: Array
    chosen: Array

    def find(self, names: Array) -> Array:
        """Positions of names, -1 where there is none: (n,) int64."""
        if not len(self.distinct):
            return np.full(len(names), -1, np.int64)
        found = np.minimum(np.searchsorted(self.distinct, names), len(self.distinct) - 1)
        return np.where(self.distinct[found] == names, self.chosen[found], -1)

    def by_file(self, positions: Array) -> list[tuple[int, Array]]:
        """The files that hold some positions: (number of the file, indices into `positions`)."""
        order = np.argsort(positions, kind="stable")
        file_of = np.searchsorted(self.starts, positions[order], side="right") - 1
        numbers, first = np.unique(file_of, return_index=True)
        return list(zip(numbers.tolist(), np.split(order, first[1:]), strict=False))


def build_index(files: list[StoredFile]) -> Index:
    """Index files in the order of their right to answer: the first that has a row answers."""
    columns = [file.columns("key", "view", "row_crc32", "source_size") for file in files]
    names = _joined([row_names(each["key"], each["view"]) for each in columns], _NAME)
    distinct, chosen = np.unique(names, return_index=True)
    starts = np.cumsum([0, *(len(file) for file in files)])[:-1]
    return Index(
        names=names,
        checksums=_joined([each["row_crc32"] for each in columns], "<u4"),
        sizes=_joined([each["source_size"] for each in columns], "<i4").reshape(-1, 2),
        starts=starts.astype(np.int64),
        distinct=distinct,
        chosen=chosen.astype(np.int64),
    )


def row_names(keys: Array, views: Array) -> Array:
    """Keys (n,) 'S64' hex and views (n,) as one sortable name each: (n,) 'S36'."""
    digits = np.ascontiguousarray(keys, "S64").view(np.uint8).reshape(-1, 64)
    nibbles = _WORTH[digits]
    names = np.empty((len(digits), 36), np.uint8)
    names[:, :32] = nibbles[:, 0::2] << 4 | nibbles[:, 1::2]
    names[:, 32:] = np.ascontiguousarray(views, ">i4").view(np.uint8).reshape(-1, 4)
    return names.view(_NAME).reshape(-1)


def name_parts(names: Array) -> tuple[Array, Array]:
    """Keys (n,) 'S64' and views (n,) int32 of names: the opposite of `row_names`."""
    raw = np.ascontiguousarray(names).view(np.uint8).reshape(-1, 36)
    nibbles = np.stack([raw[:, :32] >> 4, raw[:, :32] & 15], axis=2).reshape(-1, 64)
    digits = np.where(nibbles < 10, nibbles + 48, nibbles + 87).astype(np.uint8)
    views = np.ascontiguousarray(raw[:, 32:]).view(">i4").reshape(-1)
    return digits.view("S64").reshape(-1), views.astype(np.int32)


def _joined(arrays: list[Array], dtype: str) -> Array:
    return np.concatenate(arrays) if arrays else np.empty(0, dtype)
