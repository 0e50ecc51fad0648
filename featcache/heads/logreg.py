"""The head `logreg`: multinomial logistic regression on standardised vectors, L2-penalised.

Its options, its model, and how C is chosen: by cross-validation over a grid, all values and folds
solved together by `featcache.heads.logistic`.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from featcache.errors import FeatcacheError, above_zero, one_of
from featcache.heads.logistic.path import SEARCH_LOSS_TOL, Solution, fold_scores, solve_path
from featcache.heads.model import floats, in_blocks
from featcache.heads.training_set import TrainingSet
from featcache.training.steps import softmax

#: The values of C that cross-validation compares; vectors are standardised first.
C_GRID = (0.0001, 0.001, 0.01, 0.1, 1.0)
#: Cross-validation looks at no more rows than this; the chosen C is then refitted on all.
SEARCH_ROWS = 10_000
#: What C is where nothing can be compared.
FALLBACK = 0.01


@dataclass(frozen=True, slots=True)
class LogregOptions:
    """Options of `logreg`.

    C: inverse strength of the penalty; None: chosen by cross-validation on the training rows.
    class_weight: "balanced" makes every class count the same, "none" every row.
    """

    C: float | None = None
    class_weight: str = "none"

    def __post_init__(self) -> None:
        if self.C is not None:
            above_zero("--C", self.C, "0.01 (small = simple)")
        one_of("--class-weight", self.class_weight, ("none", "balanced"))


def fit(training: TrainingSet, options: LogregOptions) -> LogisticHead:
    """Multinomial logistic regression on standardised vectors."""
    if options.C is None:
        raise FeatcacheError("--C is needed here: choose it with `featcache.heads.logreg.choose_c`")
    training.say(f"fitting logreg with C = {options.C:g} on {len(training)} rows")
    (found,) = solve_path(
        training.vectors, training.codes, Cs=[options.C], sample_weight=training.weights
    )
    return LogisticHead.of(found)


@dataclass(frozen=True, eq=False)
class LogisticHead:
    """A fitted logistic head. With two classes it is one weight vector, as in scikit-learn.

    Attributes
    ----------
    coefficients: (K, D) float32, or (1, D) for two classes.
    intercept: (K,) or (1,) float32.
    mean, scale: (D,) float32, of the training vectors.
    settings: C, iterations and whether the solver converged.
    """

    coefficients: np.ndarray
    intercept: np.ndarray
    mean: np.ndarray
    scale: np.ndarray
    settings: dict[str, Any]

    @classmethod
    def of(cls, found: Solution) -> LogisticHead:
        """The head of a solution on standardised vectors."""
        return cls(
            coefficients=(found.coefficients * found.scale).astype(np.float32),
            intercept=(found.intercept + found.coefficients @ found.mean).astype(np.float32),
            mean=found.mean.astype(np.float32),
            scale=found.scale.astype(np.float32),
            settings={"C": found.C, "iterations": found.iterations, "converged": found.converged},
        )

    def predict_proba(self, vectors: np.ndarray) -> np.ndarray:
        """Class probabilities (n, K), float32, of (n, D) vectors; works in blocks of rows."""
        weights = self.coefficients.astype(np.float64) / self.scale
        offset, columns = self.intercept - weights @ self.mean, weights.T.astype(np.float32)
        return in_blocks(vectors, self.outputs, lambda rows: softmax(rows @ columns + offset))

    @property
    def outputs(self) -> int:
        return max(2, len(self.intercept))

    @property
    def width(self) -> int:
        return int(self.coefficients.shape[1])

    def state(self) -> dict[str, np.ndarray]:
        names = ("coefficients", "intercept", "mean", "scale")
        return {name: getattr(self, name) for name in names}

    @classmethod
    def from_state(cls, state: dict[str, np.ndarray], settings: dict[str, Any]) -> LogisticHead:
        rows, width = state["coefficients"].shape
        shapes = {"coefficients": (rows, width), "intercept": (rows,)}
        arrays = floats(state, {**shapes, "mean": (width,), "scale": (width,)})
        return cls(settings=settings, **arrays)


@dataclass(frozen=True, eq=False)
class ChosenC:
    """The best C, the accuracies (folds, values of C) behind it, and how it was found in words."""

    C: float
    scores: np.ndarray
    words: str


def choose_c(
    training: TrainingSet,
    grid: Sequence[float] = C_GRID,
    folds: int | None = None,
    *,
    balanced: bool = False,
) -> ChosenC:
    """The C of the grid with the best cross-validated accuracy; of equals the smallest.

    `folds`: None for 5, or 3 where there are more than 2000 rows. Rows of one unit are in one
    fold; augmented views, and classes that are a single unit, train and never judge. About
    `SEARCH_ROWS` rows are looked at. `balanced`: by balanced accuracy.

    Raises `FeatcacheError` where the grid holds a C that is not above 0, or folds are below 2.
    """
    if folds is not None and folds < 2:
        raise FeatcacheError(f"{folds} folds: cross-validation needs at least 2")
    grid = sorted(grid)
    rows = _search_rows(training)
    part = training if len(rows) == len(training) else training.take(rows)
    fold = _folds(part, folds or (3 if len(part) > 2000 else 5))
    tests = _tests(part, fold)
    if not tests:
        words = f"C = {FALLBACK:g} without cross-validation (a class has a single training image)"
        return ChosenC(FALLBACK, np.zeros((0, len(grid))), words)
    count = int(fold.max()) + 1
    training.say(
        f"choosing C out of {len(grid)} by {count}-fold cross-validation on {len(part)} rows"
    )
    scores = _scores(part, grid, fold, tests, balanced=balanced)
    # argmax takes the first of equals: the simplest model.
    best = grid[int(scores.mean(axis=0).argmax())]
    where = f"{len(part)} of {len(training)}" if len(part) < len(training) else f"all {len(part)}"
    words = f"C = {best:g} by {count}-fold cross-validation on {where} training rows"
    return ChosenC(best, scores, words + ", by balanced accuracy" * balanced)


def _search_rows(training: TrainingSet) -> np.ndarray:
    """About `SEARCH_ROWS` rows, in whole units, the same share of every class."""
    if len(training) <= SEARCH_ROWS:
        return np.arange(len(training))
    codes, unit = training.codes, training.units
    order = np.random.default_rng(training.seed).permutation(int(unit.max()) + 1)[unit]
    picked = []
    for code in np.unique(codes):
        members = np.flatnonzero(codes == code)
        members = members[np.argsort(order[members], kind="stable")]
        count = max(2, int(len(members) * SEARCH_ROWS / len(codes)))
        last = order[members[count - 1]]
        picked.append(members[order[members] <= last])
    return np.sort(np.concatenate(picked))


def _folds(part: TrainingSet, folds: int) -> np.ndarray:
    """(n,) stratified fold numbers; where images share a group or their bytes, they share one.

    -1, always training, are the units without which a class would have nothing to learn from; all
    are where that leaves nothing to compare: fewer than two classes, or units for two folds.
    """
    pairs = np.unique(np.column_stack([part.codes, part.units]), axis=0)
    counts = np.bincount(pairs[:, 0], minlength=part.classes)
    needed = np.isin(part.units, pairs[counts[pairs[:, 0]] == 1, 1])
    numbers = np.full(len(part), -1)
    dealt = np.flatnonzero(~needed)
    common = np.unique(part.codes[dealt])
    if len(common) > 1:
        numbers[dealt] = _stratified(part.take(dealt), min(folds, int(counts[common].max())))
    return numbers


def _stratified(part: TrainingSet, folds: int) -> np.ndarray:
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    together = len(np.unique(part.units)) < len(part)
    kind = StratifiedGroupKFold if together else StratifiedKFold
    splitter = kind(n_splits=folds, shuffle=True, random_state=part.seed)
    numbers = np.empty(len(part), int)
    with warnings.catch_warnings():
        # A class with fewer images than there are folds is in some of them: that is no fault.
        warnings.filterwarnings("ignore", message="The least populated class")
        sides = splitter.split(part.codes, part.codes, groups=part.units if together else None)
        for number, (_, test) in enumerate(sides):
            numbers[test] = number
    return numbers


def _tests(part: TrainingSet, fold: np.ndarray) -> dict[int, np.ndarray]:
    """The plain rows of every fold without which each class still has rows to learn from."""
    judged = np.ones(len(part), bool) if part.plain is None else part.plain
    tests = {}
    for number in range(int(fold.max()) + 1):
        mine = fold == number
        left = np.bincount(part.codes[~mine], part.row_weights()[~mine], minlength=part.classes)
        wanted = np.bincount(part.codes, minlength=part.classes) > 0
        if (mine & judged).any() and left[wanted].all():
            tests[number] = np.flatnonzero(mine & judged)
    return tests


def _scores(
    part: TrainingSet,
    grid: Sequence[float],
    fold: np.ndarray,
    tests: dict[int, np.ndarray],
    *,
    balanced: bool,
) -> np.ndarray:
    """Accuracies (folds, values of C) on the test rows of each fold."""
    found = solve_path(
        part.vectors,
        part.codes,
        Cs=grid,
        sample_weight=part.weights,
        folds=np.where(np.isin(fold, list(tests)), fold, -1),
        loss_tol=SEARCH_LOSS_TOL,
    )
    judged = list(tests.values())
    weights = np.ones(len(part))
    if balanced:
        for rows in judged:
            weights[rows] = 1 / np.bincount(part.codes[rows])[part.codes[rows]]
    return fold_scores(part.vectors, part.codes, found, judged, weights)
