"""Candidates: the rows of a sweep's table, fitted ones and those that could not be.

Their intervals, on one set of rows or fold by fold; and nested cross-validation: how good the
choosing is, beside how good what was chosen is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from featcache.evaluation.metrics import Interval, accuracy_interval, paired_interval
from featcache.features.features import Features
from featcache.fitting.sweeping.folds import SweepPlan
from featcache.fitting.sweeping.grids import HeadSettings, label_of
from featcache.fitting.sweeping.tasks import Score, TaskOutcome


@dataclass(frozen=True, slots=True)
class Contender:
    """A candidate before it has a score: which features, which head, which settings."""

    tap: Features
    head: str
    settings: HeadSettings


@dataclass(frozen=True, slots=True)
class Candidate:
    """One row of the table: a head with its settings on one file of features.

    Attributes
    ----------
    features, tap: the data set and backbone, and the layer; `path` is their file.
    accuracy, interval: on rows that did not train it, and the 95 % interval.
    seconds: of one fit, median.
    width: numbers in a vector.
    size: bytes of the fitted head's arrays, mean; of `knn`, which keeps its vectors, as many as it
        had rows in a fold.
    """

    features: str
    path: Path
    head: str
    settings: HeadSettings
    accuracy: float
    interval: Interval
    seconds: float
    width: int
    size: int = 0
    tap: str = ""

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "path": str(self.path)}

    @property
    def label(self) -> str:
        return label_of(self.head, self.settings)


@dataclass(frozen=True, slots=True)
class NotFitted:
    """A head with settings that could not be fitted on a file of features, and why."""

    features: str
    path: Path
    head: str
    settings: HeadSettings
    reason: str
    tap: str = ""

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "path": str(self.path)}

    @property
    def label(self) -> str:
        return label_of(self.head, self.settings)


def candidate_of(
    choice: Contender, scores: Sequence[Score], units: Sequence[np.ndarray] | None
) -> Candidate:
    """The row of a choice with its scores on every part; `units` are those of the parts' rows."""
    tap = choice.tap
    right = [score.right for score in scores]
    return Candidate(
        features=tap.name,
        path=tap.path,
        head=choice.head,
        settings=choice.settings,
        accuracy=float(np.concatenate(right).mean()),
        interval=interval_of(right, units),
        # The first fit of a kind also loads its libraries.
        seconds=float(np.median([score.seconds for score in scores])),
        width=tap.width,
        size=round(np.mean([score.size for score in scores])),
        tap=tap.recipe.tap,
    )


def interval_of(folds: Sequence[np.ndarray], units: Sequence[np.ndarray] | None = None) -> Interval:
    """The 95 % interval of an accuracy from its folds, each (n,) bool: which rows were right.

    `units` (n,) of each fold number what belongs together (a group, copies of an image); None: the
    rows are independent. One fold: Wilson's, as in `evaluate`. Several: Nadeau and Bengio's
    corrected resampled t (Machine Learning 52, 2003), which allows for training sets that overlap;
    Wilson's alone is too short here. It is never shorter than Wilson's on all rows, for folds that
    happen to agree.
    """
    right = np.concatenate(list(folds))
    least = accuracy_interval(right, _all_units(folds, units))
    return _spread(least, [float(fold.mean()) for fold in folds], float(right.mean()), (0.0, 1.0))


def paired_interval_of(
    first: Sequence[np.ndarray],
    second: Sequence[np.ndarray],
    units: Sequence[np.ndarray] | None = None,
) -> Interval:
    """The 95 % interval of how much more accurate `first` is than `second` on the same folds.

    As `interval_of`, with the differences of the folds, and never shorter than the paired interval
    on all rows.
    """
    one, other = np.concatenate(list(first)), np.concatenate(list(second))
    least = paired_interval(one, other, _all_units(first, units))
    differences = [float(a.mean() - b.mean()) for a, b in zip(first, second, strict=True)]
    return _spread(least, differences, float(one.mean() - other.mean()), (-1.0, 1.0))


def _all_units(folds: Sequence[np.ndarray], units: Sequence[np.ndarray] | None) -> np.ndarray:
    rows = sum(map(len, folds))
    return np.arange(rows) if units is None else np.concatenate(list(units))


def _spread(least: Interval, scores: list[float], mean: float, ends: Interval) -> Interval:
    """`least`, or as much more as the scores of the folds differ."""
    if len(scores) == 1:
        return least
    from scipy.special import stdtrit

    tested_per_trained = 1 / (len(scores) - 1)
    variance = float(np.var(scores, ddof=1)) * (1 / len(scores) + tested_per_trained)
    reach = float(stdtrit(len(scores) - 1, 0.975)) * math.sqrt(variance)
    low, high = least
    return max(ends[0], min(low, mean - reach)), min(ends[1], max(high, mean + reach))


@dataclass(frozen=True, slots=True)
class Nested:
    """How good the *procedure* is: choosing in the inner folds, judged in the outer ones."""

    accuracy: float
    interval: Interval
    chosen: list[str]


def judge_choosing(
    plan: SweepPlan, candidates: Sequence[Candidate], outcomes: Sequence[Sequence[TaskOutcome]]
) -> Nested | None:
    """In each fold, the winner of the others is judged: on rows that had no part in the choice.

    The inner folds of a fold are the other ones: the candidate that was fitted without the folds i
    and j and tried on j counts for i, tried on i it counts for j, so one fit serves two. None
    where there are no such fits, or in some fold not one candidate could be fitted.

    `outcomes`: of each candidate, on every part of the plan.
    """
    if not plan.pairs:
        return None
    right, chosen = [], []
    for fold in range(len(plan.parts)):
        inner = [_inner_accuracy(plan, each, fold) for each in outcomes]
        winner = int(np.argmax(inner))
        score = outcomes[winner][fold]
        if inner[winner] < 0 or not isinstance(score, Score):
            return None
        right.append(score.right)
        chosen.append(f"{candidates[winner].features} {candidates[winner].label}")
    interval = interval_of(right, plan.units_of(plan.parts))
    return Nested(float(np.concatenate(right).mean()), interval, chosen)


def _inner_accuracy(plan: SweepPlan, outcomes: Sequence[TaskOutcome], fold: int) -> float:
    """A candidate's accuracy on the folds other than one, never fitted with that one.

    -1 where it could not be fitted on some of them: then it is not chosen there.
    """
    pieces = []
    for (pair, part), score in zip(plan.pairs.items(), outcomes[len(plan.parts) :], strict=True):
        if fold not in pair:
            continue
        if not isinstance(score, Score):
            return -1.0
        other = pair[0] if pair[1] == fold else pair[1]
        pieces.append(score.right[plan.folds[part.judged] == other])
    return float(np.concatenate(pieces).mean())
