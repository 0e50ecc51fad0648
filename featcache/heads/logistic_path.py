"""solve_path: multinomial logistic regression for many strengths of penalty and folds at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np

from featcache.errors import FeatcacheError
from featcache.heads.logistic_curvature import FlatCurvature, flat_curvature, rank_for, shares_of
from featcache.heads.logistic_problem import Blocks, Losses, Table, moments, rough_mean
from featcache.heads.logistic_solver import Walk, minimise

#: Rows whose predictions are counted at a time.
SCORED = 8192
#: Columns, and numbers of all unknowns, that are solved together at most.
COLUMNS, UNKNOWNS = 640, 2**21


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

    def decide(self, vectors: np.ndarray) -> np.ndarray:
        """Logits (n, K), or (n, 1) for two classes."""
        logits: np.ndarray = vectors @ self.coefficients.T.astype(vectors.dtype) + self.intercept
        return logits

    def predict(self, vectors: np.ndarray) -> np.ndarray:
        """(n,) the code of the likeliest class of each row."""
        logits = self.decide(vectors)
        codes: np.ndarray = logits.argmax(1) if logits.shape[1] > 1 else (logits[:, 0] > 0) * 1
        return codes


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
    max_iter: int = 1000,
    start: Solution | None = None,
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
    start: begin here rather than at the constant model.

    Returns
    -------
    list of Solution: for every fold, one for every C, in the order given.

    Raises
    ------
    FeatcacheError: one class, C not above 0, NaN (it names the row), a fold that lacks a class.
    """
    classes = _checked(vectors, codes, Cs)
    numbers, used = _used_rows(folds, len(codes))
    row_weights = _row_weights(codes, classes, sample_weight, used)
    threads = blas_threads()
    with one_thread_each():
        table, blocks = _table(vectors, codes, classes, row_weights, standardize, threads)
        table = _class_weighted(table, class_weight)
        pairs = [(fold, float(C)) for fold in range(len(numbers)) for C in Cs]
        every = Losses(
            table,
            blocks,
            np.array([fold for fold, _ in pairs]),
            np.array([1 / (C * table.totals[fold]) for fold, C in pairs]),
        )
        places = _places(every, start)
        rank = rank_for(len(vectors), vectors.shape[1], len(pairs) * table.outputs)
    curvature = flat_curvature(table, rank)
    with one_thread_each():
        walks = _in_parts(every, curvature, places, tol, max_iter)
    blocks.pool.shutdown()
    return [
        _solution(walk, table, fold, numbers[fold], C)
        for walk, (fold, C) in zip(walks, pairs, strict=True)
    ]


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
        right = np.zeros(count)
        for start in range(0, len(test), SCORED):
            some = test[start : start + SCORED]
            block = vectors[some]
            own = 1.0 if weights is None else weights[some]
            right += [float(np.sum((s.predict(block) == codes[some]) * own)) for s in mine]
        scores[fold] = right / (len(test) if weights is None else weights[test].sum())
    return scores


def blas_threads() -> int:
    """Threads that the matrix library would use; a caller's own limit is kept."""
    from threadpoolctl import threadpool_info

    found = [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]
    return max(found, default=1)


@contextmanager
def one_thread_each() -> Iterator[None]:
    """One thread a matrix product: the blocks of rows have threads of their own."""
    import scipy.linalg  # noqa: F401 - its matrix library must be loaded to be limited
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, user_api="blas"):
        yield


def _checked(vectors: np.ndarray, codes: np.ndarray, Cs: Sequence[float]) -> int:
    """The number of classes."""
    if vectors.ndim != 2 or codes.shape != (len(vectors),) or not vectors.size:
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


def _used_rows(folds: np.ndarray | None, rows: int) -> tuple[list[int | None], np.ndarray]:
    """The folds' numbers, and (F, n) booleans: the rows that each uses."""
    if folds is None:
        return [None], np.ones((1, rows), bool)
    folds = np.asarray(folds)
    if folds.shape[-1:] != (rows,) or folds.ndim > 2:
        raise FeatcacheError(f"folds: expected {rows} numbers, or F x {rows} booleans")
    if folds.ndim == 2:
        return list(range(len(folds))), folds.astype(bool)
    numbers = sorted(set(np.unique(folds).tolist()) - {-1})
    return numbers, np.array([folds != number for number in numbers])


def _row_weights(
    codes: np.ndarray, classes: int, sample_weight: np.ndarray | None, used: np.ndarray
) -> np.ndarray:
    """(F, n) float64: the sample weights, nought where the fold leaves a row out."""
    own = np.ones(len(codes)) if sample_weight is None else np.asarray(sample_weight, np.float64)
    if own.shape != codes.shape or not np.isfinite(own).all() or own.min() < 0:
        raise FeatcacheError(f"sample weights: expected {len(codes)} finite numbers, none below 0")
    weights: np.ndarray = own * used
    for row in weights:
        lacking = np.flatnonzero(np.bincount(codes, row, minlength=classes) == 0)
        if len(lacking):
            raise FeatcacheError(
                f"the rows to fit on hold none of class {int(lacking[0])} (with a weight above 0): "
                f"use fewer folds than the smallest class has rows"
            )
    return weights


def _table(
    vectors: np.ndarray,
    codes: np.ndarray,
    classes: int,
    row_weights: np.ndarray,
    standardize: bool,
    threads: int,
) -> tuple[Table, Blocks]:
    centre = rough_mean(vectors)
    blocks = Blocks(vectors, centre, threads)
    means, scales = moments(blocks, row_weights)
    if not standardize:
        means, scales = np.zeros_like(means), np.ones_like(scales)
    return Table(vectors, codes, classes, row_weights, centre, means, scales), blocks


def _class_weighted(table: Table, class_weight: str | Mapping[int, float] | None) -> Table:
    if class_weight is None:
        return table
    factors = np.ones((len(table.row_weights), table.classes))
    if class_weight == "balanced":
        for fold, row in enumerate(table.row_weights):
            counts = np.bincount(table.codes, row, minlength=table.classes)
            factors[fold] = counts.sum() / (table.classes * counts)
    elif isinstance(class_weight, Mapping):
        for code, weight in class_weight.items():
            factors[:, code] = weight
    else:
        raise FeatcacheError(f"class_weight {class_weight!r}: expected 'balanced', a dict or None")
    return replace(table, row_weights=table.row_weights * factors[:, table.codes])


def _places(losses: Losses, start: Solution | None) -> np.ndarray:
    """(P, O, D+1) where every problem begins: at `start`, or at the constant model."""
    table = losses.table
    shape = (len(losses.folds), table.outputs, table.vectors.shape[1] + 1)
    places = np.zeros(shape)
    if start is None:
        logs = np.log(shares_of(table))
        places[..., -1] = logs[1] - logs[0] if table.outputs == 1 else logs - logs.mean()
    else:
        if start.coefficients.shape != (shape[1], shape[2] - 1):
            raise FeatcacheError(
                f"the start has coefficients {start.coefficients.shape}, "
                f"expected {(shape[1], shape[2] - 1)}"
            )
        for number, fold in enumerate(losses.folds.tolist()):
            places[number] = table.standardised(start.coefficients, start.intercept, fold)
    return places


def _in_parts(
    losses: Losses, curvature: FlatCurvature, places: np.ndarray, tol: float, max_iter: int
) -> list[Walk]:
    """As many problems at a time as memory and cache have room for."""
    count, outputs, width = places.shape
    together = max(1, min(COLUMNS // outputs, UNKNOWNS // (outputs * width)))
    walks: list[Walk] = []
    for first in range(0, count, together):
        some = slice(first, first + together)
        part = replace(losses, folds=losses.folds[some], penalties=losses.penalties[some])
        walks += minimise(part, curvature, places[some], tol=tol, max_iter=max_iter)
    return walks


def _solution(walk: Walk, table: Table, fold: int, number: int | None, C: float) -> Solution:
    coefficients, intercept = table.plain(walk.place, fold)
    return Solution(
        C=C,
        fold=number,
        coefficients=coefficients,
        intercept=intercept,
        mean=table.means[fold],
        scale=table.scales[fold],
        loss=walk.loss,
        iterations=walk.iterations,
        converged=walk.end == "converged",
    )
