"""Intervals of an accuracy that was measured on one set of rows, or fold by fold."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

Z = 1.959964

Interval = tuple[float, float]


def wilson(accuracy: float, rows: int) -> Interval:
    """Wilson's 95 % score interval (1927) of a share seen in independent rows."""
    spread = Z * Z / rows
    middle = (accuracy + spread / 2) / (1 + spread)
    reach = Z / (1 + spread) * math.sqrt(accuracy * (1 - accuracy) / rows + spread / (4 * rows))
    # Rounding must not put the share itself outside, at 0 and at 1.
    return max(0.0, min(middle - reach, accuracy)), min(1.0, max(middle + reach, accuracy))


def interval_of(folds: Sequence[np.ndarray]) -> Interval:
    """The 95 % interval of an accuracy from its folds, each (n,) bool: which rows were right.

    One fold: Wilson's. Several: Nadeau and Bengio's corrected resampled t (Machine Learning 52,
    2003), which allows for training sets that overlap; Wilson's alone is too short here. It is
    never shorter than Wilson's on all rows, for folds that happen to agree.
    """
    right = np.concatenate(list(folds))
    low, high = wilson(float(right.mean()), len(right))
    if len(folds) == 1:
        return low, high
    from scipy.special import stdtrit

    scores = np.array([fold.mean() for fold in folds])
    tested_per_trained = 1 / (len(folds) - 1)
    variance = scores.var(ddof=1) * (1 / len(folds) + tested_per_trained)
    reach = float(stdtrit(len(folds) - 1, 0.975) * math.sqrt(variance))
    mean = float(right.mean())
    return max(0.0, min(low, mean - reach)), min(1.0, max(high, mean + reach))
