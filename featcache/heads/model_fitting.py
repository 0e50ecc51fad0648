"""Model fitting: rows of features become a training, and a training a fitted model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from featcache.errors import FeatcacheError
from featcache.features.features import Features
from featcache.features.rows_ import rows_of
from featcache.features.splits.roles import Roles
from featcache.heads.estimator import fit_estimator
from featcache.heads.kinds import HEADS
from featcache.heads.logistic.class_weights import balanced_weights
from featcache.heads.logreg import choose_c
from featcache.heads.model import Model, Training, blocks


def training_of(
    features: Features,
    roles: Roles,
    *,
    weights: np.ndarray | None = None,
    seed: int,
    say: Callable[[str], None] = lambda line: None,
) -> Training:
    """The rows that train, with those that stop the training, where there are any.

    `weights`: (R,) what each row of the features counts. Raises `FeatcacheError` where a vector is
    not finite, or no row counts.
    """
    classes = np.array(features[roles.train].classes)

    def part(mask: np.ndarray, validation: Training | None) -> Training:
        rows = features[mask]
        vectors = rows_of(features, mask)
        check_finite(rows, vectors)
        return Training(
            vectors=vectors,
            codes=np.searchsorted(classes, rows.labels),
            classes=len(classes),
            weights=None if weights is None else weights[mask],
            units=np.unique(roles.unit[mask], return_inverse=True)[1],
            images=np.unique(rows.names, return_inverse=True)[1],
            validation=validation,
            seed=seed,
            say=say,
            plain=rows.views == 0,
        )

    training = part(roles.train, part(roles.stop, None) if roles.stop.any() else None)
    if not training.row_weights().any():
        raise FeatcacheError("sample_weight: every training row has the weight 0")
    return training


def fit_model(training: Training, head: Any, chosen: Any) -> tuple[Model, str]:
    """The fitted model of a kind of head with these options, and how what was left open was chosen.

    `head` may be a classifier of the user's own, which has no options.
    """
    if not isinstance(head, str):
        return fit_estimator(training, head), "a classifier of your own"
    training = _class_weighted(training, getattr(chosen, "class_weight", "none"))
    chosen, how = _settled(training, chosen)
    training.say(f"fitting {head} on {len(training)} rows of {training.width}")
    return HEADS[head].fit(training, chosen), how


def _class_weighted(training: Training, class_weight: str) -> Training:
    """With "balanced", each class's rows together count the same, whatever single rows count."""
    if class_weight == "none":
        return training
    weights = training.row_weights()
    totals = np.bincount(training.codes, weights, minlength=training.classes)
    factors = balanced_weights(totals).astype(np.float32)
    return replace(training, weights=weights * factors[training.codes])


def _settled(training: Training, chosen: Any) -> tuple[Any, str]:
    """Options with nothing left to choose, and how they were chosen."""
    if "C" not in type(chosen).__dataclass_fields__:
        return chosen, ""
    if chosen.C is not None:
        return chosen, f"C = {chosen.C:g}"
    best = choose_c(training, balanced=getattr(chosen, "class_weight", "none") == "balanced")
    return replace(chosen, C=best.C), best.words


def check_finite(rows: Features, vectors: np.ndarray) -> None:
    """Raises `FeatcacheError` that names the images of vectors that are not finite."""
    bad = np.concatenate([~np.isfinite(vectors[block]).all(axis=1) for block in blocks(vectors)])
    if bad.any():
        shown = ", ".join(repr(name) for name in rows.names[bad][:3].tolist())
        raise FeatcacheError(
            f"{rows.path}: {int(bad.sum())} vectors hold numbers that are not finite ({shown}...): "
            f"leave these images out, or extract again with --dtype float32"
        )
