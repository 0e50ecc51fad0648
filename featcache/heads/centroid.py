"""The head `centroid`: the class whose mean is nearest. Fitted in one reading of the vectors."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from featcache.errors import one_of
from featcache.heads.calibration import find_sharpness
from featcache.heads.linear import (
    LinearHead,
    linear_head,
    spread_rows,
    unit_length,
)
from featcache.heads.model import blocks
from featcache.heads.training_set import TrainingSet

METRICS = ("cosine", "euclidean")


@dataclass(frozen=True, slots=True)
class CentroidOptions:
    """Options of `centroid`.

    metric: "cosine" compares directions, "euclidean" distances.
    """

    metric: str = "cosine"

    def __post_init__(self) -> None:
        one_of("--metric", self.metric, METRICS)


def fit(training: TrainingSet, options: CentroidOptions) -> LinearHead:
    """Class means; probabilities are a softmax of similarities, as sharp as each row's similarity
    to the mean of the *other* rows of its class says.

    The similarity is the cosine, or minus half the squared distance, which is linear in the vector
    but for a term that all classes share.
    """
    cosine = options.metric == "cosine"
    sums, counts = _sums(training, cosine)
    means = sums / counts[:, np.newaxis]
    weights = unit_length(means) if cosine else means
    offset = np.zeros(len(means)) if cosine else -np.square(means).sum(axis=1) / 2
    some = spread_rows(len(training))
    sharpness = 1.0
    # Of a class with a single row, nothing is left without it.
    some = some[counts[training.codes[some]] > training.row_weights()[some] * (1 + 1e-6)]
    if len(some):
        scores = _scores_without_own(training.take(some), sums, counts, cosine=cosine)
        weights_of_some = training.row_weights()[some]
        sharpness = find_sharpness(scores, training.codes[some], weights_of_some)
    settings = {**asdict(options), "unit_length": cosine}
    return linear_head(weights, offset, sharpness=sharpness, settings=settings)


def _rows(training: TrainingSet, block: slice, cosine: bool) -> np.ndarray:
    rows = np.asarray(training.vectors[block], np.float32)
    return unit_length(rows) if cosine else rows


def _sums(training: TrainingSet, cosine: bool) -> tuple[np.ndarray, np.ndarray]:
    """Weighted sum of each class's rows, (K, D), and weight of each class, (K,)."""
    sums = np.zeros((training.classes, training.width))
    weights, eye = training.row_weights(), np.eye(training.classes, dtype=np.float32)
    for block in blocks(training.vectors):
        member = eye[training.codes[block]] * weights[block, np.newaxis]
        sums += member.T @ _rows(training, block, cosine)
    return sums, np.bincount(training.codes, weights, training.classes)


def _scores_without_own(
    training: TrainingSet, sums: np.ndarray, counts: np.ndarray, *, cosine: bool
) -> np.ndarray:
    """(n, K) similarities of each row to the class means, its own class's without itself."""
    scores = np.empty((len(training), training.classes))
    squares = np.square(sums).sum(axis=1)
    for block in blocks(training.vectors):
        rows = _rows(training, block, cosine).astype(np.float64)
        own = np.arange(len(rows)), training.codes[block]
        share = training.row_weights()[block].astype(np.float64)
        products, lengths = rows @ sums.T, np.square(rows).sum(axis=1)
        # Of S - w x for the own class, else of S: the square, the product with x, the weight.
        left, rest = (np.tile(each, (len(rows), 1)) for each in (squares, counts))
        left[own] += share**2 * lengths - 2 * share * products[own]
        products[own] -= share * lengths
        rest[own] -= share
        if cosine:
            scores[block] = products / np.sqrt(np.maximum(left, 1e-30))
        else:
            scores[block] = products / rest - left / rest**2 / 2
    return scores
