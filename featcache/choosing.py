"""Choosing C: cross-validation over a grid, all values and folds solved together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from featcache.errors import FeatcacheError
from featcache.heads.logistic_path import fold_scores, solve_path

#: The values of C that cross-validation compares; vectors are standardised first.
C_GRID = (0.0001, 0.001, 0.01, 0.1, 1.0)
#: Solvers of the search stop earlier than the final one: accuracy settles long before the loss.
SEARCH_TOL = 1e-3
#: Cross-validation looks at no more rows than this; the chosen C is then refitted on all.
SEARCH_ROWS = 10_000
#: What C is where nothing can be compared.
FALLBACK = 0.01


class Rows(Protocol):
    """What is needed of the rows to train on; `heads.training.Training` has it."""

    vectors: np.ndarray
    codes: np.ndarray
    weights: np.ndarray | None
    units: np.ndarray
    seed: int
    say: Callable[[str], None]
    plain: np.ndarray | None


@dataclass(frozen=True, eq=False)
class Choice:
    """The best C, the accuracies (folds, values of C) behind it, and how it was found in words."""

    C: float
    scores: np.ndarray
    words: str


def choose_c(training: Rows, grid: Sequence[float] = C_GRID, folds: int | None = None) -> Choice:
    """The C of the grid with the best cross-validated accuracy; of equals the smallest.

    `folds`: None for 5, or 3 where there are more than 2000 rows. Rows of one unit are in one
    fold; augmented views train and never judge. No more than `SEARCH_ROWS` rows are looked at.

    Raises `FeatcacheError` where the grid holds a C that is not above 0, or folds are below 2.
    """
    if folds is not None and folds < 2:
        raise FeatcacheError(f"{folds} folds: cross-validation needs at least 2")
    rows = _search_rows(training)
    codes, unit = training.codes[rows], training.units[rows]
    smallest = min(len(np.unique(unit[codes == code])) for code in np.unique(codes))
    folds = min(folds or (3 if len(rows) > 2000 else 5), smallest)
    if folds < 2:
        words = f"C = {FALLBACK:g} without cross-validation (a class has a single training image)"
        return Choice(FALLBACK, np.zeros((0, len(grid))), words)
    grid = sorted(grid)
    training.say(
        f"choosing C out of {len(grid)} by {folds}-fold cross-validation on {len(rows)} rows"
    )
    scores = _scores(training, rows, grid, _folds(codes, unit, folds, training.seed))
    # argmax takes the first of equals: the simplest model.
    best = grid[int(scores.mean(axis=0).argmax())]
    total = len(training.codes)
    where = f"{len(rows)} of {total}" if len(rows) < total else f"all {total}"
    words = f"C = {best:g} by {folds}-fold cross-validation on {where} training rows"
    return Choice(best, scores, words)


def _scores(
    training: Rows, rows: np.ndarray, grid: Sequence[float], folds: np.ndarray
) -> np.ndarray:
    vectors = training.vectors if len(rows) == len(training.codes) else training.vectors[rows]
    codes = training.codes[rows]
    found = solve_path(
        vectors,
        codes,
        Cs=grid,
        sample_weight=None if training.weights is None else training.weights[rows],
        folds=folds,
        tol=SEARCH_TOL,
    )
    judged = np.ones(len(rows), bool) if training.plain is None else training.plain[rows]
    tests = [np.flatnonzero((folds == fold) & judged) for fold in range(int(folds.max()) + 1)]
    return fold_scores(vectors, codes, found, tests)


def _search_rows(training: Rows) -> np.ndarray:
    """At most `SEARCH_ROWS` rows, in whole units, the same share of every class."""
    codes, unit = training.codes, training.units
    if len(codes) <= SEARCH_ROWS:
        return np.arange(len(codes))
    order = np.random.default_rng(training.seed).permutation(int(unit.max()) + 1)[unit]
    picked = []
    for code in np.unique(codes):
        members = np.flatnonzero(codes == code)
        members = members[np.argsort(order[members], kind="stable")]
        count = max(2, int(len(members) * SEARCH_ROWS / len(codes)))
        last = order[members[count - 1]]
        picked.append(members[order[members] <= last])
    return np.sort(np.concatenate(picked))


def _folds(codes: np.ndarray, unit: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """(n,) stratified fold numbers; where images share a group or their bytes, they share one."""
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    together = len(np.unique(unit)) < len(unit)
    kind = StratifiedGroupKFold if together else StratifiedKFold
    splitter = kind(n_splits=folds, shuffle=True, random_state=seed)
    numbers = np.empty(len(codes), int)
    sides = splitter.split(codes, codes, groups=unit if together else None)
    for number, (_, test) in enumerate(sides):
        numbers[test] = number
    return numbers
