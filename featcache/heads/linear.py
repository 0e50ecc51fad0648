"""Linear heads: softmax of linear scores. `ridge`, `svm` and `centroid` all end as one of these.

Their scores are no probabilities. So the scores are multiplied by one number, the sharpness (see
`calibration`), that makes the log loss smallest on rows that the scores were not fitted on.
It changes no ranking.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from featcache.errors import FeatcacheError
from featcache.heads.model import floats, in_blocks
from featcache.training.steps import softmax

#: Rows that are enough to measure one number on.
ENOUGH = 10_000


@dataclass(frozen=True, eq=False)
class LinearHead:
    """A fitted linear head.

    Attributes
    ----------
    coefficients: (K, D) float32, the sharpness multiplied in.
    intercept: (K,) float32.
    settings: the options; `unit_length` is true where vectors are scaled to length 1 first.
    """

    coefficients: np.ndarray
    intercept: np.ndarray
    settings: dict[str, Any]

    @property
    def outputs(self) -> int:
        return len(self.intercept)

    @property
    def width(self) -> int:
        return int(self.coefficients.shape[1])

    def predict_proba(self, vectors: np.ndarray) -> np.ndarray:
        """Class probabilities (n, K), float32, of (n, D) vectors; works in blocks of rows."""
        return in_blocks(vectors, self.outputs, lambda rows: softmax(self._scores(rows)))

    def _scores(self, rows: np.ndarray) -> np.ndarray:
        if self.settings.get("unit_length"):
            rows = unit_length(rows)
        scores: np.ndarray = rows @ self.coefficients.T + self.intercept
        return scores

    def state(self) -> dict[str, np.ndarray]:
        return {"coefficients": self.coefficients, "intercept": self.intercept}

    @classmethod
    def from_state(cls, state: dict[str, np.ndarray], settings: dict[str, Any]) -> LinearHead:
        classes = len(state["intercept"])
        arrays = floats(state, {"coefficients": (classes, None), "intercept": (classes,)})
        if classes < 2:
            raise FeatcacheError("a linear head has at least two classes")
        return cls(arrays["coefficients"], arrays["intercept"], settings)


def linear_head(
    weights: np.ndarray, offset: np.ndarray, *, sharpness: float, settings: dict[str, Any]
) -> LinearHead:
    """The head of scores `x @ weights.T + offset`, times the sharpness."""
    return LinearHead(
        (sharpness * weights).astype(np.float32),
        (sharpness * offset).astype(np.float32),
        {**settings, "sharpness": sharpness},
    )


def unit_length(rows: np.ndarray) -> np.ndarray:
    """Rows scaled to length 1; a row of zeros stays."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    scaled: np.ndarray = rows / np.where(lengths > 0, lengths, 1)
    return scaled


def spread_rows(count: int) -> np.ndarray:
    """Row numbers, at most `ENOUGH`, evenly spread (files are sorted by class)."""
    return np.unique(np.linspace(0, count - 1, min(count, ENOUGH)).astype(int))
