"""Rows without vectors, and vectors that are read only when they are asked for.

What assigns roles and what judges needs names, keys, labels, splits and groups, never a vector.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from featcache.features.features import Features
from featcache.images import ImageSet

#: Chosen rows up to this size are copied into memory; more are read block by block.
IN_MEMORY = 2 * 2**30


@dataclass(frozen=True, eq=False)
class Labelled:
    """Images by row, with the columns of `Features`; a mask or row numbers give those rows.

    Attributes
    ----------
    path: where they come from, for messages.
    names, keys, labels, splits, groups: (R,) strings; `keys` are the SHA-256 of the images' bytes.
    views: (R,) int32, 0 = the plain image.
    """

    path: Path
    names: np.ndarray
    keys: np.ndarray
    labels: np.ndarray
    splits: np.ndarray
    groups: np.ndarray
    views: np.ndarray

    @classmethod
    def of(cls, images: ImageSet, indices: np.ndarray, keys: np.ndarray) -> Labelled:
        """Some images of a set, as plain rows; `keys` is one each of them."""

        def picked(column: list[str]) -> np.ndarray:
            return np.array([column[index] for index in indices.tolist()], dtype=str)

        return cls(
            path=images.root or Path(images.name),
            names=picked(images.names),
            keys=keys,
            labels=picked(images.labels),
            splits=picked(images.splits),
            groups=picked(images.groups),
            views=np.zeros(len(indices), np.int32),
        )

    @property
    def classes(self) -> list[str]:
        """The distinct labels of these rows, sorted; rows without a label do not count."""
        return sorted(set(self.labels.tolist()) - {""})

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, rows: slice | np.ndarray) -> Labelled:
        """Some of the rows."""
        columns = [field.name for field in fields(self) if field.name != "path"]
        return replace(self, **{name: getattr(self, name)[rows] for name in columns})


#: Rows that roles are assigned to, and that are judged.
Rows = Features | Labelled


@dataclass(frozen=True, eq=False)
class LazyRows:
    """Looks like an (n, D) array as far as indexing by rows goes; nothing is read before."""

    source: np.ndarray
    numbers: np.ndarray

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.numbers), int(self.source.shape[1])

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.source.dtype

    @property
    def ndim(self) -> int:
        return 2

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        numbers = self.numbers[rows]
        order = np.argsort(numbers, kind="stable")
        # In the file's order, then back: a disk reads forward.
        read: np.ndarray = self.source[numbers[order]]
        back = np.empty_like(read)
        back[order] = read
        return back

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        whole: np.ndarray = np.asarray(self[:], dtype=dtype)
        return whole


def rows_of(features: Features, mask: np.ndarray) -> Any:
    """The vectors under a mask: a piece of the memory map where the rows are neighbours, a copy
    where they are few, else `LazyRows`.
    """
    numbers = np.flatnonzero(mask)
    if len(numbers) and numbers[-1] - numbers[0] + 1 == len(numbers):
        return features[int(numbers[0]) : int(numbers[-1]) + 1].vectors
    if len(numbers) * features.row_bytes <= IN_MEMORY:
        return features[numbers].vectors
    return LazyRows(features.vectors_of(numbers), numbers)
