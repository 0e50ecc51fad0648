"""RowFeed: batches of cached rows, read ahead while the network computes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from featcache.images.threads import read_ahead
from featcache.training.epochs import Order
from featcache.training.feeds_ import TrainingBatch, in_batches
from featcache.training.options import LearningOptions

#: Rows up to this size are held in memory; more are read batch by batch.
HELD_BYTES = 2 * 2**30
#: Batches read ahead of the network.
AHEAD = 4


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
        weights = np.ones(len(rows)) if self.weights is None else self.weights[rows]
        return TrainingBatch(
            np.asarray(source[chosen])[back],
            self.codes[rows].astype(np.int32),
            weights.astype(np.float32),
        )
