"""What can go wrong, as one small tree. Every leaf carries the exit code of the command line.

    FeatcacheError            2    a wrong argument, path, name or input file
    ├── ImageFailure          3    an image failed under --on-error fail, or none could be read
    ├── DamagedFile           4    bytes of the cache are not what was written
    └── StorageFailure        5    the disk is full, read-only, or gave an input/output error

A message says what happened, what was expected and how to fix it. The command line prints it
alone; anything that is not a `FeatcacheError` is our bug and keeps its traceback.
"""

from collections.abc import Sequence


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
