"""Multinomial logistic regression on standardised vectors (scikit-learn's, L2-penalised)."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

from featcache.errors import FeatcacheError

#: Rows standardised and multiplied at a time in `predict_proba`.
BLOCK = 8192

#: Numbers in a matrix up to which one BLAS thread is the fastest: where anything else runs, the
#: threads of a small product wait for each other longer than they compute.
SMALL = 20_000_000


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
    def fit(
        cls, vectors: np.ndarray, codes: np.ndarray, *, C: float, weights: np.ndarray | None = None
    ) -> LogisticHead:
        """Fit on (n, D) float32 vectors, which are **overwritten**, and (n,) class codes."""
        mean, scale = standardise(vectors)
        solver = solve(vectors, codes, C=C, weights=weights)
        return cls(
            coefficients=solver.coef_.astype(np.float32),
            intercept=solver.intercept_.astype(np.float32),
            mean=mean,
            scale=scale,
            settings={
                "C": C,
                "iterations": int(solver.n_iter_.max()),
                "converged": bool(solver.n_iter_.max() < solver.max_iter),
            },
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


def standardise(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Subtract each column's mean and divide by its deviation, in place; gives both, float32."""
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler(copy=False).fit(vectors)
    scaler.transform(vectors)
    return scaler.mean_.astype(np.float32), scaler.scale_.astype(np.float32)


def solve(
    vectors: np.ndarray,
    codes: np.ndarray,
    *,
    C: float,
    tol: float = 1e-4,
    start: Any = None,
    weights: np.ndarray | None = None,
) -> Any:
    """scikit-learn's `LogisticRegression` fitted on standardised vectors, from `start` if given.

    `tol` bounds the largest entry of the gradient of the mean loss.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    solver = LogisticRegression(C=C, max_iter=1000, tol=tol, warm_start=start is not None)
    if start is not None:
        solver.coef_, solver.intercept_ = start.coef_, start.intercept_
        solver.classes_ = start.classes_
    with warnings.catch_warnings(), threadpool_limits(1 if vectors.size < SMALL else None):
        # Not hidden: `settings["converged"]` is stored with the head and printed.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return solver.fit(vectors, codes, sample_weight=weights)
