"""Row numbers, as short as they can be told."""

from __future__ import annotations

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
