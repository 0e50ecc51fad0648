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
    from scipy.optimize import minimize_scalar

    margins = _margins(probabilities, codes)
    if reason := _no_optimum(margins):
        raise FeatcacheError(f"no temperature can be told: {reason}")
    best = minimize_scalar(
        lambda sharpness: _loss(margins, np.exp(sharpness)),
        bounds=(-12.0, 12.0),
        method="bounded",
        options={"xatol": 1e-7},
    )
    return float(np.exp(-best.x))


def no_temperature(probabilities: np.ndarray, codes: np.ndarray) -> str:
    """Why these rows tell no temperature (see `fit_temperature`); "" where they tell one."""
    return _no_optimum(_margins(probabilities, codes))


def check_enough(rows: int) -> None:
    """Raise `FeatcacheError` where a temperature cannot be set on so few rows."""
    if rows < FEWEST:
        raise FeatcacheError(
            f"--calibrate: {rows} rows are left to set the temperature on, it takes at least "
            f"{FEWEST}: give more images (the validation split, or else a tenth of the training "
            f"images, sets it), or leave --calibrate out"
        )


def _margins(probabilities: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """(n, K) float64: by how much each class's logit is above the true one's; rows are checked."""
    rows, classes = probabilities.shape
    if rows != len(codes) or not ((codes >= 0) & (codes < classes)).all():
        raise FeatcacheError(
            f"calibration: expected a true class out of {classes} for each of {rows} rows"
        )
    check_enough(rows)
    logarithms = np.log(np.maximum(probabilities, TINY), dtype=np.float64)
    true = logarithms[np.arange(len(codes)), codes]
    margins: np.ndarray = logarithms - true[:, np.newaxis]
    return margins


def _loss(margins: np.ndarray, sharpness: float) -> float:
    """Log loss of the logits times `sharpness` (= 1 / temperature): convex in it."""
    scaled = margins * sharpness
    top = scaled.max(axis=1)
    return float((top + np.log(np.exp(scaled - top[:, np.newaxis]).sum(axis=1))).mean())


def _no_optimum(margins: np.ndarray) -> str:
    """Why the least loss is at no temperature, by the slopes at both ends; "" where it is."""
    if not (margins > 0).any():
        return f"all {len(margins)} rows are named right (the sharper, the better)"
    if margins.mean() >= 0:
        return f"on these {len(margins)} rows the head is no better than guessing"
    return ""
