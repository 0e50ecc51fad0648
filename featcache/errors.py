"""What can go wrong, as one small tree. Every leaf carries the exit code of the command line.

    FeatcacheError            2    a wrong argument, path, name or input file
    ├── ImageFailure          3    an image failed under --on-error fail, or none could be read
    ├── DamagedFile           4    bytes of the cache are not what was written
    └── StorageFailure        5    the disk is full, read-only, or gave an input/output error

A message says what happened, what was expected and how to fix it. The command line prints it
alone; anything that is not a `FeatcacheError` is our bug and keeps its traceback.
"""


class FeatcacheError(ValueError):
    """A problem that the user can act on."""

    exit_code = 2


class ImageFailure(FeatcacheError):
    """An image failed and the run was asked to stop at that, or not one image could be used."""

    exit_code = 3


class DamagedFile(FeatcacheError):
    """A file of the cache does not hold what was written to it."""

    exit_code = 4


class StorageFailure(FeatcacheError):
    """The file system refused: no space, read-only, or an input/output error."""

    exit_code = 5
