"""Ties: which rows must stay on one side when rows are dealt: copies, groups, near duplicates.

Near duplicates are looked for where that takes no longer than a fit does, and kept together where
the network can tell them from others: to early layers and untrained networks, all looks alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from featcache.errors import FeatcacheError
from featcache.features.features import Features
from featcache.features.rows import Rows
from featcache.features.splits.division import twins
from featcache.features.splits.duplicates import NEAR
from featcache.features.splits.partition import units

#: Up to so many images and numbers, near duplicates are looked for: 3 s on two busy cores.
ROWS, NUMBERS = 20_000, 30_000_000
#: Pairs looked at for each image; where there are more, most images look alike.
LOOKS = 30
#: A chain of near duplicates with more than this part of a class only looks like one.
MOST_OF_CLASS = 0.5

_NO_PAIRS = np.empty((0, 2), np.int64)


@dataclass(frozen=True, eq=False)
class Ties:
    """Which rows belong together.

    Attributes
    ----------
    unit: (R,) integers, the same for rows that must stay on one side.
    pairs: (m, 2) the near duplicates among them, as row numbers.
    remark: why near duplicates were not looked for, or not kept together; "" = they were.
    """

    unit: np.ndarray
    pairs: np.ndarray = field(default_factory=lambda: np.empty((0, 2), np.int64))
    remark: str = ""

    @property
    def twins(self) -> int:
        """Images that have a near duplicate."""
        return len(np.unique(self.pairs))


def find_ties(rows: Rows, others: Sequence[Features] = ()) -> Ties:
    """What belongs together among rows, and among other features of the same rows.

    Rows without vectors have copies and groups alone.
    """
    found = [_pairs(each) for each in (rows, *others) if isinstance(each, Features)]
    pairs = np.concatenate([_NO_PAIRS, *(each for each, _ in found)])
    # Where one network could tell, it does not matter that another could not.
    remarks = [remark for _, remark in found]
    remark = "" if "" in remarks else next(iter(remarks), "")
    return Ties(units(rows.keys, rows.groups, twins=pairs), np.unique(pairs, axis=0), remark)


def _pairs(features: Features) -> tuple[np.ndarray, str]:
    """Near duplicates among the labelled plain images, or why there are none to be told."""
    name = features.name
    plain = np.flatnonzero((features.labels != "") & (features.views == 0))
    if len(plain) > ROWS or len(plain) * features.width > NUMBERS:
        return _NO_PAIRS, (
            f"near duplicates were not looked for among {len(plain):,} images: `featcache split "
            f"{name} --splits FILE.csv` looks, and makes a split that keeps them on one side"
        )
    try:
        pairs = twins(features, NEAR, plain, looks=LOOKS * len(plain)).rows
    except FeatcacheError:  # too many to look at: nothing else can be wrong with this call
        pairs, has_false = _NO_PAIRS, True
    else:
        pairs, has_false = _without_false_chains(features, plain, pairs)
    return pairs, has_false * (
        f"near duplicates are not all kept on one side: to these vectors most images of a class "
        f"look alike (cosine of {NEAR:g} and more); `featcache split {name} --near COSINE --splits "
        f"FILE.csv` makes a split with a higher one"
    )


def _without_false_chains(
    features: Features, plain: np.ndarray, pairs: np.ndarray
) -> tuple[np.ndarray, bool]:
    """The pairs without chains that hold most of a class, and whether there were such."""
    if not len(pairs):
        return pairs, False
    alone, chained = (
        units(features.keys, features.groups, twins=links)[plain] for links in (None, pairs)
    )
    is_false = _most_of_class(features.labels[plain], chained)
    is_false &= ~np.isin(chained, chained[_most_of_class(features.labels[plain], alone)])
    bad = np.isin(pairs[:, 0], plain[np.isin(chained, chained[is_false])])
    return pairs[~bad], bool(bad.any())


def _most_of_class(labels: np.ndarray, unit: np.ndarray) -> np.ndarray:
    """Which rows are of a unit with all of their class, or most of it and more than two images."""
    _, code = np.unique(labels, return_inverse=True)
    sizes = np.bincount(code)[code]
    _, cell, counts = np.unique(
        code * (int(unit.max()) + 1) + unit, return_inverse=True, return_counts=True
    )
    held = counts[cell]
    most: np.ndarray = (held > np.maximum(MOST_OF_CLASS * sizes, 2)) | (held == sizes)
    return most & (sizes > 1)
