"""The kinds of heads and their options by name; a training set becomes a fitted model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol

import numpy as np

from featcache.errors import FeatcacheError
from featcache.heads import centroid, dense, dense_training, knn, logreg, ridge, svm
from featcache.heads.dense import DenseHead
from featcache.heads.estimator import fit_estimator
from featcache.heads.knn import KnnHead
from featcache.heads.linear import LinearHead
from featcache.heads.logistic.table import balanced_weights
from featcache.heads.logreg import LogisticHead, choose_c
from featcache.heads.model import Model
from featcache.heads.training_set import TrainingSet
from featcache.options import flag


class _Loads(Protocol):
    """What a head's class does beside being a `Model`."""

    def from_state(self, state: dict[str, np.ndarray], settings: dict[str, Any]) -> Model:
        """The head that a state and settings describe; `FeatcacheError` where they do not fit."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of head: its options, how it is fitted and loaded, what it is in a line.

    `is_stopped` is true where validation rows stop its training.
    """

    summary: str
    options: type[Any]
    fit: Callable[[Any, Any], Model]
    head: _Loads
    is_stopped: bool = False


#: Every kind of head, by the name that --head takes.
HEADS: dict[str, Kind] = {
    "logreg": Kind("logistic regression", logreg.LogregOptions, logreg.fit, LogisticHead),
    "dense": Kind(
        "layers trained by Keras",
        dense.DenseOptions,
        dense_training.fit,
        DenseHead,
        is_stopped=True,
    ),
    "knn": Kind("votes of the nearest training images", knn.KnnOptions, knn.fit, KnnHead),
    "centroid": Kind("nearest class mean", centroid.CentroidOptions, centroid.fit, LinearHead),
    "ridge": Kind("ridge regression on classes", ridge.RidgeOptions, ridge.fit, LinearHead),
    "svm": Kind("linear support vector machine", svm.SvmOptions, svm.fit, LinearHead),
}


def options_of(head: str, given: dict[str, Any]) -> Any:
    """The options of a kind of head from those that were given, the others by default.

    Raises `FeatcacheError` for an unknown kind, a wrong value, or an option that the kind does not
    have: it says which kinds have it.
    """
    if head not in HEADS:
        raise FeatcacheError(
            f"--head {head!r}: there is no such head; there are: {', '.join(HEADS)}"
        )
    for name in given:
        having = [kind for kind in HEADS if name in option_names(kind)]
        if head in having:
            continue
        if having:
            raise FeatcacheError(
                f"{flag(name)} is an option of --head {', '.join(having)}, not of {head}"
            )
        own = ", ".join(map(flag, option_names(head)))
        raise FeatcacheError(f"no head has an option {flag(name)}; {head} has {own}")
    return HEADS[head].options(**given)


def option_names(head: str) -> list[str]:
    """The names of a kind's options, as Python has them."""
    return [field.name for field in fields(HEADS[head].options)]


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
