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
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from featcache.errors import FeatcacheError
from featcache.files.small_files import parse_json, read_small
from featcache.files.write import touch, write_first, write_whole

Made = TypeVar("Made")


#: What was not used for so long is deleted by `featcache gc`.
UNUSED_DAYS = 30

#: https://bford.info/cachedir/
_TAG = b"""Signature: 8a477f597d28d172789f06886806bc55
# Networks as they were compiled, and notes: featcache makes them again where they are missing.
"""

_BEGINNING = re.compile(rb"[0-9a-f]{64}\n\{")


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


def expanded(path: str | os.PathLike[Any]) -> Path:
    """A path with its user's home instead of ~; as it is where there is no such user."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def tag_home() -> None:
    """Tell backup programs that everything here can be made again; not where others keep files."""
    folder = home()
    if {path.name for path in folder.iterdir()} <= {"graphs", "notes"}:
        write_first(folder / "CACHEDIR.TAG", _TAG, base=folder)


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
    """Keep a JSON object behind its SHA-256, whole or not at all; raises `StorageFailure`."""
    text = json.dumps(record, sort_keys=True).encode("ascii")
    digest = hashlib.sha256(text).hexdigest().encode("ascii")
    write_whole(path, digest + b"\n" + text, base=home())


def note_path(*about: Any) -> Path:
    """Where a note lies: its name is made of everything that what it says depends on."""
    name = hashlib.sha256(json.dumps(about).encode("ascii")).hexdigest()
    return home() / "notes" / f"{name}.note"


def recall(note: Path, made: Callable[[dict[str, Any]], Made]) -> Made | None:
    """What is `made` of a note; None where there is none, or it is not as `keep` writes it.

    A checksum that is right says little: whoever can write here can make it right.
    """
    record = read_record(note)
    if record is None:
        return None
    try:
        known = made(record)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError):
        return None  # it is found out anew
    touch(note, home())
    return known


def keep(note: Path, record: dict[str, Any]) -> None:
    """Write a note; a home that cannot be written costs time at the next start, and no more."""
    with contextlib.suppress(FeatcacheError):
        write_record(note, record)


def is_record(file: BinaryIO) -> bool:
    """Whether an open file begins as a record does, or is empty."""
    beginning = file.read(66)
    return not beginning or bool(_BEGINNING.fullmatch(beginning))


def unused(folder: Path) -> Iterator[Path]:
    """What lies in a folder and was not used for `UNUSED_DAYS`; nothing behind a link."""
    limit = time.time() - UNUSED_DAYS * 86_400
    if folder.is_symlink():
        return
    for path in sorted(folder.glob("*")):
        with contextlib.suppress(OSError):  # another process was quicker
            if path.lstat().st_mtime < limit:
                yield path
