"""Small files: records, notes and tables, read whole; regular files only, of a limited size.

A pipe in the place of a record would be waited for without end, and a device never ends. Digests:
SHA-256 of a file, kept inside of it or beside it.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

#: Bytes of the largest record or note that is read; ours have some thousand.
MOST = 16 * 2**20
#: Bytes of the largest table or archive that is read whole.
MOST_OF_A_TABLE = 2**30

# O_NONBLOCK: opening a pipe would wait for a writer. O_NOCTTY: a terminal stays a file.
_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY

#: Git's racy rule: a file written within this time of its reading may change once more without its
#: times changing, where the file system's clock is coarse (2 s on FAT).
RACY_NS = 2_000_000_000

#: What stands in the place of a file's own digest while it is computed.
ZEROS = "0" * 64
_OWN = re.compile(rb'"digest": ?"([0-9a-f]{64})"')
_SEARCHED = 1 << 20


def open_regular(path: str | Path) -> BinaryIO:
    """A regular file, open for reading, links followed; raises `OSError` for anything else."""
    descriptor = os.open(path, _FLAGS)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file", str(path))
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_small(path: str | Path, most: int = MOST) -> bytes:
    """All bytes of a regular file; raises `OSError`, also where it has more than `most` bytes."""
    with open_regular(path) as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise OSError(errno.EFBIG, f"it has more than {most:,} bytes", str(path))
    return content


def read_json(path: str | Path) -> Any:
    """The JSON in a small file; raises `OSError`, and `ValueError` where it is none."""
    return parse_json(read_small(path))


def parse_json(text: str | bytes) -> Any:
    """The value that a JSON text says; raises `ValueError` where it is none, or nested too deep."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("JSON is nested too deeply") from error


@dataclass(frozen=True, slots=True)
class FileStamp:
    """What changes when a file changes: bytes, times in nanoseconds, inode number."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int

    @classmethod
    def of(cls, status: os.stat_result) -> FileStamp:
        """The stamp within what `os.stat` gave."""
        return cls(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)

    def is_settled(self, now_ns: int) -> bool:
        """Whether a file read at that time shows by its stamp when it changes (see `RACY_NS`)."""
        return max(self.mtime_ns, self.ctime_ns) < now_ns - RACY_NS


def sealed(content: bytes) -> bytes:
    """JSON, or what begins with some, with its digest instead of the `ZEROS` under "digest"."""
    found = _OWN.search(content, 0, _SEARCHED)
    if found is None or found[1] != ZEROS.encode("ascii"):
        raise ValueError("there is no place for a digest")
    digest = hashlib.sha256(content).hexdigest().encode("ascii")
    return content[: found.start(1)] + digest + content[found.end(1) :]


def is_sound(content: bytes) -> bool | None:
    """Whether content matches the digest inside of it; None where there is none."""
    found = _OWN.search(content, 0, _SEARCHED)
    if found is None:
        return None
    total = hashlib.sha256(memoryview(content)[: found.start(1)])
    total.update(ZEROS.encode("ascii"))
    total.update(memoryview(content)[found.end(1) :])
    return total.hexdigest().encode("ascii") == found[1]


def digest_of_file(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex; raises `OSError`."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
