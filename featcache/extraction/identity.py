"""Identity: who the rows of a data set are. Names, labels, splits and groups, never vectors."""

from __future__ import annotations

import numpy as np

from featcache.features.splits.partition import Carve
from featcache.features.store import Failure, Identity
from featcache.images import ImageSet


def identify(
    images: ImageSet,
    keys: np.ndarray,
    present: tuple[np.ndarray, np.ndarray],
    *,
    failures: list[Failure],
    carve: Carve | None,
) -> Identity:
    """The identity of some rows: `present` are their images' numbers and their views, in order.

    `keys` (N,) 'S64' belongs to all images, b"" of those that were never read. A carved split is
    decided on all of the others, so it is the same for every layer and backbone.
    """
    indices, views = present
    rows = indices.tolist()
    splits = images.splits if carve is None else _carved(images, keys, carve)
    labels, classes = coded([images.labels[row] for row in rows])
    split_codes, split_names = coded([splits[row] for row in rows])
    groups, group_names = coded([images.groups[row] for row in rows])
    return Identity(
        paths=[images.names[row] for row in rows],
        keys=keys[indices],
        views=views,
        labels=labels,
        classes=classes,
        splits=split_codes,
        split_names=split_names,
        groups=groups,
        group_names=group_names,
        failures=failures,
    )


def _carved(images: ImageSet, keys: np.ndarray, carve: Carve) -> list[str]:
    """The split of every image, part of one made the test split; of unread ones as it was."""
    known = keys != b""
    splits = np.array(images.splits, dtype="<U10")
    splits[known] = carve.apply(
        splits[known],
        keys[known].astype(str),
        labels=np.array(images.labels, dtype=str)[known],
        groups=np.array(images.groups, dtype=str)[known],
    )
    carved: list[str] = splits.tolist()
    return carved


def coded(values: list[str]) -> tuple[np.ndarray, list[str]]:
    """int32 codes into the sorted distinct names; "" is -1."""
    names = sorted(set(values) - {""})
    code = {"": -1, **{name: position for position, name in enumerate(names)}}
    return np.array([code[value] for value in values], np.int32), names
