"""Checks of what `solve_path` is given: classes, penalties, folds and weights."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from featcache.errors import FeatcacheError


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


def used_rows(folds: np.ndarray | None, rows: int) -> tuple[list[int | None], np.ndarray]:
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


def row_weights(
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
                f"leave that class out, or use fewer folds than it has rows"
            )
    return weights
