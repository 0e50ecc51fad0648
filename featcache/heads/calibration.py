"""Calibration: one temperature that makes probabilities mean what they say (Guo et al. 2017)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from featcache.errors import FeatcacheError

#: Probabilities below this are taken for it: the smallest normal float32.
TINY = 1.2e-38

#: With fewer rows than this a temperature would be chance.
FEWEST = 20


@dataclass(frozen=True, slots=True)
class Calibration:
    """What a temperature does to log loss and calibration error on judged rows: before, after."""

    temperature: float
    log_loss: tuple[float, float]
    calibration_error: tuple[float, float]


def rescale(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """p^(1/T), normalised: softer for T > 1, sharper below, the same for T = 1. (n, K) float32."""
    if temperature == 1:
        return probabilities
    logits = np.log(np.maximum(probabilities, TINY), dtype=np.float32)
    scaled = (logits - logits.max(axis=1, keepdims=True)) / np.float32(temperature)
    exponent = np.exp(scaled)
    rescaled: np.ndarray = exponent / exponent.sum(axis=1, keepdims=True)
    return rescaled


def fit_temperature(probabilities: np.ndarray, codes: np.ndarray) -> float:
    """The temperature with the least log loss on rows that the head was not fitted on.

    Parameters
    ----------
    probabilities: (n, K).
    codes: (n,) the true classes, 0 to K - 1.

    Raises
    ------
    FeatcacheError: wrong codes, fewer than `FEWEST` rows, or no temperature has the least loss:
        every row is right (the sharper, the better), or the head is no better than guessing (the
        softer, the better).
    """
    if reason := no_temperature(probabilities, codes):
        raise FeatcacheError(f"no temperature can be told: {reason}")
    return 1 / find_sharpness(_logarithms(probabilities), codes, np.ones(len(codes)))


def find_sharpness(scores: np.ndarray, codes: np.ndarray, weights: np.ndarray) -> float:
    """1 / temperature: the factor of scores (n, K) with the least weighted log loss, 1e-6 to 1e6.

    The loss is convex in the factor: it is least where its slope is 0, first of all where it is so
    everywhere behind.
    """
    from scipy.optimize import brentq

    scores = scores.astype(np.float64) - scores.max(axis=1, keepdims=True)
    true = float(weights @ scores[np.arange(len(codes)), codes])

    def slope(power: float) -> float:
        shares = np.exp(np.exp(power) * scores)
        expected = np.einsum("nk,nk->n", shares, scores) / shares.sum(axis=1)
        # Where sharper changes nothing any more, it is sharp enough.
        return float(weights @ expected) - true or 1e-300

    low, high = np.log([1e-6, 1e6])
    if slope(low) > 0 or slope(high) < 0:
        return 1e-6 if slope(low) > 0 else 1e6
    return float(np.exp(brentq(slope, low, high, xtol=1e-10)))


def no_temperature(probabilities: np.ndarray, codes: np.ndarray) -> str:
    """Why these rows tell no temperature (see `fit_temperature`); "" where they tell one.

    By the slopes of the loss at both ends. Raises `FeatcacheError` for wrong codes or too few rows.
    """
    rows, classes = probabilities.shape
    if rows != len(codes) or not ((codes >= 0) & (codes < classes)).all():
        raise FeatcacheError(
            f"calibration: expected a true class out of {classes} for each of {rows} rows"
        )
    check_enough(rows)
    logarithms = _logarithms(probabilities)
    margins = logarithms - logarithms[np.arange(rows), codes, np.newaxis]
    if not (margins > 0).any():
        return f"all {rows} rows are named right (the sharper, the better)"
    if margins.mean() >= 0:
        return f"on these {rows} rows the head is no better than guessing"
    return ""


def check_enough(rows: int) -> None:
    """Raise `FeatcacheError` where a temperature cannot be set on so few rows."""
    if rows < FEWEST:
        raise FeatcacheError(
            f"--calibrate: {rows} rows are left to set the temperature on, it takes at least "
            f"{FEWEST}: give more images (the validation split, or else a tenth of the training "
            f"images, sets it), or leave --calibrate out"
        )


def _logarithms(probabilities: np.ndarray) -> np.ndarray:
    logarithms: np.ndarray = np.log(np.maximum(probabilities, TINY), dtype=np.float64)
    return logarithms
