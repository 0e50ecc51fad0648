"""The head `ridge`: least squares on one-hot classes, L2-penalised, on standardised vectors.

All values of alpha come out of one decomposition of the Gram matrix, with the scores each row
would get from a fit without it (leave-one-out, in closed form), which choose alpha and sharpness.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

from featcache.errors import FeatcacheError, above_zero, one_of
from featcache.heads.calibration import find_sharpness
from featcache.heads.linear import LinearHead, linear_head, spread_rows
from featcache.heads.model import blocks
from featcache.heads.training_set import TrainingSet, moments

#: Values of alpha that leave-one-out compares, times the number of rows.
GRID = tuple(10.0**power for power in range(-5, 3))
#: Rows or columns of a matrix that is decomposed; more takes minutes and gigabytes.
WIDEST = 8192


@dataclass(frozen=True, slots=True)
class RidgeOptions:
    """Options of `ridge`.

    alpha: strength of the penalty; None: chosen by leave-one-out on the training rows.
    class_weight: "balanced" makes every class count the same, "none" every row.
    """

    alpha: float | None = None
    class_weight: str = "none"

    def __post_init__(self) -> None:
        if self.alpha is not None:
            above_zero("--alpha", self.alpha, "100 (large = simple)")
        one_of("--class-weight", self.class_weight, ("none", "balanced"))


def fit(training: TrainingSet, options: RidgeOptions) -> LinearHead:
    """Ridge regression on classes; see the module. Probabilities: softmax of sharpened scores.

    Raises `FeatcacheError` where both rows and columns are more than can be decomposed.
    """
    basis = _Basis.of(training)
    alphas = (options.alpha,) if options.alpha else tuple(each * len(training) for each in GRID)
    alpha = alphas[0]
    if len(alphas) > 1:
        errors = sum(basis.errors(block, alphas) for block in blocks(training.vectors))
        # The largest of equals: the simplest model.
        alpha = alphas[len(alphas) - 1 - int(np.argmin(np.asarray(errors)[::-1]))]
        training.say(f"alpha = {alpha:g} by leave-one-out on {len(training)} training rows")
    some = spread_rows(len(training))
    scores = basis.without_own(some, (alpha,))[:, 0]
    sharpness = find_sharpness(scores, training.codes[some], training.row_weights()[some])
    slopes = (basis.turn @ basis.coefficients((alpha,))[:, 0]).T / basis.scale
    offset = basis.prior - slopes @ basis.mean
    settings = {**asdict(options), "alpha": alpha}
    return linear_head(slopes, offset, sharpness=sharpness, settings=settings)


@dataclass(frozen=True, eq=False)
class _Basis:
    """A rotation of the standardised, weighted rows, in which a fit for any alpha is a division.

    turn: (D, r) eigenvectors; values: (r,) eigenvalues; moment: (r, K) rotated rows times
    targets; prior: (K,) share of each class.
    """

    training: TrainingSet
    mean: np.ndarray
    scale: np.ndarray
    prior: np.ndarray
    values: np.ndarray
    turn: np.ndarray
    moment: np.ndarray

    @classmethod
    def of(cls, training: TrainingSet) -> _Basis:
        """Decompose the products of columns, or of rows where they are fewer."""
        _check_size(training)
        mean, scale = moments(training)
        counts = np.bincount(training.codes, training.row_weights(), training.classes)
        prior = counts / counts.sum()
        empty = np.zeros(0)
        draft = cls(training, mean, scale, prior, empty, empty, empty)
        parts = list(blocks(training.vectors))
        if draft.is_long:
            gram = np.zeros((training.width, training.width))
            for block in parts:
                rows = draft.rows(block)
                gram += rows.T @ rows
            values, turn = np.linalg.eigh(gram)
        else:
            values, turn = _of_few_rows(np.concatenate([draft.rows(block) for block in parts]))
        moment = sum(draft.rows(block).T @ draft.targets(block) for block in parts)
        kept = values > values.max() * 1e-12
        turn = turn[:, kept]
        return replace(draft, values=values[kept], turn=turn, moment=turn.T @ moment)

    @property
    def is_long(self) -> bool:
        """Whether there are more rows than columns: then float32 is exact enough."""
        return len(self.training) >= self.training.width

    def root(self, block: slice | np.ndarray) -> np.ndarray:
        """(m, 1) roots of the weights."""
        weights = self.training.row_weights()[block].astype(np.float64)
        return np.sqrt(weights)[:, np.newaxis]

    def rows(self, block: slice | np.ndarray) -> np.ndarray:
        """(m, D) rows, standardised, times the roots of their weights."""
        kind = np.float32 if self.is_long else np.float64
        vectors = np.asarray(self.training.vectors[block], kind)
        rows: np.ndarray = vectors - self.mean.astype(kind)
        rows *= (1 / self.scale).astype(kind)
        rows *= self.root(block).astype(kind)
        return rows

    def targets(self, block: slice | np.ndarray) -> np.ndarray:
        """(m, K) one-hot classes less their shares, times the roots of the weights."""
        member = np.eye(self.training.classes)[self.training.codes[block]]
        targets: np.ndarray = (member - self.prior) * self.root(block)
        return targets

    def coefficients(self, alphas: Sequence[float]) -> np.ndarray:
        """(r, A, K) for each alpha."""
        shrunken = self.values[:, np.newaxis] + np.array(alphas)
        coefficients: np.ndarray = self.moment[:, np.newaxis] / shrunken[:, :, np.newaxis]
        return coefficients

    def without_own(self, block: slice | np.ndarray, alphas: Sequence[float]) -> np.ndarray:
        """(m, A, K) scores of each row from the fit without it."""
        rows = self.rows(block)
        rotated, targets = rows @ self.turn.astype(rows.dtype), self.targets(block)
        coefficients = self.coefficients(alphas).astype(rows.dtype)
        fitted = np.tensordot(rotated, coefficients, axes=1)
        inverse = 1 / (self.values[:, np.newaxis] + np.array(alphas))
        root = self.root(block)
        leverage = np.square(rotated) @ inverse.astype(rows.dtype)
        # The intercept is fitted too: its share of the leverage.
        leverage = leverage + root**2 / self.training.row_weights().sum()
        residual = (targets[:, np.newaxis] - fitted) / np.maximum(1 - leverage, 1e-6)[..., None]
        unweighted = (targets[:, np.newaxis] - residual) / np.maximum(root, 1e-12)[..., None]
        scores: np.ndarray = unweighted + self.prior
        return scores

    def errors(self, block: slice, alphas: Sequence[float]) -> np.ndarray:
        """(A,) weighted squared errors of these rows, each from the fit without it."""
        scores = self.without_own(block, alphas)
        member = np.eye(self.training.classes)[self.training.codes[block]]
        squares = np.square(scores - member[:, np.newaxis]).sum(axis=2)
        errors: np.ndarray = self.training.row_weights()[block] @ squares
        return errors


def _check_size(training: TrainingSet) -> None:
    count, width = len(training), training.width
    if min(count, width) > WIDEST:
        raise FeatcacheError(
            f"--head ridge takes vectors of up to {WIDEST:,} numbers, or as many rows; these are "
            f"{count:,} rows of {width:,}: pool them (--pooling avg), or take --head dense"
        )


def _of_few_rows(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues and eigenvectors (D, r) of the columns' products, from the rows'."""
    values, left = np.linalg.eigh(matrix @ matrix.T)
    kept = values > values.max() * 1e-12
    values, left = values[kept], left[:, kept]
    return values, (matrix.T @ left) / np.sqrt(values)
