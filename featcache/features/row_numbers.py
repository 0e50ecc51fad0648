"""Row numbers: as short as they can be told, and those of images by name."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def short(numbers: np.ndarray) -> slice | np.ndarray:
    """Numbers as a slice where each is one more than the one before."""
    first = int(numbers[0]) if len(numbers) else 0
    if np.array_equal(numbers, np.arange(first, first + len(numbers))):
        return slice(first, first + len(numbers))
    return numbers.astype(np.min_scalar_type(int(numbers.max())))


def long(numbers: slice | np.ndarray) -> np.ndarray:
    """The numbers again."""
    return np.arange(numbers.start, numbers.stop) if isinstance(numbers, slice) else numbers


def rows_by_name(names: np.ndarray, wanted: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """The rows of some images, in their order, and which of these images each row is of.

    `names` (R,) are sorted; an image may have several rows, or none.
    """
    first, end = (
        np.searchsorted(names, np.asarray(wanted, str), side) for side in ("left", "right")
    )
    counts = end - first
    given = np.repeat(np.arange(len(wanted)), counts)
    within = np.arange(len(given)) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.repeat(first, counts) + within, given
