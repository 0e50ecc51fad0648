"""Checks of options and of the arrays of a saved head; what fails is named."""

from __future__ import annotations

from typing import Any

import numpy as np

from featcache.errors import FeatcacheError

#: The largest seed that scikit-learn takes.
LAST_SEED = 2**32 - 1


def at_least(option: str, value: Any, smallest: int) -> int:
    """A whole number; raises `FeatcacheError` that names the option."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < smallest:
        raise FeatcacheError(f"{option} {value}: expected a whole number of at least {smallest}")
    return int(value)


def above_zero(option: str, value: Any, example: str) -> float:
    """A finite number above 0."""
    if not _is_number(value) or not 0 < value < np.inf:
        raise FeatcacheError(f"{option} {value}: expected a number above 0, such as {example}")
    return float(value)


def share(option: str, value: Any, *, one: bool = False) -> float:
    """A number from 0 up to, or with `one` up to and including, 1."""
    if not _is_number(value) or not (0 <= value < 1 or (one and value == 1)):
        wanted = "from 0 to 1, such as 0.9" if one else "of at least 0 and below 1, such as 0.2"
        raise FeatcacheError(f"{option} {value}: expected a number {wanted}")
    return float(value)


def checked_seed(value: Any) -> int:
    """A seed that every random number generator takes."""
    if at_least("--seed", value, 0) > LAST_SEED:
        raise FeatcacheError(f"--seed {value}: expected a whole number up to {LAST_SEED}")
    return int(value)


def one_of(option: str, value: Any, choices: tuple[str, ...]) -> str:
    """One of some words."""
    if value not in choices:
        raise FeatcacheError(f"{option} {value!r} is not one of {', '.join(choices)}")
    return str(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
