"""Class weights: what a row of each class counts."""

from __future__ import annotations

import numpy as np


def balanced_weights(counts: np.ndarray) -> np.ndarray:
    """(K,) float64: with these, all classes that have rows together count the same.

    This is scikit-learn's "balanced". `counts` (K,) are rows, or the sums of their weights; a class
    without any gets 0.
    """
    there = counts > 0
    weights = np.zeros(len(counts))
    weights[there] = counts.sum() / (there.sum() * counts[there])
    return weights
