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

    The folder is made where it is missing. Raises `StorageFailure` where the disk refuses.
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
        with suppress(OSError):  # there may be no folder for it to be in
            draft.unlink()
        raise StorageFailure(
            f"cannot write {target}: {error}. Make room, or name another place with --out"
        ) from error
