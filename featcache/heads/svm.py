"""The head `svm`: scikit-learn's linear support vector machine on standardised vectors."""

from __future__ import annotations

import warnings
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from featcache.errors import above_zero, one_of
from featcache.heads.calibration import find_sharpness
from featcache.heads.linear import LinearHead, linear_head
from featcache.heads.training_set import TrainingSet, moments

#: Of the training rows, this part measures how sharp the probabilities are.
HELD_OUT = 0.1
#: Numbers in the training vectors beyond which liblinear, on one core, takes minutes.
SLOW = 20_000_000


@dataclass(frozen=True, slots=True)
class SvmOptions:
    """Options of `svm`.

    C: inverse strength of the penalty.
    class_weight: "balanced" makes every class count the same, "none" every row.
    """

    C: float = 0.001
    class_weight: str = "none"

    def __post_init__(self) -> None:
        above_zero("--C", self.C, "0.001 (small = simple)")
        one_of("--class-weight", self.class_weight, ("none", "balanced"))


def fit(training: TrainingSet, options: SvmOptions) -> LinearHead:
    """One class against the others, squared hinge loss; probabilities: softmax of the margins,
    as sharp as a tenth of the training rows says, which a first fit does not see.
    """
    if len(training) * training.width > SLOW:
        training.say("svm can take minutes at this size; logreg is a linear head too, and faster")
    mean, scale = moments(training)
    rows = np.array(training.vectors, np.float32)
    rows -= mean.astype(np.float32)
    rows /= scale.astype(np.float32)
    weights, codes = training.row_weights(), training.codes
    held = _held_out(training)
    first = _solve(rows[~held], codes[~held], weights[~held], options.C)
    sharpness = find_sharpness(_margins(first, rows[held]), codes[held], weights[held])
    solver = _solve(rows, codes, weights, options.C)
    slopes, offset = _both_sides(solver)
    slopes = slopes / scale
    settings = {**asdict(options), "converged": bool(solver.n_iter_ < solver.max_iter)}
    return linear_head(slopes, offset - slopes @ mean, sharpness=sharpness, settings=settings)


def _held_out(training: TrainingSet) -> np.ndarray:
    """About a tenth of the units of each class; every class keeps a row to fit on."""
    random = np.random.default_rng(training.seed)
    ranks = random.permutation(int(training.units.max()) + 1)[training.units]
    held = np.zeros(len(training), bool)
    for code in range(training.classes):
        mine = np.unique(ranks[training.codes == code])
        chosen = mine[: min(max(1, round(len(mine) * HELD_OUT)), len(mine) - 1)]
        held |= np.isin(ranks, chosen) & (training.codes == code)
    held = np.isin(training.units, training.units[held])
    fitted = np.unique(training.codes[~held])
    # A unit can hold several classes: none may lose its last row.
    return held & np.isin(training.codes, fitted)


def _solve(rows: np.ndarray, codes: np.ndarray, weights: np.ndarray, C: float) -> Any:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.svm import LinearSVC

    solver = LinearSVC(C=C, dual=len(rows) < rows.shape[1], random_state=0)
    with warnings.catch_warnings():
        # Not hidden: `settings["converged"]` is stored with the head and printed.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return solver.fit(rows, codes, sample_weight=weights)


def _both_sides(solver: Any) -> tuple[np.ndarray, np.ndarray]:
    """(K, D) and (K,): two classes have one score, which is the second's against the first's."""
    slopes, offset = solver.coef_, solver.intercept_
    if len(offset) > 1:
        return slopes, offset
    return np.concatenate([-slopes, slopes]) / 2, np.concatenate([-offset, offset]) / 2


def _margins(solver: Any, rows: np.ndarray) -> np.ndarray:
    slopes, offset = _both_sides(solver)
    margins: np.ndarray = rows @ slopes.T + offset
    return margins
