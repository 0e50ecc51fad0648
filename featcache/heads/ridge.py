"""The head `ridge`: least squares on one-hot classes, L2-penalised, on standardised vectors.

All values of alpha come out of one decomposition of the Gram matrix, with the scores each row
would get from a fit without it (leave-one-out, in closed form), which choose alpha and sharpness.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from featcache.errors import FeatcacheError
from featcache.heads.checks import above_zero, one_of
from featcache.heads.linear import LinearHead, find_sharpness, linear_head
from featcache.heads.training import Training, blocks, moments

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


@dataclass(frozen=True, eq=False)
class _Basis:
    """Rows rotated so that a fit for any alpha is a division.

    rotated: (n, r), weighted, centred rows times the eigenvectors; values: (r,), their squares'
    sums; targets: (n, K) weighted and centred; back: (D, r), from coefficients there to vectors'.
    """

    rotated: np.ndarray
    values: np.ndarray
    targets: np.ndarray
    back: np.ndarray
    root: np.ndarray
    mean: np.ndarray
    prior: np.ndarray

    def coefficients(self, alpha: float) -> np.ndarray:
        """(r, K)."""
        moment = self.rotated.T @ self.targets
        result: np.ndarray = moment / (self.values + alpha)[:, np.newaxis]
        return result

    def without_own(self, alpha: float) -> np.ndarray:
        """(n, K) scores of each row from the fit without it."""
        leverage = np.square(self.rotated) @ (1 / (self.values + alpha))
        leverage = leverage + self.root**2 / (self.root**2).sum()
        residual = self.targets - self.rotated @ self.coefficients(alpha)
        residual /= np.maximum(1 - leverage, 1e-6)[:, np.newaxis]
        scores: np.ndarray = (self.targets - residual) / self.root[:, np.newaxis] + self.prior
        return scores


def fit(training: Training, options: RidgeOptions) -> LinearHead:
    """Ridge regression on classes; see the module. Probabilities: softmax of sharpened scores.

    Raises `FeatcacheError` where both rows and columns are more than can be decomposed.
    """
    basis = _decompose(training)
    weights, codes = training.row_weights(), training.codes
    wanted = np.eye(training.classes)[codes]
    grid = (options.alpha,) if options.alpha else tuple(each * len(training) for each in GRID)
    tried = []
    for alpha in grid:
        scores = basis.without_own(alpha)
        tried.append((float(weights @ np.square(scores - wanted).sum(axis=1)), -alpha, scores))
    _, minus, scores = min(tried, key=lambda one: one[:2])
    alpha = -minus
    if options.alpha is None:
        training.say(f"alpha = {alpha:g} by leave-one-out on {len(training)} training rows")
    slopes = (basis.back @ basis.coefficients(alpha)).T
    offset = basis.prior - slopes @ basis.mean
    sharpness = find_sharpness(scores, codes, weights)
    settings = {**asdict(options), "alpha": alpha}
    return linear_head(slopes, offset, sharpness=sharpness, settings=settings)


def _decompose(training: Training) -> _Basis:
    count, width = len(training), training.width
    if min(count, width) > WIDEST:
        raise FeatcacheError(
            f"--head ridge takes vectors of up to {WIDEST:,} numbers, or as many rows; these are "
            f"{count:,} rows of {width:,}: pool them (--pooling avg), or take --head dense"
        )
    mean, scale = moments(training)
    root = np.sqrt(training.row_weights().astype(np.float64))
    member = np.eye(training.classes)[training.codes]
    prior = (root**2 @ member) / (root**2).sum()
    rotated, values, turn = _rotate(training, root, mean, scale)
    return _Basis(
        rotated=rotated,
        values=values,
        targets=(member - prior) * root[:, np.newaxis],
        back=turn / scale[:, np.newaxis],
        root=root,
        mean=mean,
        prior=prior,
    )


def _rotate(
    training: Training, root: np.ndarray, mean: np.ndarray, scale: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Standardised, weighted rows times eigenvectors; eigenvalues; the eigenvectors, (D, r)."""
    centre, factor = mean.astype(np.float32), (1 / scale).astype(np.float32)

    def rows(block: slice) -> np.ndarray:
        part = np.asarray(training.vectors[block], np.float32) - centre
        part *= factor
        part *= root[block, np.newaxis].astype(np.float32)
        return part

    parts = list(blocks(training.vectors))
    if training.width <= len(training):
        gram = np.zeros((training.width, training.width))
        for block in parts:
            part = rows(block)
            gram += part.T @ part
        values, turn = np.linalg.eigh(gram)
        turned = np.concatenate([rows(block) @ turn.astype(np.float32) for block in parts])
        return turned, np.maximum(values, 0), turn
    return _of_few_rows(np.concatenate([rows(block) for block in parts]).astype(np.float64))


def _of_few_rows(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same where there are fewer rows than columns: from the products of the rows."""
    values, left = np.linalg.eigh(matrix @ matrix.T)
    kept = values > values.max() * 1e-10
    values, left = values[kept], left[:, kept]
    return left * np.sqrt(values), values, (matrix.T @ left) / np.sqrt(values)
