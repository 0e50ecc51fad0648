"""Feeds: where a training's batches come from, and in which order.

The order is a function of the seed and the epoch alone. `RowFeed` reads cached rows ahead while the
network computes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from featcache.images.threads import read_ahead
from featcache.training.options import LearningOptions

#: Rows up to this size are held in memory; more are read batch by batch.
HELD_BYTES = 2 * 2**30
#: Batches read ahead of the network.
AHEAD = 4


@dataclass(frozen=True, eq=False)
class TrainingBatch:
    """Some images, as a model takes them.

    Attributes
    ----------
    inputs: (n, ...) pixels or cached activations, in the type they are stored in.
    codes: (n,) int32, the class of each.
    weights: (n,) float32, what each counts in training.
    """

    inputs: np.ndarray
    codes: np.ndarray
    weights: np.ndarray

    @classmethod
    def of(
        cls, inputs: np.ndarray, rows: np.ndarray, codes: np.ndarray, weights: np.ndarray | None
    ) -> TrainingBatch:
        """The batch of some rows, out of the codes and weights of all; None: each counts 1."""
        counts = np.ones(len(rows)) if weights is None else weights[rows]
        return cls(inputs, codes[rows].astype(np.int32), counts.astype(np.float32))


class Feed(Protocol):
    """Batches of labelled images, as often as they are asked for."""

    def __len__(self) -> int:
        """The number of images."""

    def epoch(self, number: int) -> Iterator[TrainingBatch]:
        """The batches of an epoch: shuffled, random; a function of the seed and the number."""

    def plain(self) -> Iterator[TrainingBatch]:
        """Every image once, in order, without augmentation: for judging."""


def in_batches(rows: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """Cut (n,) row numbers into pieces of `size`; the last one may be shorter."""
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


@dataclass(frozen=True, eq=False)
class RowFeed:
    """Rows of cached activations as a feed.

    Attributes
    ----------
    vectors: (n, ...) float16 or float32: an array, a memory map, or whatever has a shape and a
        dtype and can be indexed with a slice and with increasing row numbers.
    codes: (n,) int, the class of each row.
    weights: (n,) float32, what each row counts in training; None: all the same.
    images: (n,) int, which image a row belongs to. An epoch shows a random row of each image (its
        cached views); `plain` shows the first one, which in a file of features is the plain image.
    """

    vectors: Any
    codes: np.ndarray
    weights: np.ndarray | None
    images: np.ndarray
    options: LearningOptions

    def __len__(self) -> int:
        return len(self._order)

    def epoch(self, number: int) -> Iterator[TrainingBatch]:
        """The batches of an epoch: shuffled, a random row of each image."""
        return self._batches(self._order.epoch(number, self.options.images_per_epoch))

    def plain(self) -> Iterator[TrainingBatch]:
        """The first row of each image, in the order of the rows."""
        return self._batches(np.sort(self._order.rows[self._order.starts]))

    @cached_property
    def _order(self) -> Order:
        return Order.of(np.asarray(self.images), self.options.seed)

    @cached_property
    def _source(self) -> Any:
        """The rows in memory where they fit, else what was given."""
        size = int(np.prod(self.vectors.shape)) * self.vectors.dtype.itemsize
        return np.ascontiguousarray(self.vectors[:]) if size <= HELD_BYTES else self.vectors

    def _batches(self, rows: np.ndarray) -> Iterator[TrainingBatch]:
        source = self._source
        pieces = in_batches(rows, self.options.batch_size)
        return read_ahead(lambda piece: self._batch(source, piece), pieces, 1, AHEAD)

    def _batch(self, source: Any, rows: np.ndarray) -> TrainingBatch:
        # Increasing, each once: a disk reads forward, and h5py takes nothing else.
        chosen, back = np.unique(rows, return_inverse=True)
        inputs = np.asarray(source[chosen])[back]
        return TrainingBatch.of(inputs, rows, self.codes, self.weights)


@dataclass(frozen=True, eq=False)
class Order:
    """Every image once in a pass, in a random order, as a random one of its views.

    Attributes
    ----------
    rows: (n,) row numbers, those of an image side by side.
    starts, counts: (m,) where each image's rows begin in `rows`, and how many there are.
    seed: of the order.
    """

    rows: np.ndarray
    starts: np.ndarray
    counts: np.ndarray
    seed: int

    @classmethod
    def of(cls, images: np.ndarray, seed: int) -> Order:
        """The order of rows, given (n,) which image each one belongs to."""
        rows = np.argsort(images, kind="stable")
        _, starts, counts = np.unique(images[rows], return_index=True, return_counts=True)
        return cls(rows, starts, counts, seed)

    def __len__(self) -> int:
        return len(self.starts)

    def pass_over(self, number: int) -> np.ndarray:
        """The rows of the pass `number` over all images."""
        random = np.random.default_rng([self.seed, number])
        rows = self.rows[self.starts + random.integers(self.counts)]
        return random.permutation(rows)

    def epoch(self, number: int, count: int | None) -> np.ndarray:
        """The rows of an epoch: a pass, or the next `count` of one pass after the other."""
        if count is None:
            return self.pass_over(number)
        start = number * count
        first, last = start // len(self), (start + count - 1) // len(self)
        passes = np.concatenate([self.pass_over(each) for each in range(first, last + 1)])
        return passes[start - first * len(self) :][:count]
