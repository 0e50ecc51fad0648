"""Splits that do not leak: decided by the hash of an image's bytes, so stable and order-free."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from featcache.errors import FeatcacheError
from featcache.images.layout import split_word

#: By how much of a class's share its number of rows may differ from it. See `partition`.
SLACK = 0.1


@dataclass(frozen=True, slots=True)
class Carve:
    """Turn a fraction of one split into the test split: ``--test-from validation:0.2``.

    Inside that split it is `partition` that decides: about the fraction of each class, by the hash
    of the image's bytes or the name of its group, which are never split.
    """

    source: str
    fraction: float

    @classmethod
    def parse(cls, text: str) -> Carve:
        """Read "SPLIT:FRACTION"; raises `FeatcacheError` where it is not that."""
        source, _, fraction = text.partition(":")
        source = canonical(source)
        try:
            share = float(fraction)
        except ValueError:
            share = 0.0
        if source not in ("train", "validation") or not 0 < share < 1:
            raise FeatcacheError(
                f"--test-from {text!r}: expected a split and a fraction between 0 and 1, "
                f"such as validation:0.2 or train:0.1"
            )
        return cls(source, share)

    def apply(
        self, splits: np.ndarray, keys: np.ndarray, *, labels: np.ndarray, groups: np.ndarray
    ) -> np.ndarray:
        """The splits after carving, given those of the images, with what tells who they are.

        Raises `FeatcacheError` where no image is in the source split.
        """
        source = splits == self.source
        if not source.any():
            there = ", ".join(sorted(set(splits.tolist()) - {""})) or "none"
            raise FeatcacheError(
                f"--test-from {self.source}:{self.fraction}: no image is in the split "
                f"{self.source!r} (splits here: {there})"
            )
        taken = np.zeros(len(splits), dtype=bool)
        taken[source] = holdout(labels[source], keys[source], groups[source], self.fraction)
        carved: np.ndarray = np.where(taken, "test", splits)
        return carved


def canonical(split: str) -> str:
    """The name of a split as we write it: val and valid are validation."""
    return split_word(split).lower()


def uniform(key: str, purpose: str) -> float:
    """A number in [0, 1) that depends on nothing but the key and the purpose."""
    digest = hashlib.sha256(f"{purpose}:{key}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


@dataclass(frozen=True, slots=True)
class Shares:
    """What part of each class goes to the test and to the validation split; the rest trains."""

    test: float = 0.2
    validation: float = 0.0

    def __post_init__(self) -> None:
        for option, share in (("--test", self.test), ("--validation", self.validation)):
            if not 0 <= share < 1:
                raise FeatcacheError(f"{option} {share:g}: expected a share such as 0.2, below 1")
        if not 0 < self.test + self.validation < 1:
            raise FeatcacheError(
                f"--test {self.test:g} and --validation {self.validation:g} make "
                f"{self.test + self.validation:g}: expected more than 0, and below 1 so that "
                f"something is left to train on"
            )


def units(keys: np.ndarray, groups: np.ndarray, *, twins: np.ndarray | None = None) -> np.ndarray:
    """What must stay on one side: rows of one group, or of one image's bytes. (R,) integers.

    `twins` (m, 2) are pairs of rows to hold together as well, such as near duplicates. Groups,
    copies and twins hold together in chains: connected components.
    """
    _, by_key = np.unique(keys, return_inverse=True)
    links = []
    if np.any(groups != ""):
        names = np.where(groups == "", np.strings.add("\x00", keys.astype(str)), groups)
        _, by_group = np.unique(names, return_inverse=True)
        links.append(np.column_stack([by_key, by_group + by_key.max() + 1]))
    if twins is not None and len(twins):
        links.append(by_key[twins])
    return _components(by_key, np.concatenate(links)) if links else by_key


def _components(nodes: np.ndarray, links: np.ndarray) -> np.ndarray:
    """The number of each node's connected component."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    size = int(max(nodes.max(), links.max())) + 1
    edges = coo_array((np.ones(len(links)), links.T), shape=(size, size))
    component: np.ndarray
    _, component = connected_components(edges, directed=False)
    found: np.ndarray = component[nodes]
    return found


def holdout(
    labels: np.ndarray,
    keys: np.ndarray,
    groups: np.ndarray,
    fraction: float,
    seed: int = 0,
    unit: np.ndarray | None = None,
) -> np.ndarray:
    """A boolean mask of held-out rows, about `fraction` of each class, no unit on two sides.

    `unit` (R,) says what belongs together; None: copies and groups. These are the test rows of
    `partition` with the same seed.
    """
    unit = units(keys, groups) if unit is None else unit
    held: np.ndarray = (
        partition(labels, unit, marks(keys, groups), Shares(fraction), seed) == "test"
    )
    return held


def marks(keys: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """What a row's side is decided by: the name of its group, or else the hash of its bytes."""
    if not np.any(groups != ""):
        return keys
    # A space sorts before every hex digit: a unit is known by its group, if it has one.
    return np.where(groups == "", keys, np.strings.add(" ", groups.astype(str)))


def partition(
    labels: np.ndarray,
    unit: np.ndarray,
    marks: np.ndarray,
    shares: Shares,
    seed: int = 0,
    former: np.ndarray | None = None,
) -> np.ndarray:
    """Each row's split: about the shares of each class, no unit on two sides.

    A unit's place in [0, 1) is the hash of its smallest mark; it is a test unit below the test
    share, a validation unit below both. So a side depends on the image alone, unless that would
    give its class more than a tenth more or less than its share: then the border moves to there,
    as it mostly does in small classes. A class too small for one image gives one now and then.
    A unit of several classes counts for the most frequent of them.

    `former` (R,) are the splits of units that have one already, "" of the others: only these are
    dealt, so that a class as a whole has its share.
    """
    _, unit = np.unique(unit, return_inverse=True)
    sizes, place, code = np.bincount(unit), _places(unit, marks, seed), _codes(unit, labels)
    splits = np.full(len(sizes), "", dtype="<U10")
    if former is not None:
        splits[unit] = former
    order = np.lexsort((place, code))
    for members in np.split(order, np.flatnonzero(np.diff(code[order])) + 1):
        splits[members] = _dealt(splits[members], place[members], sizes[members], shares)
    rows: np.ndarray = splits[unit]
    return rows


def _dealt(splits: np.ndarray, places: np.ndarray, sizes: np.ndarray, shares: Shares) -> np.ndarray:
    """The splits of one class's units, ordered by place, with those that had none ("")."""
    free = np.flatnonzero(splits == "")
    # A class never gives all it has: something must be left to train on.
    spare = len(free) - (not (splits == "train").any())
    dealt, start, total = splits.copy(), 0.0, sizes.sum()
    for name, share in (("test", shares.test), ("validation", shares.validation)):
        there = int(sizes[splits == name].sum())
        count = _cut(places[free], sizes[free], start + share, share * total, there)
        count = max(min(count, spare), 0) if share else 0
        dealt[free[:count]] = name
        free, spare, start = free[count:], spare - count, start + share
    dealt[free] = "train"
    return dealt


def _places(unit: np.ndarray, marks: np.ndarray, seed: int) -> np.ndarray:
    """A number in [0, 1) for each unit, by its smallest mark."""
    order = np.lexsort((marks, unit))
    first = order[np.unique(unit[order], return_index=True)[1]]
    return np.array([uniform(mark, f"holdout{seed}") for mark in marks[first].tolist()])


def _codes(unit: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The code of each unit's most frequent label, the first in the alphabet of equals."""
    names, code = np.unique(labels, return_inverse=True)
    pairs, counts = np.unique(unit * len(names) + code, return_counts=True)
    owner = pairs // len(names)
    order = np.lexsort((pairs, -counts, owner))
    first = order[np.unique(owner[order], return_index=True)[1]]
    codes: np.ndarray = pairs[first] % len(names)
    return codes


def _cut(places: np.ndarray, sizes: np.ndarray, border: float, rows: float, there: int) -> int:
    """How many of a class's units, ordered by place, go to a split that has `there` rows already.

    Those with a place below the border, but so many that the split gets about that many rows.
    """
    middles = there + np.cumsum(sizes) - sizes / 2
    low, high = np.searchsorted(middles, [(1 - SLACK) * rows, (1 + SLACK) * rows], side="right")
    # A split that has nothing of the class may have one unit, however few its share comes to.
    wanted = min(np.searchsorted(places, border), max(high, 0 if there else 1))
    return int(max(wanted, low))
