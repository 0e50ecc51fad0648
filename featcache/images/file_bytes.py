"""Reading one image file: regular files only, whole or not at all, and never hanging."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from featcache.errors import BadImage, StorageFailure
from featcache.files.small_files import FileStamp

#: Larger files are refused unread: a sparse file of a terabyte costs its author nothing.
MAX_BYTES = 256 * 2**20
#: More than any format's first bytes.
START = 256

T = TypeVar("T")

# O_NONBLOCK: opening a FIFO would wait for a writer without end. O_NOCTTY: a terminal stays a file.
_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY

_REASONS = {
    errno.EACCES: ("permission", "the file may not be read: check its permissions"),
    errno.EPERM: ("permission", "the file may not be read: check its permissions"),
    errno.ELOOP: ("link-loop", "the link leads back to itself"),
    errno.ENXIO: ("not-a-file", "it is a socket or a device, not a file"),
    errno.ENOTDIR: ("missing", "the file is gone: a folder of its path is not a folder"),
    errno.ENAMETOOLONG: ("name-too-long", "its path is longer than the system allows"),
}
# A problem of the machine, not of the image: it must not be filed as a property of the image.
_OURS = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}


def read_file(path: str, root: str | None) -> tuple[bytes, FileStamp]:
    """The file's bytes and its stamp; where `root` is given, links must not lead out of it.

    Raises `BadImage` where it is no regular file, cannot be opened, is empty, larger than
    `MAX_BYTES`, or changes while it is read.
    """
    return _opened(path, root, _read)


def read_start(path: str, root: str | None) -> bytes:
    """The first bytes of a file, enough to tell its format; raises as `read_file` does."""
    return _opened(path, root, _read_start)


def stamp_file(path: str, root: str | None) -> FileStamp | None:
    """The stamp of a file that `read_file` would read, else None: reading then says why."""
    try:
        status = os.lstat(path)
        if stat.S_ISLNK(status.st_mode):
            status = Path(path if root is None else _inside(path, root)).stat()
    except (OSError, BadImage):
        return None
    if not stat.S_ISREG(status.st_mode) or not 0 < status.st_size <= MAX_BYTES:
        return None
    return FileStamp.of(status)


def _opened(path: str, root: str | None, read: Callable[[int], T]) -> T:
    """What `read` makes of the open file; it is closed in any case."""
    try:
        descriptor = _open(path, root)
    except OSError as error:
        raise _refused(path, error) from error
    try:
        return read(descriptor)
    except OSError as error:
        raise _refused(path, error) from error
    finally:
        os.close(descriptor)


def _open(path: str, root: str | None) -> int:
    if root is None:
        return os.open(path, _FLAGS)
    try:
        return os.open(path, _FLAGS | os.O_NOFOLLOW)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
    return os.open(_inside(path, root), _FLAGS | os.O_NOFOLLOW)


def _inside(path: str, root: str) -> str:
    target = os.path.realpath(path, strict=True)
    if not leads_inside(target, os.path.realpath(root)):
        raise BadImage(
            "link-leaves-root",
            "it is a link to a file outside the image folder: --follow-symlinks "
            "(follow_symlinks=True) reads it",
        )
    return target


def leads_inside(path: str, folder: str) -> bool:
    """Whether a real path lies within a real folder."""
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _read(descriptor: int) -> tuple[bytes, FileStamp]:
    before = _checked(descriptor)
    raw = _read_all(descriptor, before.size)
    if len(raw) != before.size or FileStamp.of(os.fstat(descriptor)) != before:
        raise BadImage("changed", "the file changed while it was read: run again when it is still")
    return raw, before


def _read_start(descriptor: int) -> bytes:
    _checked(descriptor)
    return os.read(descriptor, START)


def _checked(descriptor: int) -> FileStamp:
    """The stamp of a file that may be read."""
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise BadImage("not-a-file", f"it is {_kind(status.st_mode)}, not a file")
    if status.st_size == 0:
        raise BadImage("empty", "the file is empty (0 bytes)")
    if status.st_size > MAX_BYTES:
        raise BadImage(
            "too-large", f"the file has {status.st_size:,} bytes; at most {MAX_BYTES:,} are read"
        )
    return FileStamp.of(status)


def _read_all(descriptor: int, size: int) -> bytes:
    """All bytes, or one more than `size` where the file has grown."""
    raw = os.read(descriptor, size + 1)
    if len(raw) >= size:
        return raw
    pieces = [raw]
    while raw and sum(map(len, pieces)) <= size:
        raw = os.read(descriptor, size + 1)
        pieces.append(raw)
    return b"".join(pieces)


def _kind(mode: int) -> str:
    kinds = {
        stat.S_ISDIR: "a folder",
        stat.S_ISFIFO: "a pipe",
        stat.S_ISSOCK: "a socket",
        stat.S_ISCHR: "a device",
        stat.S_ISBLK: "a device",
    }
    return next((name for matches, name in kinds.items() if matches(mode)), "something else")


def _refused(path: str, error: OSError) -> Exception:
    if error.errno in _OURS:
        return StorageFailure(
            f"{path!r} could not be opened: {error.strerror}. The system is out of open files or "
            "memory: raise `ulimit -n` or use fewer --threads"
        )
    if error.errno == errno.ENOENT:
        is_link = os.path.lexists(path)
        return BadImage(
            "broken-link" if is_link else "missing",
            "the link leads to no file" if is_link else "the file is gone",
        )
    code, reason = _REASONS.get(
        error.errno or 0, ("io-error", f"the file could not be read: {error.strerror}")
    )
    return BadImage(code, reason)
