"""The plan of a sweep: which rows fit the candidates, and which of them choose."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import combinations

import numpy as np

from featcache.belonging import Belonging
from featcache.errors import FeatcacheError
from featcache.features import Features
from featcache.roles import assign_roles
from featcache.sweeping.folds import deal


@dataclass(frozen=True, slots=True)
class Part:
    """Numbers of the rows that fit a candidate, and of those that it is tried on."""

    train: np.ndarray
    judged: np.ndarray


@dataclass(frozen=True, slots=True)
class Plan:
    """How candidates are compared.

    Attributes
    ----------
    parts: each candidate is fitted and tried once for each.
    pairs: for nested cross-validation, the parts without the folds i and j, by (i, j).
    folds: (R,) the fold of each row, -1 = in none.
    words: the protocol, as a sentence.
    """

    parts: list[Part]
    words: str
    pairs: dict[tuple[int, int], Part] = field(default_factory=dict)
    folds: np.ndarray = field(default_factory=lambda: np.array([], dtype=int))
    remarks: list[str] = field(default_factory=list)

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
    together: Belonging | None = None,
) -> Plan:
    """Choose on training rows only: by the validation split where a test split judges, else folds.

    What belongs together (`together`; None: it is found out) is in one fold.

    Raises `FeatcacheError` where there are too few rows, or no labels.
    """
    if folds < 2:
        raise FeatcacheError(f"--folds {folds}: expected at least 2, such as 5")
    roles = assign_roles(features, seed, together=together)
    remarks = list(roles.remarks)
    splits = set(features.splits.tolist())
    if {"validation", "test"} <= splits and not nested:
        part = _validation_part(features, roles.train)
        if len(part.judged):
            words = f"chosen by accuracy on the validation split ({len(part.judged)} rows)"
            return Plan([part], words, remarks=remarks)
    train = np.flatnonzero(roles.train)
    fold = np.full(len(features), -1)
    fold[train] = _dealt(features[train], roles.unit[train], folds, remarks)
    is_nested = not splits & {"validation", "test"} if nested is None else nested
    pairs = list(combinations(range(folds), 2)) if is_nested else []
    words = f"chosen by {folds}-fold cross-validation on {len(train)} training rows"
    return Plan(
        parts=[_without(features, fold, [each]) for each in range(folds)],
        words=words + (", itself judged by nested cross-validation" if pairs else ""),
        pairs={pair: _without(features, fold, list(pair)) for pair in pairs},
        folds=fold,
        remarks=remarks,
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
            f"{len(small)} classes have fewer training images or groups than there are folds "
            f"({', '.join(small[:3])}): some folds lack them"
        )
    return deal(train.labels, train.keys, unit, folds)


def _without(features: Features, fold: np.ndarray, left_out: list[int]) -> Part:
    """Fitted without some folds, tried on their plain images."""
    tried = np.isin(fold, left_out)
    return Part(np.flatnonzero((fold >= 0) & ~tried), np.flatnonzero(tried & (features.views == 0)))
