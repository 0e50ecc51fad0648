"""Model fitting: rows of features become a training, and a training a fitted model."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from featcache.heads.estimator import fit_estimator
from featcache.heads.kinds import HEADS
from featcache.heads.logistic.class_weights import balanced_weights
from featcache.heads.logreg import choose_c
from featcache.heads.model import Model
from featcache.heads.training_set import TrainingSet


def fit_model(training: TrainingSet, head: Any, chosen: Any) -> tuple[Model, str]:
    """The fitted model of a kind of head with these options, and how what was left open was chosen.

    `head` may be a classifier of the user's own, which has no options.
    """
    if not isinstance(head, str):
        return fit_estimator(training, head), "a classifier of your own"
    training = _class_weighted(training, getattr(chosen, "class_weight", "none"))
    chosen, how = _settled(training, chosen)
    training.say(f"fitting {head} on {len(training)} rows of {training.width}")
    return HEADS[head].fit(training, chosen), how


def _class_weighted(training: TrainingSet, class_weight: str) -> TrainingSet:
    """With "balanced", each class's rows together count the same, whatever single rows count."""
    if class_weight == "none":
        return training
    weights = training.row_weights()
    totals = np.bincount(training.codes, weights, minlength=training.classes)
    factors = balanced_weights(totals).astype(np.float32)
    return replace(training, weights=weights * factors[training.codes])


def _settled(training: TrainingSet, chosen: Any) -> tuple[Any, str]:
    """Options with nothing left to choose, and how they were chosen."""
    if "C" not in type(chosen).__dataclass_fields__:
        return chosen, ""
    if chosen.C is not None:
        return chosen, f"C = {chosen.C:g}"
    best = choose_c(training, balanced=getattr(chosen, "class_weight", "none") == "balanced")
    return replace(chosen, C=best.C), best.words
