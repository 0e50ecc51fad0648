"""Calibration: one temperature that makes probabilities mean what they say (Guo et al. 2017)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from featcache.errors import FeatcacheError

#: Probabilities below this are taken for it: the smallest normal float32.
TINY = 1.2e-38


@dataclass(frozen=True, eq=False)
class Calibrated:
    """A head's model whose probabilities are rescaled by a temperature; classes stay in order."""

    model: Any
    temperature: float

    @property
    def width(self) -> int:
        """Numbers in a vector, D."""
        return int(self.model.width)

    @property
    def outputs(self) -> int:
        """The number of classes K."""
        return int(self.model.outputs)

    def predict_proba(self, vectors: np.ndarray) -> np.ndarray:
        """Class probabilities (n, K), float32, of (n, D) vectors."""
        return rescale(self.model.predict_proba(vectors), self.temperature)


def rescale(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """p^(1/T), normalised: softer for T > 1, sharper below, the same for T = 1. (n, K) float32."""
    if temperature == 1:
        return probabilities
    logits = np.log(np.maximum(probabilities, TINY), dtype=np.float32)
    scaled = (logits - logits.max(axis=1, keepdims=True)) / np.float32(temperature)
    exponent = np.exp(scaled)
    rescaled: np.ndarray = exponent / exponent.sum(axis=1, keepdims=True)
    return rescaled


def fit_temperature(scores: np.ndarray, codes: np.ndarray, *, logits: bool = False) -> float:
    """The temperature with the least log loss on rows that the head was not fitted on.

    Parameters
    ----------
    scores: (n, K) probabilities, or with `logits` what the softmax is taken of.
    codes: (n,) the true classes, 0 to K - 1.

    Raises
    ------
    FeatcacheError: wrong codes, or no temperature has the least loss: every row is right (the
        sharper, the better), or the scores are no better than none (the softer, the better).
    """
    from scipy.optimize import minimize_scalar

    if len(scores) != len(codes) or not len(codes) or not _inside(codes, scores.shape[1]):
        raise FeatcacheError(
            f"calibration: expected a true class out of {scores.shape[1]} for each of "
            f"{len(scores)} rows, and at least one row"
        )
    margins = _margins(scores if logits else np.log(np.maximum(scores, TINY), dtype=float), codes)
    _check_optimum(margins)
    best = minimize_scalar(
        lambda sharpness: _loss(margins, np.exp(sharpness)),
        bounds=(-12.0, 12.0),
        method="bounded",
        options={"xatol": 1e-7},
    )
    return float(np.exp(-best.x))


def _inside(codes: np.ndarray, classes: int) -> bool:
    return bool(((codes >= 0) & (codes < classes)).all())


def _margins(logits: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """(n, K) float64: by how much each class scores above the true one."""
    logits = logits.astype(np.float64)
    margins: np.ndarray = logits - logits[np.arange(len(codes)), codes][:, np.newaxis]
    return margins


def _loss(margins: np.ndarray, sharpness: float) -> float:
    """Log loss of the logits times `sharpness` (= 1 / temperature): convex in it."""
    scaled = margins * sharpness
    top = scaled.max(axis=1)
    return float((top + np.log(np.exp(scaled - top[:, np.newaxis]).sum(axis=1))).mean())


def _check_optimum(margins: np.ndarray) -> None:
    """Refuse what has its least loss at no temperature, by the slopes at both ends."""
    if not (margins > 0).any():
        raise FeatcacheError(
            f"calibration: all {len(margins)} rows are named right, so no temperature can be "
            f"told (the sharper, the better): calibrate on more or harder rows, or not at all"
        )
    if margins.mean() >= 0:
        raise FeatcacheError(
            f"calibration: on these {len(margins)} rows the head is no better than guessing: "
            f"calibrate on rows of the kind it was trained on"
        )
