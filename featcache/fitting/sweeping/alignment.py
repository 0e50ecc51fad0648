"""Alignment: the rows that several files of features of the same images share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from featcache.errors import FeatcacheError
from featcache.features.features import Features


@dataclass(frozen=True, slots=True)
class Aligned:
    """Features of the same images, row by row.

    Attributes
    ----------
    taps: the features, each restricted to the shared rows, in the same order.
    remarks: what was left out.
    """

    taps: list[Features]
    remarks: list[str]


def align(features: Sequence[Features]) -> Aligned:
    """The rows (image and view) that all features have, in the order of the first.

    Raises `FeatcacheError` where they share none, or do not agree about labels, splits or groups.
    """
    first = _identities(features[0])
    shared = first
    for each in features[1:]:
        shared = np.intersect1d(shared, _identities(each))
    if not len(shared):
        raise FeatcacheError(
            f"{_name(features[0])} and {_name(features[-1])} share no image: a sweep compares "
            f"features of the same images under the same names"
        )
    order = first[np.isin(first, shared)]
    taps = [each[_places(_identities(each), order)] for each in features]
    for other in taps[1:]:
        _check_same(taps[0], other)
    left_out = max(len(each) for each in features) - len(order)
    remarks = [f"{left_out} rows are not in all of the features: left out"] if left_out else []
    return Aligned(taps, remarks)


def _identities(features: Features) -> np.ndarray:
    """(R,) a string for each row: the image's bytes, its name and the view."""
    views = features.views.astype(str)
    return np.strings.add(np.strings.add(features.keys, views), features.names)


def _places(identities: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    order = np.argsort(identities, kind="stable")
    places: np.ndarray = order[np.searchsorted(identities, wanted, sorter=order)]
    return places


def _check_same(first: Features, other: Features) -> None:
    for column in ("labels", "splits", "groups"):
        differ = np.flatnonzero(getattr(first, column) != getattr(other, column))
        if len(differ):
            row = differ[0]
            raise FeatcacheError(
                f"{first.names[row]!r} has other {column} in {_name(first)} "
                f"({str(getattr(first, column)[row])!r}) than in {_name(other)} "
                f"({str(getattr(other, column)[row])!r}): run `featcache extract` again for both"
            )


def _name(features: Features) -> str:
    return f"{features.path.parent.parent.name}/{features.path.parent.name}"
