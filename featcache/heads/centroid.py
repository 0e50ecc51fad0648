"""The head `centroid`: the class whose mean is nearest. Fitted in one reading of the vectors."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from featcache.heads.checks import one_of
from featcache.heads.linear import LinearHead, find_sharpness, linear_head, unit_length
from featcache.heads.training import Training, blocks

METRICS = ("cosine", "euclidean")


@dataclass(frozen=True, slots=True)
class CentroidOptions:
    """Options of `centroid`.

    metric: "cosine" compares directions, "euclidean" distances.
    """

    metric: str = "cosine"

    def __post_init__(self) -> None:
        one_of("--metric", self.metric, METRICS)


def fit(training: Training, options: CentroidOptions) -> LinearHead:
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
    scores = _scores_without_own(training, sums, counts, cosine=cosine)
    several = counts[training.codes] > training.row_weights() * (1 + 1e-6)
    sharpness = 1.0
    if several.any():
        sharpness = find_sharpness(
            scores[several], training.codes[several], training.row_weights()[several]
        )
    settings = {**asdict(options), "unit_length": cosine}
    return linear_head(weights, offset, sharpness=sharpness, settings=settings)


def _rows(training: Training, block: slice, cosine: bool) -> np.ndarray:
    rows = np.asarray(training.vectors[block], np.float32)
    return unit_length(rows) if cosine else rows


def _sums(training: Training, cosine: bool) -> tuple[np.ndarray, np.ndarray]:
    """Weighted sum of each class's rows, (K, D), and weight of each class, (K,)."""
    sums = np.zeros((training.classes, training.width))
    member = np.eye(training.classes)[training.codes] * training.row_weights()[:, np.newaxis]
    for block in blocks(training.vectors):
        sums += member[block].T @ _rows(training, block, cosine)
    return sums, member.sum(axis=0)


def _scores_without_own(
    training: Training, sums: np.ndarray, counts: np.ndarray, *, cosine: bool
) -> np.ndarray:
    """(n, K) similarities of each row to the class means, its own class's without itself."""
    scores = np.empty((len(training), training.classes))
    squares = np.square(sums).sum(axis=1)
    for block in blocks(training.vectors):
        rows, codes = _rows(training, block, cosine), training.codes[block]
        own = np.arange(len(rows)), codes
        share = training.row_weights()[block].astype(np.float64)
        products = rows.astype(np.float64) @ sums.T
        lengths = np.square(rows, dtype=np.float64).sum(axis=1)
        # |S - w x|^2 and x.(S - w x), for the own class; |S|^2 and x.S for the others.
        left = np.broadcast_to(squares, products.shape).copy()
        left[own] += share**2 * lengths - 2 * share * products[own]
        products[own] -= share * lengths
        rest = np.broadcast_to(counts, products.shape).copy()
        rest[own] = np.maximum(rest[own] - share, 1e-12)
        if cosine:
            scores[block] = products / np.sqrt(np.maximum(left, 1e-30))
        else:
            scores[block] = products / rest - left / rest**2 / 2
    return scores
