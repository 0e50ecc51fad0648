"""Table: rows, their classes, and what each fold makes of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from featcache.heads.logistic.blocks import precision


@dataclass(frozen=True, eq=False)
class Table:
    """Rows, their classes, and for every fold their weights and moments.

    Attributes
    ----------
    vectors: (n, D), an array or a memory map; never copied as a whole.
    codes: (n,) integers below `classes`.
    row_weights: (F, n), nought for the rows that a fold leaves out; they sum to `totals`.
    centre: (D,), roughly the mean of all rows: what the products are computed about.
    means, scales: (F, D) of the rows of each fold.
    """

    vectors: np.ndarray
    codes: np.ndarray
    classes: int
    row_weights: np.ndarray
    centre: np.ndarray
    means: np.ndarray
    scales: np.ndarray

    @property
    def dtype(self) -> np.dtype[Any]:
        """float64 for float64 vectors, otherwise float32: what the products are computed in."""
        return precision(self.vectors)

    @property
    def outputs(self) -> int:
        """One for two classes, else one a class."""
        return 1 if self.classes == 2 else self.classes

    @property
    def totals(self) -> np.ndarray:
        """(F,) the weight of all rows of a fold."""
        total: np.ndarray = self.row_weights.sum(axis=1, dtype=np.float64)
        return total

    def shared(self, unknowns: np.ndarray, folds: np.ndarray) -> np.ndarray:
        """(P, O, D+1) in the folds' standardised coordinates -> on vectors less `centre`."""
        weights = unknowns.copy()
        weights[..., :-1] /= self.scales[folds][:, None]
        shift = self.means[folds] - self.centre
        weights[..., -1] -= np.einsum("pod,pd->po", weights[..., :-1], shift)
        return weights

    def own(self, gradient: np.ndarray, folds: np.ndarray) -> np.ndarray:
        """The transpose of `shared`: a gradient in the folds' own coordinates."""
        shift = (self.means[folds] - self.centre)[:, None]
        gradient[..., :-1] -= gradient[..., -1:] * shift
        gradient[..., :-1] /= self.scales[folds][:, None]
        return gradient

    def plain(self, unknowns: np.ndarray, fold: int) -> tuple[np.ndarray, np.ndarray]:
        """Coefficients (O, D) and intercept (O,) on the vectors as they are."""
        weights = self.shared(unknowns[None], np.array([fold]))[0]
        return weights[:, :-1], weights[:, -1] - weights[:, :-1] @ self.centre

    def standardised(
        self, coefficients: np.ndarray, intercept: np.ndarray, fold: int
    ) -> np.ndarray:
        """The transpose way of `plain`: unknowns (O, D+1) of coefficients on plain vectors."""
        offset = intercept + coefficients @ self.means[fold]
        return np.concatenate([coefficients * self.scales[fold], offset[:, None]], axis=1)
