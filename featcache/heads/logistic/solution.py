"""Solution: the optimum for one C and one fold, and what it says of rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from featcache.heads.logistic.blocks import precision

#: Numbers of rows and of logits that are held at a time when rows are predicted.
SCORED = 2**24


@dataclass(frozen=True, eq=False)
class Solution:
    """The optimum for one C and one fold.

    Attributes
    ----------
    C: inverse strength of the penalty, as in scikit-learn.
    fold: the fold that was left out; None: all rows were used.
    coefficients, intercept: (K, D) and (K,), float64, on the vectors **as given**; (1, D) and (1,)
        for two classes.
    mean, scale: (D,), of the rows that were used; noughts and ones where not standardised.
    loss: mean weighted loss plus penalty / (C x sum of weights), in standardised coordinates.
    """

    C: float
    fold: int | None
    coefficients: np.ndarray
    intercept: np.ndarray
    mean: np.ndarray
    scale: np.ndarray
    loss: float
    iterations: int
    converged: bool

    @property
    def place(self) -> tuple[np.ndarray, np.ndarray]:
        """Coefficients and intercept: where another fit may start."""
        return self.coefficients, self.intercept

    def predict(self, vectors: np.ndarray) -> np.ndarray:
        """(n,) the code of the likeliest class of each row."""
        codes: np.ndarray = predictions([self], vectors, np.arange(len(vectors)))[0]
        return codes


def predictions(solutions: Sequence[Solution], vectors: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """(S, n) the code of the likeliest class of n rows of the vectors, by each solution.

    The rows are read once for all solutions.
    """
    coefficients = np.concatenate([each.coefficients for each in solutions])
    weights = coefficients.astype(precision(vectors)).T
    intercept = np.concatenate([each.intercept for each in solutions])
    codes = np.empty((len(solutions), len(rows)), dtype=np.int64)
    step = max(1, SCORED // max(weights.shape))
    for start in range(0, len(rows), step):
        some = slice(start, start + step)
        logits = vectors[rows[some]].astype(weights.dtype) @ weights + intercept
        each = logits.reshape(len(logits), len(solutions), -1)
        best = each.argmax(axis=2) if each.shape[2] > 1 else each[..., 0] > 0
        codes[:, some] = best.T
    return codes


def fold_scores(
    vectors: np.ndarray,
    codes: np.ndarray,
    solutions: Sequence[Solution],
    tests: Sequence[np.ndarray],
    weights: np.ndarray | None = None,
) -> np.ndarray:
    """Accuracy on every fold's test rows, (F, values of C), of the solutions of `solve_path`."""
    count = len(solutions) // len(tests)
    scores = np.zeros((len(tests), count))
    for fold, test in enumerate(tests):
        mine = solutions[fold * count : (fold + 1) * count]
        own = np.ones(len(test)) if weights is None else weights[test]
        scores[fold] = (predictions(mine, vectors, test) == codes[test]) @ own / own.sum()
    return scores
