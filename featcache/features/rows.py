"""Labelled: who the rows of a data set are, where there are no vectors of them.

What assigns roles and what judges needs names, keys, labels, splits and groups, never a vector.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np

from featcache.features.features import Features
from featcache.images import ImageSet


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
