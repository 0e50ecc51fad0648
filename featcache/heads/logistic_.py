"""Multinomial logistic regression on standardised vectors, L2-penalised. See `logistic`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from featcache.errors import FeatcacheError
from featcache.heads.logistic import Solution

#: Rows standardised and multiplied at a time in `predict_proba`.
BLOCK = 8192


@dataclass(frozen=True, eq=False)
class LogisticHead:
    """A fitted logistic head. With two classes it is one weight vector, as in scikit-learn.

    Attributes
    ----------
    coefficients: (K, D) float32, or (1, D) for two classes.
    intercept: (K,) or (1,) float32.
    mean, scale: (D,) float32, of the training vectors.
    settings: C, iterations and whether the solver converged.
    """

    coefficients: np.ndarray
    intercept: np.ndarray
    mean: np.ndarray
    scale: np.ndarray
    settings: dict[str, Any]

    @classmethod
    def of(cls, found: Solution) -> LogisticHead:
        """The head of a solution on standardised vectors."""
        return cls(
            coefficients=(found.coefficients * found.scale).astype(np.float32),
            intercept=(found.intercept + found.coefficients @ found.mean).astype(np.float32),
            mean=found.mean.astype(np.float32),
            scale=found.scale.astype(np.float32),
            settings={"C": found.C, "iterations": found.iterations, "converged": found.converged},
        )

    def predict_proba(self, vectors: np.ndarray) -> np.ndarray:
        """Class probabilities (n, K), float32, of (n, D) vectors; works in blocks of rows."""
        weights = self.coefficients.astype(np.float64) / self.scale
        offset = self.intercept - weights @ self.mean
        parts = [
            vectors[start : start + BLOCK].astype(np.float32) @ weights.T.astype(np.float32)
            for start in range(0, len(vectors), BLOCK)
        ]
        empty = np.zeros((0, len(self.intercept)), np.float32)
        logits = (np.concatenate(parts) if parts else empty) + offset
        if logits.shape[1] == 1:
            logits = np.concatenate([np.zeros_like(logits), logits], axis=1)
        exponent = np.exp(logits - logits.max(axis=1, keepdims=True))
        probabilities: np.ndarray = exponent / exponent.sum(axis=1, keepdims=True)
        return probabilities.astype(np.float32)

    @property
    def outputs(self) -> int:
        """The number of classes K."""
        return max(2, len(self.intercept))

    @property
    def width(self) -> int:
        """Numbers in a vector, D."""
        return int(self.coefficients.shape[1])

    def state(self) -> dict[str, np.ndarray]:
        """The arrays that, with `settings`, are the whole head."""
        names = ("coefficients", "intercept", "mean", "scale")
        return {name: getattr(self, name) for name in names}

    @classmethod
    def from_state(cls, state: dict[str, np.ndarray], settings: dict[str, Any]) -> LogisticHead:
        """The head that `state` described; raises `FeatcacheError` where the arrays do not fit."""
        head = cls(settings=settings, **{name: state[name] for name in cls._shapes(state)})
        for name, array in head.state().items():
            if array.dtype != np.float32 or not np.isfinite(array).all():
                raise FeatcacheError(f"the array {name!r} is not finite float32")
        return head

    @staticmethod
    def _shapes(state: dict[str, np.ndarray]) -> tuple[str, ...]:
        names = ("coefficients", "intercept", "mean", "scale")
        lacking = [name for name in names if name not in state]
        if lacking:
            raise FeatcacheError(f"the arrays {lacking} are missing")
        rows, width = state["coefficients"].shape
        if state["intercept"].shape != (rows,) or any(
            state[name].shape != (width,) for name in ("mean", "scale")
        ):
            raise FeatcacheError("the arrays of the head do not fit together")
        return names
