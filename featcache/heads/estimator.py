"""A user's own scikit-learn classifier as a head: used from Python, never saved by us."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from featcache.errors import FeatcacheError
from featcache.heads.model import in_blocks
from featcache.heads.training_set import TrainingSet


@dataclass(frozen=True, eq=False)
class EstimatorHead:
    """A fitted scikit-learn classifier; `settings` has the text of its parameters."""

    estimator: Any
    width: int
    outputs: int
    settings: dict[str, Any]

    def predict_proba(self, vectors: np.ndarray) -> np.ndarray:
        """Class probabilities (n, K), float32, of (n, D) vectors; works in blocks of rows."""
        return in_blocks(vectors, self.outputs, self.estimator.predict_proba)

    def state(self) -> dict[str, np.ndarray]:
        """There is none: raises `FeatcacheError`."""
        raise FeatcacheError(
            f"a head made of your own {type(self.estimator).__name__} is not saved: its file could "
            f"run foreign code when loaded. Keep it in Python, or fit one of featcache.HEADS"
        )


def fit_estimator(training: TrainingSet, estimator: Any) -> EstimatorHead:
    """Fit a clone of the classifier.

    Raises `FeatcacheError` where it gives no probabilities, or takes no weights that were given.
    """
    from sklearn.base import clone

    name = type(estimator).__name__
    fitted = clone(estimator)
    options = {} if training.weights is None else {_weights_of(fitted): training.weights}
    try:
        fitted.fit(np.asarray(training.vectors), training.codes, **options)
    except (TypeError, ValueError) as error:
        # Whatever else goes wrong in a classifier that is not ours is its own matter.
        if not options or "sample_weight" not in str(error):
            raise
        raise FeatcacheError(
            f"{name} takes no sample weights: {error}. Leave sample_weight= away, or take another "
            f"classifier"
        ) from error
    if not hasattr(fitted, "predict_proba"):
        raise FeatcacheError(
            f"{name} gives no probabilities: wrap it in sklearn.calibration.CalibratedClassifierCV"
        )
    return EstimatorHead(fitted, training.width, training.classes, {"estimator": repr(estimator)})


def _weights_of(estimator: Any) -> str:
    """The name under which `fit` takes sample weights: a Pipeline hands them to its last step."""
    from sklearn.pipeline import Pipeline

    if isinstance(estimator, Pipeline):
        last, step = estimator.steps[-1]
        return f"{last}__{_weights_of(step)}"
    return "sample_weight"
