"""The table of the kinds of heads, and their options by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Protocol

import numpy as np

from featcache.errors import FeatcacheError
from featcache.heads import centroid, dense, dense_training, knn, logreg_, ridge, svm
from featcache.heads.dense import DenseHead
from featcache.heads.knn import KnnHead
from featcache.heads.linear import LinearHead
from featcache.heads.logistic_ import LogisticHead
from featcache.heads.model import Model


class _Loads(Protocol):
    """What a head's class does beside being a `Model`."""

    def from_state(self, state: dict[str, np.ndarray], settings: dict[str, Any]) -> Model:
        """The head that arrays and settings describe, checked."""


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
    "logreg": Kind("logistic regression", logreg_.LogregOptions, logreg_.fit, LogisticHead),
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
        flag = f"--{name.replace('_', '-')}"
        if having:
            raise FeatcacheError(
                f"{flag} is an option of --head {', '.join(having)}, not of {head}"
            )
        own = ", ".join(f"--{each.replace('_', '-')}" for each in option_names(head))
        raise FeatcacheError(f"no head has an option {flag}; {head} has {own}")
    return HEADS[head].options(**given)


def option_names(head: str) -> list[str]:
    """The names of a kind's options, as Python has them."""
    return [field.name for field in fields(HEADS[head].options)]
