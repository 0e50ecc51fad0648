"""Home: the folder of what is kept for one user, whatever cache of features is in use.

    $FEATCACHE_HOME, else $XDG_CACHE_HOME/featcache, else ~/.cache/featcache
    graphs/   compiled networks      notes/   which weights file has which values

Everything in it only saves time: whatever is missing or damaged is made again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from featcache.errors import FeatcacheError
from featcache.small_files import parse_json, read_small

#: What was not used for so long is deleted by `featcache gc`.
UNUSED_DAYS = 30


def home() -> Path:
    """The folder; it need not exist yet.

    Raises `FeatcacheError` where the user has no home folder.
    """
    if given := os.environ.get("FEATCACHE_HOME"):
        return Path(given).expanduser()
    if xdg := os.environ.get("XDG_CACHE_HOME"):
        return Path(xdg) / "featcache"
    try:
        base = Path.home()
    except RuntimeError as error:
        raise FeatcacheError("there is no home folder: name one with FEATCACHE_HOME") from error
    return base / ("Library/Caches" if sys.platform == "darwin" else ".cache") / "featcache"


def read_record(path: Path) -> dict[str, Any] | None:
    """A JSON object that was kept, or None where there is none that is whole."""
    try:
        check, text = read_small(path).split(b"\n", 1)
        if check.decode() != hashlib.sha256(text).hexdigest():
            return None
        record = parse_json(text)
    except (OSError, ValueError):
        # Never an error: what is kept here only saves time.
        return None
    return record if isinstance(record, dict) else None


def write_record(path: Path, record: dict[str, Any]) -> None:
    """Keep a JSON object behind its SHA-256, whole or not at all; raises `OSError`."""
    text = json.dumps(record, sort_keys=True).encode("ascii")
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".tmp-{uuid.uuid4().hex}")
    try:
        draft.write_bytes(hashlib.sha256(text).hexdigest().encode("ascii") + b"\n" + text)
        sync(draft)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Return when a file's bytes, or a folder's names, are on the medium; raises `OSError`."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def touch(path: Path) -> None:
    """Mark as used today."""
    with contextlib.suppress(OSError):  # it may be another user's: then it just ages
        os.utime(path)


def unused(folder: Path) -> Iterator[Path]:
    """What lies in a folder and was not used for `UNUSED_DAYS`."""
    limit = time.time() - UNUSED_DAYS * 86_400
    for path in sorted(folder.glob("*")):
        with contextlib.suppress(OSError):  # another process was quicker
            if path.lstat().st_mtime < limit:
                yield path
