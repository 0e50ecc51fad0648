"""The head `knn`: the votes of the nearest training vectors. It keeps all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np

from featcache.errors import FeatcacheError, at_least, one_of
from featcache.heads.centroid import METRICS
from featcache.heads.linear import unit_length
from featcache.heads.model import floats
from featcache.heads.training_set import TrainingSet

#: Similarities that are in memory at a time.
SIMILARITIES = 2**24


@dataclass(frozen=True, slots=True)
class KnnOptions:
    """Options of `knn`.

    neighbors: how many vote; metric: "cosine" or "euclidean".
    class_weight: "balanced" makes the votes of rare classes count more.
    """

    neighbors: int = 10
    metric: str = "cosine"
    class_weight: str = "none"

    def __post_init__(self) -> None:
        at_least("--neighbors", self.neighbors, 1)
        one_of("--metric", self.metric, METRICS)
        one_of("--class-weight", self.class_weight, ("none", "balanced"))


@dataclass(frozen=True, eq=False)
class KnnHead:
    """The training vectors, their classes and what each vote counts.

    A class's probability is its share of the votes, where one more vote is shared by all classes:
    so none is 0, and the order is that of the votes.

    Attributes
    ----------
    vectors: (n, D) float32 or float16; of length 1 where the metric is "cosine".
    codes: (n,) int32; votes: (n,) float32, about 1 each.
    settings: the options and the number of classes.
    """

    vectors: np.ndarray
    codes: np.ndarray
    votes: np.ndarray
    settings: dict[str, Any]

    @property
    def outputs(self) -> int:
        return int(self.settings["classes"])

    @property
    def width(self) -> int:
        return int(self.vectors.shape[1])

    @cached_property
    def _known(self) -> tuple[np.ndarray, np.ndarray]:
        """The vectors in float32, and half the squares of their lengths.

        |a - b|^2 / 2 = |a|^2 / 2 + |b|^2 / 2 - a.b, and |a| is the same for all neighbours.
        """
        known = np.asarray(self.vectors, np.float32)
        return known, np.einsum("ij,ij->i", known, known) / 2

    def predict_proba(self, vectors: np.ndarray) -> np.ndarray:
        """Class probabilities (n, K), float32, of (n, D) vectors; works in blocks of rows."""
        return self.predict_each(vectors, [int(self.settings["neighbors"])])[0]

    def predict_each(self, vectors: np.ndarray, neighbors: Sequence[int]) -> list[np.ndarray]:
        """Class probabilities (n, K) for each number of neighbours, from one search for all."""
        known, penalty = self._known
        size = max(1, SIMILARITIES // len(known))
        results = [np.empty((len(vectors), self.outputs), np.float32) for _ in neighbors]
        for start in range(0, len(vectors), size):
            rows = np.asarray(vectors[start : start + size], np.float32)
            if self.settings["metric"] == "cosine":
                rows = unit_length(rows)
            nearness = rows @ known.T
            nearness -= penalty
            nearest = _largest(nearness, min(max(neighbors), len(known)))
            for result, count in zip(results, neighbors, strict=True):
                result[start : start + size] = self._shares(nearest[:, :count])
        return results

    def _shares(self, nearest: np.ndarray) -> np.ndarray:
        votes = np.full((len(nearest), self.outputs), 1 / self.outputs)
        rows = np.arange(len(nearest))
        for column in nearest.T:
            votes[rows, self.codes[column]] += self.votes[column]
        shares: np.ndarray = votes / votes.sum(axis=1, keepdims=True)
        return shares

    def state(self) -> dict[str, np.ndarray]:
        return {"vectors": self.vectors, "codes": self.codes, "votes": self.votes}

    @classmethod
    def from_state(cls, state: dict[str, np.ndarray], settings: dict[str, Any]) -> KnnHead:
        vectors, codes = state["vectors"], state["codes"]
        votes = floats(state, {"votes": (len(codes),)})["votes"]
        KnnOptions(settings["neighbors"], settings["metric"])
        classes = at_least("classes", settings["classes"], 2)
        if vectors.dtype not in (np.float16, np.float32) or vectors.ndim != 2 or not len(vectors):
            raise FeatcacheError("the array 'vectors' is no matrix of float32 or float16")
        if codes.shape != (len(vectors),) or codes.dtype != np.int32:
            raise FeatcacheError("the arrays of the head do not fit together")
        if codes.min() < 0 or codes.max() >= classes:
            raise FeatcacheError("the array 'codes' names classes that do not exist")
        if not np.isfinite(vectors).all() or (votes < 0).any():
            raise FeatcacheError("the array 'vectors' is not finite, or 'votes' has values below 0")
        return cls(vectors, codes, votes, settings)


def _largest(nearness: np.ndarray, count: int) -> np.ndarray:
    """(n, count) the columns of each row's largest numbers, the largest first."""
    columns = nearness.shape[1]
    some = np.argpartition(nearness, columns - count, axis=1)[:, columns - count :]
    order = np.argsort(-np.take_along_axis(nearness, some, axis=1), axis=1, kind="stable")
    nearest: np.ndarray = np.take_along_axis(some, order, axis=1)
    return nearest


def fit(training: TrainingSet, options: KnnOptions) -> KnnHead:
    """Keep the training vectors, in the type they are stored in."""
    if options.neighbors > len(training):
        raise FeatcacheError(
            f"--neighbors {options.neighbors}: there are {len(training)} training rows only"
        )
    vectors = np.array(training.vectors)
    if options.metric == "cosine":
        vectors = unit_length(vectors.astype(np.float32, copy=False)).astype(vectors.dtype)
    training.say(f"the head keeps all {len(vectors):,} vectors: {vectors.nbytes / 1e6:.0f} MB")
    votes = training.row_weights().astype(np.float32)
    settings = {**asdict(options), "classes": training.classes}
    return KnnHead(vectors, training.codes.astype(np.int32), votes, settings)
