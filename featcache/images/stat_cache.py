"""StatCache: which key a file had when it was last hashed, so that unchanged files are not read.

A disposable file beside the features: gzip (whose CRC guards it) around one JSON line a file.
Whatever is wrong with it, it counts as empty, and the images are hashed again.
"""

from __future__ import annotations

import gzip
import json
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from featcache.files.small_files import FileStamp, open_regular
from featcache.files.write import whole_stream

#: What it is called, beside the folders of a data set's features.
STAT_CACHE = "scan.json.gz"

_HEADER = {"format": "featcache-stat-cache", "version": 1}
# One packed `bytes` an entry takes a third of the memory of a tuple of numbers and a hex string.
_ENTRY = struct.Struct("<qqqQ32s")
_LONGEST_LINE = 64 * 1024


class StatCache:
    """From a file's name and stamp to the SHA-256 of its bytes."""

    def __init__(self) -> None:
        self._old: dict[str, bytes] = {}
        self._known: dict[str, bytes] = {}

    @classmethod
    def load(cls, path: Path) -> StatCache:
        """What was saved at `path`; empty where there is nothing, or nothing sound."""
        cache = cls()
        try:
            cache._old = dict(_entries(path))
        except (OSError, EOFError, ValueError, TypeError, RecursionError, zlib.error, struct.error):
            # Never an error: this file only saves time, and images can always be hashed again.
            cache._old = {}
        return cache

    def __len__(self) -> int:
        return len(self._known.keys() | self._old.keys())

    def key_of(self, name: str, stamp: FileStamp) -> str | None:
        """The key that the file had with exactly this stamp, or None: hash it."""
        entry = self._known.get(name) or self._old.get(name)
        if entry is None:
            return None
        *numbers, digest = _ENTRY.unpack(entry)
        if FileStamp(*numbers) != stamp:
            return None
        self._known[name] = entry
        return str(digest.hex())

    def remember(self, name: str, stamp: FileStamp, key: str, hashed_at_ns: int) -> None:
        """Keep the key, unless the file may still change unseen (see `FileStamp.is_settled`).

        `hashed_at_ns` is the time (`time.time_ns`) just before the file was opened for hashing.
        """
        if stamp.is_settled(hashed_at_ns):
            self._known[name] = _pack(stamp.size, stamp.mtime_ns, stamp.ctime_ns, stamp.inode, key)
        else:
            self._known.pop(name, None)
            self._old.pop(name, None)

    def save(self, path: Path) -> None:
        """Write what was asked for or remembered since `load`: names of vanished files go.

        Raises `StorageFailure` where the file cannot be written.
        """
        with (
            whole_stream(path, base=path.parent.parent) as file,
            gzip.GzipFile("", "wb", compresslevel=1, fileobj=file) as packed,
        ):
            _write(packed, self._known)


def is_stat_cache(file: BinaryIO) -> bool:
    """Whether an open file begins as a stat cache does."""
    try:
        with gzip.open(file, "rb") as lines:
            found: bool = json.loads(lines.readline(_LONGEST_LINE)) == _HEADER
            return found
    except (OSError, EOFError, ValueError, RecursionError, zlib.error, struct.error):
        return False


def _pack(size: int, mtime_ns: int, ctime_ns: int, inode: int, key: str) -> bytes:
    digest = bytes.fromhex(key)
    if len(digest) != 32:
        raise ValueError(f"not a SHA-256: {key!r}")
    return _ENTRY.pack(size, mtime_ns, ctime_ns, inode, digest)


def _entries(path: Path) -> Iterator[tuple[str, bytes]]:
    with open_regular(path) as file, gzip.open(file, "rb") as lines:
        if json.loads(lines.readline(_LONGEST_LINE)) != _HEADER:
            raise ValueError("not a stat cache of this version")
        # Line by line, and to the very end, where gzip compares its CRC.
        while line := lines.readline(_LONGEST_LINE):
            yield _entry(json.loads(line))


def _entry(fields: Any) -> tuple[str, bytes]:
    name, size, mtime_ns, ctime_ns, inode, key = fields
    if not isinstance(name, str):
        raise TypeError("a name is no text")
    return name, _pack(size, mtime_ns, ctime_ns, inode, key)


def _write(file: gzip.GzipFile, entries: dict[str, bytes]) -> None:
    file.write(_line(_HEADER))
    for name in sorted(entries):
        *numbers, digest = _ENTRY.unpack(entries[name])
        file.write(_line([name, *numbers, digest.hex()]))


def _line(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode("ascii") + b"\n"
