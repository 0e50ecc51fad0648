"""Epochs: which rows are seen in which order, a function of the seed and the epoch alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np


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


def pieces(order: np.ndarray, batch: int, most: int) -> Iterator[np.ndarray]:
    """Cut an order into pieces of at most `most` rows, but whole batches."""
    size = max(batch, most // batch * batch)
    for start in range(0, len(order), size):
        yield order[start : start + size]
