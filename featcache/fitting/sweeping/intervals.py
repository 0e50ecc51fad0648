"""Intervals of an accuracy, or of a difference, measured on one set of rows or fold by fold."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from featcache.evaluation.metrics import Interval, accuracy_interval, paired_interval


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
