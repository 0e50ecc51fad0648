"""Feeds: where a training's batches come from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np


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
