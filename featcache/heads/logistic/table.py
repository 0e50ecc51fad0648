"""Table: rows, their classes and weights, checked, and what each fold makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from featcache.errors import FeatcacheError
from featcache.heads.logistic.blocks import precision


@dataclass(frozen=True, eq=False)
class Table:
    """Rows, their classes, and for every fold their weights and moments.

    Attributes
    ----------
    vectors: (n, D), an array or a memory map; never copied as a whole.
    codes: (n,) integers below `classes`.
    row_weights: (F, n), zero for the rows that a fold leaves out; they sum to `totals`.
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


def checked_classes(vectors: np.ndarray, codes: np.ndarray, Cs: Sequence[float]) -> int:
    """The number of classes."""
    if vectors.ndim != 2 or codes.shape != (len(vectors),) or not all(vectors.shape):
        raise FeatcacheError(
            f"expected vectors (n, D) and n codes, got shapes {vectors.shape} and {codes.shape}"
        )
    for C in Cs:
        if not (np.isfinite(C) and C > 0):
            raise FeatcacheError(f"C = {C}: expected a number above 0, such as 0.01 (small=simple)")
    if not len(Cs):
        raise FeatcacheError("no C was given: give at least one, such as 0.01")
    counts = np.bincount(codes)
    if len(counts) < 2:
        raise FeatcacheError("all rows are of one class: a classifier needs at least two")
    if not counts.all():
        raise FeatcacheError(f"no row has the code {int(counts.argmin())}: number classes densely")
    return len(counts)


def used_rows(folds: np.ndarray | None, rows: int) -> np.ndarray:
    """(F, n) booleans: the rows that each fold uses."""
    if folds is None:
        return np.ones((1, rows), bool)
    folds = np.asarray(folds)
    if folds.shape[-1:] != (rows,) or folds.ndim > 2:
        raise FeatcacheError(f"folds: expected {rows} numbers, or F x {rows} booleans")
    if folds.ndim == 2:
        return folds.astype(bool)
    return np.array([folds != number for number in np.unique(folds) if number != -1])


def row_weights(
    codes: np.ndarray, classes: int, sample_weight: np.ndarray | None, used: np.ndarray
) -> np.ndarray:
    """(F, n) float64: the sample weights, zero where the fold leaves a row out."""
    own = np.ones(len(codes)) if sample_weight is None else np.asarray(sample_weight, np.float64)
    if own.shape != codes.shape or not np.isfinite(own).all() or own.min() < 0:
        raise FeatcacheError(f"sample weights: expected {len(codes)} finite numbers, none below 0")
    weights: np.ndarray = own * used
    for row in weights:
        lacking = np.flatnonzero(np.bincount(codes, row, minlength=classes) == 0)
        if len(lacking):
            raise FeatcacheError(
                f"the rows to fit on hold none of class {int(lacking[0])} (with a weight above 0): "
                f"leave that class out, or use fewer folds than it has rows"
            )
    return weights


def balanced_weights(counts: np.ndarray) -> np.ndarray:
    """(K,) float64: with these, all classes that have rows together count the same.

    This is scikit-learn's "balanced". `counts` (K,) are rows, or the sums of their weights; a class
    without any gets 0.
    """
    there = counts > 0
    weights = np.zeros(len(counts))
    weights[there] = counts.sum() / (there.sum() * counts[there])
    return weights
