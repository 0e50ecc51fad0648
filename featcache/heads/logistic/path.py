"""solve_path: multinomial logistic regression for many strengths of penalty and folds at once.

It gives a `Solution`, the optimum for one C and one fold, and what it says of rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from featcache.errors import FeatcacheError
from featcache.heads.logistic.blocks import (
    Blocks,
    blocks_of,
    moments,
    one_blas_thread_each,
    precision,
)
from featcache.heads.logistic.curvature import FlatCurvature, flat_curvature, shares_of
from featcache.heads.logistic.losses import Losses
from featcache.heads.logistic.minimise import Goal, Walk, minimise
from featcache.heads.logistic.table import (
    Table,
    balanced_weights,
    checked_classes,
    row_weights,
    used_rows,
)

#: Columns, and numbers of all unknowns, that are solved together at most.
COLUMNS, UNKNOWNS = 640, 2**21
#: `loss_tol` of a search: it stops earlier than a fit, for accuracy settles long before the loss.
#: 30 fits of 10,000 rows, C up to 1e4, took 23 processor seconds so, 51 with 1e-2; the accuracies
#: at C up to 0.4 were the same to 5e-4. At C above 1 it ends early, and shows less.
SEARCH_LOSS_TOL = 0.1

#: Numbers of rows and of logits that are held at a time when rows are predicted.
SCORED = 2**24


def solve_path(
    vectors: np.ndarray,
    codes: np.ndarray,
    *,
    Cs: Sequence[float],
    sample_weight: np.ndarray | None = None,
    class_weight: str | Mapping[int, float] | None = None,
    folds: np.ndarray | None = None,
    standardize: bool = True,
    tol: float = 1e-4,
    loss_tol: float | None = None,
    max_iter: int = 1000,
    start: tuple[np.ndarray, np.ndarray] | None = None,
) -> list[Solution]:
    """scikit-learn's multinomial logistic regression (L2) for every C, and every fold, together.

    Parameters
    ----------
    vectors: (n, D), an array or a memory map; read in blocks, never copied. float64 is computed in
        float64, anything else in float32.
    codes: (n,) integers, 0 to K - 1; every class must be there.
    class_weight: "balanced", weights by code, or None; balanced in every fold for itself.
    folds: (n,) the number of the fold that leaves this row out, -1 where none does; or (F, n)
        booleans, the rows that every fold uses. None: one solution a C, on all rows.
    standardize: penalise the coefficients of standardised columns; every fold has its own moments.
    tol: the largest entry of the gradient of the mean loss (scikit-learn's measure).
    loss_tol: about the part of the loss that may be left above the least; None: `tol`.
    start: coefficients (K, D) and intercept (K,) on the vectors as given, of one output for two
        classes: begin here rather than at the constant model.

    Returns
    -------
    list of Solution: for every fold, one for every C, in the order given.

    Raises
    ------
    FeatcacheError: one class, C not above 0, NaN (it names the row), a fold that lacks a class.
    """
    classes = checked_classes(vectors, codes, Cs)
    used = used_rows(folds, len(codes))
    weights = row_weights(codes, classes, sample_weight, used)
    with blocks_of(vectors) as blocks:
        with one_blas_thread_each():
            table = _table(blocks, codes, classes, weights, standardize=standardize)
            table = _class_weighted(table, class_weight)
            # All folds of a C are neighbours: they share a curvature, and end at about one time.
            pairs = [(fold, C) for C in Cs for fold in range(len(used))]
            folds_of, Cs_of = np.array([fold for fold, _ in pairs]), np.array([C for _, C in pairs])
            losses = Losses(table, blocks, folds_of, 1 / (Cs_of * table.totals[folds_of]))
            places = _places(losses, start)
        curvature = flat_curvature(table, len(pairs) * table.outputs)
        with one_blas_thread_each():
            goal = Goal(tol, tol if loss_tol is None else loss_tol, max_iter)
            walks = _in_parts(losses, curvature, places, goal)
    return [
        _solution(walks[place * len(used) + fold], table, fold, float(C))
        for fold in range(len(used))
        for place, C in enumerate(Cs)
    ]


def _table(
    blocks: Blocks, codes: np.ndarray, classes: int, weights: np.ndarray, *, standardize: bool
) -> Table:
    means, scales = moments(blocks, weights)
    if not standardize:
        means, scales = np.zeros_like(means), np.ones_like(scales)
    return Table(blocks.vectors, codes, classes, weights, blocks.centre, means, scales)


def _class_weighted(table: Table, class_weight: str | Mapping[int, float] | None) -> Table:
    if class_weight is None:
        return table
    factors = np.ones((len(table.row_weights), table.classes))
    if class_weight == "balanced":
        for fold, row in enumerate(table.row_weights):
            factors[fold] = balanced_weights(np.bincount(table.codes, row, minlength=table.classes))
    elif isinstance(class_weight, Mapping):
        for code, weight in class_weight.items():
            factors[:, code] = weight
    else:
        raise FeatcacheError(f"class_weight {class_weight!r}: expected 'balanced', a dict or None")
    return replace(table, row_weights=table.row_weights * factors[:, table.codes])


def _places(losses: Losses, start: tuple[np.ndarray, np.ndarray] | None) -> np.ndarray:
    """(P, O, D+1) where every problem begins: at `start`, or at the constant model."""
    table = losses.table
    shape = (len(losses.folds), table.outputs, table.vectors.shape[1] + 1)
    places = np.zeros(shape)
    if start is None:
        logs = np.log(shares_of(table))
        places[..., -1] = logs[1] - logs[0] if table.outputs == 1 else logs - logs.mean()
    else:
        coefficients, intercept = start
        if coefficients.shape != (shape[1], shape[2] - 1) or intercept.shape != (shape[1],):
            raise FeatcacheError(
                f"the start has coefficients {coefficients.shape} and intercept "
                f"{intercept.shape}, expected {(shape[1], shape[2] - 1)} and {(shape[1],)}: start "
                f"at a fit of the same columns and classes, or at none"
            )
        for number, fold in enumerate(losses.folds.tolist()):
            places[number] = table.standardised(coefficients, intercept, fold)
    return places


def _in_parts(
    losses: Losses, curvature: FlatCurvature, places: np.ndarray, goal: Goal
) -> list[Walk]:
    """As many problems at a time as memory and cache have room for."""
    count, outputs, width = places.shape
    together = max(1, min(COLUMNS // outputs, UNKNOWNS // (outputs * width)))
    walks: list[Walk] = []
    for first in range(0, count, together):
        some = slice(first, first + together)
        part = replace(losses, folds=losses.folds[some], penalties=losses.penalties[some])
        walks += minimise(part, curvature, places[some], goal)
    return walks


def _solution(walk: Walk, table: Table, fold: int, C: float) -> Solution:
    coefficients, intercept = table.plain(walk.place, fold)
    return Solution(
        C=C,
        coefficients=coefficients,
        intercept=intercept,
        mean=table.means[fold],
        scale=table.scales[fold],
        loss=walk.loss,
        iterations=walk.iterations,
        converged=walk.end == "converged",
    )


@dataclass(frozen=True, eq=False)
class Solution:
    """The optimum for one C and one fold.

    Attributes
    ----------
    C: inverse strength of the penalty, as in scikit-learn.
    coefficients, intercept: (K, D) and (K,), float64, on the vectors **as given**; (1, D) and (1,)
        for two classes.
    mean, scale: (D,), of the rows that were used; zeros and ones where not standardised.
    loss: mean weighted loss plus penalty / (C x sum of weights), in standardised coordinates.
    """

    C: float
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
