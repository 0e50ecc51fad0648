"""Rows: some rows of a memory map, read only when they are asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from featcache.features.features import Features

#: Chosen rows up to this size are copied into memory; more are read block by block.
IN_MEMORY = 2 * 2**30


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

    @property
    def nbytes(self) -> int:
        return len(self) * self.shape[1] * self.dtype.itemsize

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
