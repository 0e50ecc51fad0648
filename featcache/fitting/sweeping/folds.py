"""The plan of a sweep: which rows fit the candidates, and which of them choose.

Folds and subsets never split a unit: the views and copies of an image, or a group. Several files of
features are brought to the rows they share.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np

from featcache.errors import FeatcacheError
from featcache.features.features import Features
from featcache.features.splits.partition import uniform, units
from featcache.features.splits.roles import Roles, assign_roles
from featcache.features.splits.ties import Ties


@dataclass(frozen=True, slots=True)
class Part:
    """Numbers of the rows that fit a candidate, and of those that it is tried on."""

    train: np.ndarray
    judged: np.ndarray


@dataclass(frozen=True, slots=True)
class SweepPlan:
    """How candidates are compared.

    Attributes
    ----------
    parts: each candidate is fitted and tried once for each.
    pairs: for nested cross-validation, the parts without the folds i and j, by (i, j).
    folds: (R,) the fold of each row, -1 = in none.
    units: (R,) numbers what belongs together: a group, or copies and views of an image.
    words: the protocol, as a sentence.
    split: of the file, on which the candidates were compared; "": on training rows.
    """

    parts: list[Part]
    words: str
    pairs: dict[tuple[int, int], Part] = field(default_factory=dict)
    folds: np.ndarray = field(default_factory=lambda: np.array([], dtype=int))
    units: np.ndarray | None = None
    remarks: list[str] = field(default_factory=list)
    split: str = ""

    def units_of(self, parts: list[Part]) -> list[np.ndarray] | None:
        """The units of the rows that each part judges on."""
        return None if self.units is None else [self.units[part.judged] for part in parts]

    @property
    def every(self) -> list[Part]:
        """All parts, those of the nested cross-validation last."""
        return [*self.parts, *self.pairs.values()]


def make_plan(
    features: Features,
    *,
    folds: int,
    nested: bool | None,
    seed: int,
    ties: Ties | None = None,
) -> SweepPlan:
    """Choose on training rows only: by the validation split where a test split judges, else folds.

    What belongs together (`ties`; None: it is found out) is in one fold.

    Raises `FeatcacheError` where there are too few rows, or no labels.
    """
    if folds < 2:
        raise FeatcacheError(f"--folds {folds}: expected at least 2, such as 5")
    roles = assign_roles(features, seed, ties=ties)
    splits = set(features.splits.tolist())
    if {"validation", "test"} <= splits and not nested:
        part = _validation_part(features, roles.train)
        if len(part.judged):
            words = f"chosen by accuracy on the validation split ({len(part.judged)} rows)"
            remarks = list(roles.remarks)
            return SweepPlan([part], words, units=roles.unit, remarks=remarks, split="validation")
    return _by_folds(features, roles, folds=folds, nested=nested)


def _by_folds(features: Features, roles: Roles, *, folds: int, nested: bool | None) -> SweepPlan:
    """Cross-validation on the training rows."""
    train, remarks = np.flatnonzero(roles.train), list(roles.remarks)
    fold = np.full(len(features), -1)
    fold[train] = _dealt(features[train], roles.unit[train], folds, remarks)
    parts = [_without(features, fold, [each]) for each in range(folds)]
    _check_classes(features, parts, "cross-validation")
    is_nested = not set(features.splits) & {"validation", "test"} if nested is None else nested
    pairs = {
        pair: _without(features, fold, list(pair))
        for pair in (combinations(range(folds), 2) if is_nested else ())
    }
    try:
        _check_classes(features, list(pairs.values()), "nested cross-validation (--nested)")
    except FeatcacheError as error:
        if nested:
            raise
        pairs = {}
        remarks.append(f"the choosing itself is not judged: {error}")
    words = f"chosen by {folds}-fold cross-validation on {len(train)} training rows"
    words += ", itself judged by nested cross-validation" if pairs else ""
    return SweepPlan(parts, words, pairs, fold, roles.unit, remarks)


def _check_classes(features: Features, parts: list[Part], what: str) -> None:
    """Raise `FeatcacheError` that names the rare class where a part has one class to learn only."""
    for part in parts:
        if len(features[part.train].classes) > 1:
            continue
        rows = features[np.union1d(part.train, part.judged)]
        counts = {name: len(set(rows.keys[rows.labels == name].tolist())) for name in rows.classes}
        rare = min(counts, key=lambda name: counts[name])
        raise FeatcacheError(
            f"{what} has to leave out all {counts[rare]} training images of {rare!r} at once, and "
            f"no second class is left to learn: give more images of {rare!r} that are not in one "
            f"group, or a validation and a test split"
        )


def _validation_part(features: Features, train: np.ndarray) -> Part:
    """Training rows, and the validation rows whose images are not among them."""
    judged = (features.splits == "validation") & (features.labels != "") & (features.views == 0)
    judged &= ~np.isin(features.keys, features.keys[train])
    return Part(np.flatnonzero(train & (features.splits != "validation")), np.flatnonzero(judged))


def _dealt(train: Features, unit: np.ndarray, folds: int, remarks: list[str]) -> np.ndarray:
    """The fold of each training row; classes with too few images are told."""
    count = len(np.unique(unit))
    if count < 2 * folds:
        raise FeatcacheError(
            f"--folds {folds}: {train.path} has {count} training images (a group counts as "
            f"one), and each fold needs two: give --folds {max(2, count // 2)}, or more images"
        )
    sizes = {name: len(np.unique(unit[train.labels == name])) for name in train.classes}
    small = [name for name, size in sizes.items() if size < folds]
    if small:
        remarks.append(
            f"with fewer training images or groups than there are folds, some folds lack "
            f"{', '.join(map(repr, small[:3]))}{', ...' * (len(small) > 3)}"
        )
    return deal(train.labels, train.keys, unit, folds)


def _without(features: Features, fold: np.ndarray, left_out: list[int]) -> Part:
    """Fitted without some folds, tried on their plain images."""
    tried = np.isin(fold, left_out)
    return Part(np.flatnonzero((fold >= 0) & ~tried), np.flatnonzero(tried & (features.views == 0)))


def deal(labels: np.ndarray, keys: np.ndarray, unit: np.ndarray, folds: int) -> np.ndarray:
    """The fold of each row, (R,) int: about the same rows of every class in each.

    Rows of one `unit` share a fold. Decided by hashes of the images' bytes, whatever the order of
    the rows. The largest units go first, each to the fold that has fewest rows of its class.
    """
    classes, codes = np.unique(labels, return_inverse=True)
    filled = np.zeros((folds, len(classes)), dtype=np.int64)
    fold_of = np.empty(int(unit.max()) + 1, dtype=np.int64)
    sizes = np.bincount(unit)
    for number, code in _ordered(unit, codes, keys, "fold", by_size=True):
        # Ties go to the fold with the fewest rows of all classes, then to the first one.
        fold = min(range(folds), key=lambda each: (filled[each, code], filled[each].sum()))
        filled[fold, code] += sizes[number]
        fold_of[number] = fold
    dealt: np.ndarray = fold_of[unit]
    return dealt


def growing_subsets(
    labels: np.ndarray, keys: np.ndarray, groups: np.ndarray, shares: Sequence[float]
) -> list[np.ndarray]:
    """Masks of growing subsets of the rows, with that share of every class and at least two units.

    A smaller subset is a part of every larger one.
    """
    unit = units(keys, groups)
    _, codes = np.unique(labels, return_inverse=True)
    rank = np.empty(int(unit.max()) + 1)
    members: dict[int, list[int]] = {}
    for number, code in _ordered(unit, codes, keys, "grow", by_size=False):
        members.setdefault(code, []).append(number)
    for numbers in members.values():
        # The k-th of n is in every share above k/n; the first two are in all of them.
        rank[numbers] = np.arange(len(numbers)) / len(numbers)
        rank[numbers[:2]] = 0.0
    return [rank[unit] < share for share in shares]


def _ordered(
    unit: np.ndarray, codes: np.ndarray, keys: np.ndarray, purpose: str, *, by_size: bool
) -> list[tuple[int, int]]:
    """The units and the class of each, ordered by a hash of its smallest key."""
    order = np.lexsort((codes, keys))
    numbers, first = np.unique(unit[order], return_index=True)
    rows = order[first]
    sizes = np.bincount(unit)
    found = [
        (-int(sizes[number]) if by_size else 0, uniform(str(keys[row]), purpose), number, row)
        for number, row in zip(numbers.tolist(), rows.tolist(), strict=True)
    ]
    return [(number, int(codes[row])) for *_, number, row in sorted(found)]


def align(features: Sequence[Features]) -> tuple[list[Features], list[str]]:
    """The rows (image and view) that all features have, in the order of the first; remarks.

    Raises `FeatcacheError` where they share none, or do not agree about labels, splits or groups.
    """
    first = _identities(features[0])
    shared = first
    for each in features[1:]:
        shared = np.intersect1d(shared, _identities(each))
    if not len(shared):
        raise FeatcacheError(
            f"{features[0].name} and {features[-1].name} share no image: a sweep compares "
            f"features of the same images under the same names"
        )
    order = first[np.isin(first, shared)]
    taps = [each[_places(_identities(each), order)] for each in features]
    for other in taps[1:]:
        _check_same(taps[0], other)
    left_out = max(len(each) for each in features) - len(order)
    remarks = [f"{left_out} rows are not in all of the features: left out"] if left_out else []
    return taps, remarks


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
                f"{first.names[row]!r} has other {column} in {first.name} "
                f"({str(getattr(first, column)[row])!r}) than in {other.name} "
                f"({str(getattr(other, column)[row])!r}): run `featcache extract` again for both"
            )
