"""Training: what a head learns from, and the shape that every kind of head has.

Each ``heads/<kind>.py`` has ``<Kind>Options``, a frozen dataclass of the command's options, and
``fit(training, options)``, which gives a `Model`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from featcache.errors import FeatcacheError

#: Bytes of vectors that are read at a time.
BLOCK_BYTES = 64 * 2**20


@dataclass(frozen=True, eq=False)
class Training:
    """Labelled vectors, and what belongs together among them.

    Attributes
    ----------
    vectors: (n, D) array, memory map or `Rows`: index it with a slice or with row numbers.
    codes: (n,) int, each row's class, 0 to `classes` - 1.
    weights: (n,) float32, what each row counts, class weights included; None: all the same.
    units: (n,) int; rows of one image, of its copies and of its group share a number.
    images: (n,) int; rows of one image (its augmented views) share a number.
    validation: rows that may stop the training, None where there are none.
    say: called with a line of text now and then.
    plain: (n,) bool, the rows that are no augmented views; None: all. Only these may judge.
    """

    vectors: np.ndarray
    codes: np.ndarray
    classes: int
    weights: np.ndarray | None
    units: np.ndarray
    images: np.ndarray
    validation: Training | None = None
    seed: int = 0
    say: Callable[[str], None] = lambda line: None
    plain: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def width(self) -> int:
        """Numbers in a vector, D."""
        return int(self.vectors.shape[1])

    def row_weights(self) -> np.ndarray:
        """(n,) float32: what each row counts, 1 where nothing else was said."""
        return np.ones(len(self), np.float32) if self.weights is None else self.weights

    def take(self, rows: np.ndarray) -> Training:
        """The training of some rows, without validation."""
        return Training(
            vectors=self.vectors[rows],
            codes=self.codes[rows],
            classes=self.classes,
            weights=None if self.weights is None else self.weights[rows],
            units=self.units[rows],
            images=self.images[rows],
            seed=self.seed,
            say=self.say,
            plain=None if self.plain is None else self.plain[rows],
        )


class Model(Protocol):
    """What a kind of head has learned: plain data and how to predict from it."""

    @property
    def settings(self) -> dict[str, Any]:
        """How it was fitted, as plain JSON."""

    @property
    def width(self) -> int:
        """Numbers in a vector, D."""

    @property
    def outputs(self) -> int:
        """The number of classes K."""

    def predict_proba(self, vectors: np.ndarray) -> np.ndarray:
        """Class probabilities (n, K), float32, of (n, D) vectors; works in blocks of rows."""

    def state(self) -> dict[str, np.ndarray]:
        """The arrays that, with `settings`, are the whole head."""


def blocks(vectors: np.ndarray) -> Iterator[slice]:
    """Slices that cover all rows, `BLOCK_BYTES` as float32 at a time."""
    rows = max(1, BLOCK_BYTES // (4 * max(1, vectors.shape[1])))
    for start in range(0, len(vectors), rows):
        yield slice(start, min(start + rows, len(vectors)))


def in_blocks(
    vectors: np.ndarray, outputs: int, probabilities: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """(n, outputs) float32: a function of (m, D) float32 rows, called block by block."""
    result = np.empty((len(vectors), outputs), np.float32)
    for block in blocks(vectors):
        result[block] = probabilities(np.asarray(vectors[block], dtype=np.float32))
    return result


def softmax(scores: np.ndarray) -> np.ndarray:
    """Probabilities (n, K) of scores (n, K)."""
    exponent = np.exp(scores - scores.max(axis=1, keepdims=True))
    shares: np.ndarray = exponent / exponent.sum(axis=1, keepdims=True)
    return shares


def moments(training: Training) -> tuple[np.ndarray, np.ndarray]:
    """Weighted mean and deviation of each column, (D,) float64; a constant column deviates by 1."""
    total = training.row_weights().sum(dtype=np.float64)
    first = np.asarray(training.vectors[:1], np.float32)[0]
    sums, squares = np.zeros(training.width), np.zeros(training.width)
    for block in blocks(training.vectors):
        # Around the first row, so that the squares of large means do not cancel.
        shifted = np.asarray(training.vectors[block], np.float32) - first
        part = training.row_weights()[block]
        sums += part @ shifted
        squares += part @ np.square(shifted, out=shifted)
    mean = sums / total
    variance = squares / total - mean**2
    flat = variance <= 1e-12 * (squares / total + 1e-30)
    return mean + first, np.sqrt(np.where(flat, 1.0, variance))


def floats(
    state: dict[str, np.ndarray], shapes: dict[str, tuple[int | None, ...]]
) -> dict[str, np.ndarray]:
    """The arrays of `shapes` out of a saved state: there, finite float32, of their shape.

    Raises `FeatcacheError` that names the array. None stands for any length.
    """
    lacking = [name for name in shapes if name not in state]
    if lacking:
        raise FeatcacheError(f"the arrays {lacking} are missing")
    for name, shape in shapes.items():
        array = state[name]
        if array.dtype != np.float32 or not np.isfinite(array).all():
            raise FeatcacheError(f"the array {name!r} is not finite float32")
        fits = array.ndim == len(shape) and all(
            want in (None, length) for want, length in zip(shape, array.shape, strict=True)
        )
        if not fits:
            raise FeatcacheError(
                f"the array {name!r} has the shape {array.shape}: it does not fit the others"
            )
    return {name: state[name] for name in shapes}
