"""Whole files: written beside their place under another name, then moved there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from featcache.errors import StorageFailure


@contextmanager
def whole_file(target: Path) -> Iterator[Path]:
    """A draft to write, which then takes the target's place: it is there whole, or as it was.

    The folder is made where it is missing; of what fails, nothing is left. Raises
    `StorageFailure` where the disk refuses.
    """
    # The draft keeps the name's end: Keras and others tell a file's kind by it.
    draft = target.with_name(f".tmp-{os.getpid()}-{target.name}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield draft
        with draft.open("rb") as file:
            os.fsync(file.fileno())
        draft.replace(target)
    except OSError as error:
        raise StorageFailure(
            f"cannot write {target}: {_words(error, draft)}. Make room, or name another place"
        ) from error
    finally:
        with suppress(OSError):  # there may be no folder for it to be in
            draft.unlink(missing_ok=True)


def _words(error: OSError, draft: Path) -> str:
    """What went wrong, and where, if that is not the draft, which nobody asked for."""
    if error.strerror is None or error.filename in (None, str(draft)):
        return error.strerror or str(error)
    return f"{error.strerror}: {error.filename}"
