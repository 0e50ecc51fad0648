"""Training: what a head learns from, and the shape that every kind of head has.

Each ``heads/<kind>.py`` has ``<Kind>Options``, a frozen dataclass of the command's options, and
``fit(training, options)``, which gives a `Model`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np

from featcache.errors import FeatcacheError

#: Bytes of vectors that are read at a time.
BLOCK_BYTES = 64 * 2**20


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
