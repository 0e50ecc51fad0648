"""Curvature: an approximate Hessian whose inverse makes the solver's steps of the right size.

`FlatCurvature`, at the constant model: the Hessian is the Kronecker product of two small matrices,
the covariance of the classes' shares and the Gram matrix of the standardised vectors. Both are
diagonalised once, for every strength of penalty and every fold; the penalty is added to the
eigenvalues. Of the Gram matrix the leading part is enough (Frangella, Tropp, Udell: Randomized
Nystroem Preconditioning).

`ClassCurvature`, at a model: the blocks on the Hessian's diagonal, one a class, for one strength of
penalty and all folds. A few thousand rows, drawn by what they weigh in it, stand for all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from featcache.heads.logistic.losses import Losses
from featcache.heads.logistic.table import Table

#: Numbers of the sample of rows whose Gram matrix stands for that of all.
SAMPLE_NUMBERS = 2**26
#: Rows of the sample for every column.
SAMPLE_ROWS = 8
#: Rows drawn for a class's block, for every column. Of 60,000 rows, 3 gave 20 % more evaluations
#: than 8; of 15,000, 3 were as good as all.
CLASS_ROWS = 5
#: A direction of curvature below this part of the largest is not trusted.
FLOOR = 1e-3


@dataclass(frozen=True, eq=False)
class FlatCurvature:
    """(class covariance) x (Gram matrix) + penalty, ready to be inverted.

    `values` (R,) and `axes` (D, R) of the Gram matrix, whose other directions all have the value
    `rest`; `class_values` (O,) and `class_axes` (O, O) of the classes.
    """

    values: np.ndarray
    axes: np.ndarray
    rest: float
    class_values: np.ndarray
    class_axes: np.ndarray

    def solve(self, gradient: np.ndarray, penalties: np.ndarray) -> np.ndarray:
        """The inverse applied to (A, O, D+1), with the penalty of each problem, (A,)."""
        turned = self.class_axes.T @ gradient
        damping = penalties[:, None, None]
        classes = self.class_values[None, :, None]
        # Where there is next to no curvature, the gradient is rounding: no leap along it.
        least = trust(self.axes.dtype) * self.values.max() * classes
        rest = 1 / np.maximum(classes * self.rest + damping, least)
        # One product for all problems, not one for each.
        columns = turned[..., :-1].reshape(-1, len(self.axes)).astype(self.axes.dtype)
        inside = (columns @ self.axes).reshape(*turned.shape[:2], -1)
        bent = np.maximum(classes * self.values + damping, least)
        inside *= (1 / bent - rest).astype(inside.dtype)
        leading = inside.reshape(len(columns), -1) @ self.axes.T
        step = np.empty_like(turned)
        step[..., :-1] = turned[..., :-1] * rest + leading.reshape(*turned.shape[:2], -1)
        step[..., -1] = turned[..., -1] / self.class_values
        back: np.ndarray = self.class_axes @ step
        return back


@dataclass(frozen=True, eq=False)
class ClassCurvature:
    """The inverses, (O, D+1, D+1), of every class's block of the Hessian, penalty and all."""

    inverses: np.ndarray

    def solve(self, gradient: np.ndarray, penalties: np.ndarray) -> np.ndarray:
        """The inverse applied to (A, O, D+1), with the penalty of each problem, (A,)."""
        each = gradient.astype(self.inverses.dtype).transpose(1, 0, 2) @ self.inverses
        step: np.ndarray = each.transpose(1, 0, 2).astype(np.float64)
        if step.shape[1] > 1:
            # The same step for all classes changes no probability: there the penalty is alone.
            step -= step.mean(axis=1, keepdims=True)
            shared = gradient[..., :-1].mean(axis=1, keepdims=True)
            step[..., :-1] += shared / penalties[:, None, None]
        return step


def trust(dtype: np.dtype[Any]) -> float:
    """The least part of the largest curvature that products in a precision can tell from 0."""
    return 1e-5 if dtype == np.float32 else 1e-12


def flat_curvature(table: Table, columns: int) -> FlatCurvature:
    """The curvature at the constant model; the more columns are solved, the more exact."""
    rows, width = table.vectors.shape
    rank = _rank_for(rows, width, columns)
    class_values, class_axes = _class_axes(table)
    values, axes, rest = _gram_axes(_sample(table), rank)
    return FlatCurvature(values, axes, rest, class_values, class_axes)


def class_curvatures(
    losses: Losses, places: np.ndarray, groups: list[np.ndarray]
) -> list[ClassCurvature]:
    """The curvature at the mean of the places, (A, O, D+1), with the penalty of each group.

    A group is the problems of one C; all groups together are the A problems.
    """
    table = losses.table
    weights = table.row_weights.sum(axis=0) / table.totals.sum()
    importance = weights * losses.variances(places, np.concatenate(groups))
    centre = table.means.mean(axis=0).astype(table.dtype)
    scale = table.scales.mean(axis=0).astype(table.dtype)
    penalties = [float(losses.penalties[group].mean()) for group in groups]

    def inverses(row: np.ndarray) -> list[np.ndarray]:
        block = _block(table, row, centre, scale)
        return [_inverse(block, penalty) for penalty in penalties]

    by_class = list(losses.blocks.pool.map(inverses, importance))
    return [ClassCurvature(np.array(each)) for each in zip(*by_class, strict=True)]


def _block(
    table: Table, importance: np.ndarray, centre: np.ndarray, scale: np.ndarray
) -> np.ndarray:
    """(D+1, D+1), the sum of importance x row x row', over a weighted sample of rows."""
    width = table.vectors.shape[1]
    rows, factors = _drawn(importance, CLASS_ROWS * width)
    sample = np.ones((len(rows), width + 1), table.dtype)
    sample[:, :-1] = (table.vectors[rows] - centre) / scale
    sample *= np.sqrt(factors)[:, None].astype(table.dtype)
    block: np.ndarray = sample.T @ sample
    return block


def _inverse(block: np.ndarray, penalty: float) -> np.ndarray:
    """The inverse of a block with the penalty on all but the intercept."""
    from scipy.linalg.lapack import dpotrf, dpotri, spotrf, spotri

    single = block.dtype == np.float32
    # Below this the factorisation in single precision breaks down.
    ridge = float(block.diagonal().max()) * trust(block.dtype)
    along = np.arange(len(block) - 1)
    for attempt in range(5):
        damped = block.copy()
        damped[along, along] += max(penalty, ridge * 10**attempt)
        damped[-1, -1] += damped[-1, -1] * 1e-5 + 1e-12
        # Symmetric: the transpose is the same matrix, in the order that LAPACK takes uncopied.
        factor, problem = (spotrf if single else dpotrf)(damped.T, lower=1, overwrite_a=1)
        if not problem:
            break
    else:
        raise FloatingPointError(f"a block of the Hessian is not positive: LAPACK says {problem}")
    inverse, _ = (spotri if single else dpotri)(factor, lower=1, overwrite_c=1)
    lower = np.tril(inverse, -1)
    full: np.ndarray = lower + lower.T
    full[np.arange(len(block)), np.arange(len(block))] = inverse.diagonal()
    return full


def _drawn(importance: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """About `count` rows, the likelier the more important, and importance / likelihood of each."""
    chance = importance / max(importance.sum(), np.finfo(np.float64).tiny)
    for _ in range(4):
        chance = np.minimum(1, chance * (count / max(chance.sum(), 1e-300)))
    rows = np.flatnonzero(np.random.default_rng(0).random(len(chance)) < chance)
    return rows, importance[rows] / chance[rows]


def _rank_for(rows: int, width: int, columns: int) -> int:
    """Directions worth finding: their eigenproblem should take a tenth of the solver's time.

    On two cores an eigenproblem of 1280 takes 1.4 s, as long as products of 2e11 multiply-adds.
    """
    work = 40 * 2 * rows * width * columns / 10
    return max(64, int(1280 * (work / 1e11) ** (1 / 3)))


def shares_of(table: Table) -> np.ndarray:
    """(K,) the part of the weight that every class has, over all folds."""
    counts = np.bincount(table.codes, table.row_weights.sum(axis=0), minlength=table.classes)
    shares: np.ndarray = counts / counts.sum()
    return shares


def _class_axes(table: Table) -> tuple[np.ndarray, np.ndarray]:
    shares = shares_of(table)
    if table.outputs == 1:
        return np.array([shares[0] * shares[1]]), np.ones((1, 1))
    values, axes = np.linalg.eigh(np.diag(shares) - np.outer(shares, shares))
    return np.maximum(values, FLOOR * values.max()), axes


def _sample(table: Table) -> np.ndarray:
    """(m, D) standardised rows of a sample, so weighted that their Gram matrix is the mean's."""
    width = table.vectors.shape[1]
    weights = table.row_weights.sum(axis=0, dtype=np.float64)
    rows = np.flatnonzero(weights)
    count = max(1, min(len(rows), max(8192, SAMPLE_ROWS * width), SAMPLE_NUMBERS // width))
    if count < len(rows):
        rows = np.sort(np.random.default_rng(0).choice(rows, count, replace=False))
    sample = table.vectors[rows].astype(table.dtype)
    sample -= table.means.mean(axis=0).astype(table.dtype)
    sample /= table.scales.mean(axis=0).astype(table.dtype)
    part = np.sqrt(weights[rows] / weights[rows].sum()).astype(table.dtype)
    sample *= part[:, None]
    return sample


def _gram_axes(sample: np.ndarray, rank: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Leading eigenvalues and eigenvectors of the sample's Gram matrix, and the value beyond."""
    rows, width = sample.shape
    if width <= min(2 * rank, rows):
        values, axes = np.linalg.eigh((sample.T @ sample).astype(np.float64))
        return np.maximum(values, 0), axes.astype(sample.dtype), 0.0
    rank = min(rank, rows, width)
    basis = np.random.default_rng(0).standard_normal((width, rank)).astype(sample.dtype)
    for _ in range(2):
        basis, _ = np.linalg.qr(sample.T @ (sample @ basis))
    inner = sample @ basis
    values, turn = np.linalg.eigh((inner.T @ inner).astype(np.float64))
    values = np.maximum(values, 0)
    beyond = 0.0 if rank == rows else float(values[0])
    return values, basis @ turn.astype(sample.dtype), beyond
