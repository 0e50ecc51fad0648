"""What can go wrong, as one small tree. Every leaf carries the exit code of the command line.

    FeatcacheError            2    a wrong argument, path, name or input file
    ├── ImageFailure          3    an image failed under --on-error fail, or none could be read
    ├── DamagedFile           4    bytes of the cache are not what was written
    └── StorageFailure        5    the disk is full, read-only, or gave an input/output error

A message says what happened, what was expected and how to fix it. The command line prints it
alone; anything that is not a `FeatcacheError` is our bug and keeps its traceback. Beside the tree:
`BadImage`, which costs one image and never the run, and checks of options that name the option.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from numbers import Integral, Real
from typing import Any

#: The largest seed that scikit-learn takes.
LAST_SEED = 2**32 - 1


class FeatcacheError(ValueError):
    """A problem that the user can act on.

    `lines` stand below the message, such as candidates; `after` is a sentence below those. None
    of them spans lines of its own: a line break in a file name is escaped where they are printed.
    """

    exit_code = 2

    def __init__(self, message: str = "", lines: Sequence[str] = (), after: str = "") -> None:
        self.printed = [message, *(f"  {line}" for line in lines), *([after] if after else [])]
        super().__init__("\n".join(self.printed))


class ImageFailure(FeatcacheError):
    """An image failed and the run was asked to stop at that, or not one image could be used."""

    exit_code = 3


class DamagedFile(FeatcacheError):
    """A file of the cache does not hold what was written to it."""

    exit_code = 4


class StorageFailure(FeatcacheError):
    """The file system refused: no space, read-only, or an input/output error."""

    exit_code = 5


class BadImage(Exception):
    """One image cannot be used.

    Attributes
    ----------
    code: a short ASCII word of at most 32 characters, such as "damaged", for counting and filing.
    message: a sentence for the user; it does not repeat the image's name.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message

    def __str__(self) -> str:
        return self.message


def at_least(option: str, value: Any, smallest: int) -> int:
    """A whole number; raises `FeatcacheError` that names the option."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < smallest:
        raise FeatcacheError(f"{option} {value}: expected a whole number of at least {smallest}")
    return int(value)


def above_zero(option: str, value: Any, example: str) -> float:
    """A finite number above 0."""
    if not _is_number(value) or not 0 < value < math.inf:
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


def some(names: Iterable[object], most: int = 3) -> str:
    """Names for a sentence: the first `most` as quoted text, and how many there are more."""
    texts = [repr(str(name)) for name in names]
    more = f" and {len(texts) - most:,} more" if len(texts) > most else ""
    return ", ".join(texts[:most]) + more


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)
