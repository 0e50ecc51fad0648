"""Disk: every operation on a file that the store ever does, one method each.

Nothing else in the store touches the file system, so a test that replaces this one class can
kill, fail, shorten or reorder any step and look at what is left.
"""

from __future__ import annotations

import errno
import mmap
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from featcache.errors import FeatcacheError, StorageFailure
from featcache.files.folders import create, lock, opened_folder, remove_abandoned, remove_folder
from featcache.files.write import sync

_HINTS = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space, or ask for a larger quota",
    errno.EROFS: "the file system is read-only: choose another --cache",
    errno.EACCES: "permission denied: choose another --cache",
    errno.ENOLCK: "this file system has no locks: choose another --cache",
    errno.EOPNOTSUPP: "this file system lacks that operation: choose another --cache",
    errno.EIO: "the disk reports damage: check it, or choose another --cache",
}


class Status(NamedTuple):
    """`number` tells two files apart; `size` in bytes; `changed` in seconds since 1970."""

    number: int
    size: int
    changed: float


class FileIdentity(NamedTuple):
    """What changes when another file takes a name, or somebody writes into the file."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int


class Disk:
    """The real file system. Every method raises a plain `OSError`, as the system does.

    Below `base`, the folder that the user named, nothing is changed through a link: there the
    methods that change something raise `FeatcacheError`.
    """

    def __init__(self, base: Path | None = None) -> None:
        self.base = base

    def create(self, path: Path) -> int:
        """A new file, read-only for everybody but this descriptor; fails where one exists."""
        with opened_folder(path.parent, self.base) as folder:
            return create(folder, path.name, 0o444)

    def allocate(self, descriptor: int, size: int) -> None:
        """Reserve `size` bytes, so that a full disk shows before a row is written."""
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(descriptor, 0, size)
        else:  # macOS has no such call: there a full disk shows while writing
            os.ftruncate(descriptor, size)

    def write(self, descriptor: int, content: memoryview, offset: int) -> int:
        """Write some of `content`; returns how many bytes the system took."""
        return os.pwrite(descriptor, content, offset)

    def fsync(self, descriptor: int) -> None:
        """Return when the file's bytes are on the medium."""
        sync(descriptor)

    def close(self, descriptor: int) -> None:
        """Give the descriptor back; also what lets go of a lock."""
        os.close(descriptor)

    def replace(self, source: Path, target: Path) -> None:
        """Give a file its final name, in one step."""
        with (
            opened_folder(source.parent, self.base) as before,
            opened_folder(target.parent, self.base) as after,
        ):
            os.replace(source.name, target.name, src_dir_fd=before, dst_dir_fd=after)

    def unlink(self, path: Path) -> None:
        with opened_folder(path.parent, self.base) as folder:
            os.unlink(path.name, dir_fd=folder)

    def unlink_abandoned(self, path: Path) -> bool:
        """Delete a draft's name, if its writer is dead; whether that was done."""
        with opened_folder(path.parent, self.base) as folder:
            return remove_abandoned(folder, path.name)

    def mkdir(self, path: Path) -> None:
        with opened_folder(path.parent, self.base) as folder:
            os.mkdir(path.name, dir_fd=folder)

    def rmdir(self, path: Path) -> bool:
        """Delete an empty folder; whether that was done."""
        return remove_folder(path, self.base)

    def sync_folder(self, path: Path) -> None:
        """Return when the names in a folder are on the medium."""
        with opened_folder(path, self.base) as folder:
            os.fsync(folder)

    def lock(self, path: Path) -> int:
        """Wait for the exclusive lock; it ends with `close` or with the process."""
        with opened_folder(path.parent, self.base) as folder:
            return lock(folder, path.name)

    def open(self, path: Path) -> int:
        """Open a file for reading; a pipe or a device is refused, and never waited for."""
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise FeatcacheError(f"{path} is not a regular file: move it out of the cache")
        return descriptor

    def size(self, descriptor: int) -> int:
        """Length of an open file in bytes."""
        return os.fstat(descriptor).st_size

    def identity(self, descriptor: int) -> FileIdentity:
        """Which file is open, and when it was last written to."""
        found = os.fstat(descriptor)
        return FileIdentity(
            found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
        )

    def read(self, descriptor: int, size: int, offset: int) -> bytes:
        """At most `size` bytes from `offset`; fewer only at the end of the file."""
        return os.pread(descriptor, size, offset)

    def map(self, descriptor: int, size: int) -> Any:
        """A read-only buffer over the first `size` bytes, which outlives the descriptor."""
        return mmap.mmap(descriptor, size, access=mmap.ACCESS_READ)

    def names(self, path: Path) -> list[str]:
        """The names in a folder, sorted; none where there is no such folder."""
        try:
            return sorted(each.name for each in path.iterdir())
        except FileNotFoundError:
            return []

    def exists(self, path: Path) -> bool:
        """Is there anything of this name?"""
        return os.path.lexists(path)

    def is_folder(self, path: Path) -> bool:
        """Is this a folder itself, and no link to one?"""
        try:
            return stat.S_ISDIR(path.lstat().st_mode)
        except (FileNotFoundError, NotADirectoryError):
            return False

    def status(self, path: Path) -> Status:
        """Which file has this name, its length, and when it was last changed."""
        found = path.stat(follow_symlinks=False)
        return Status(found.st_ino, found.st_size, found.st_mtime)


@contextmanager
def storage_errors(path: Path, needed: int = 0) -> Iterator[None]:
    """Turn what the system says into a `StorageFailure` that names the path and the need."""
    try:
        yield
    except OSError as error:
        hint = _HINTS.get(error.errno or 0, "see whether the path can be used")
        need = f" ({needed:,} bytes needed)" if needed else ""
        reason = error.strerror or repr(error)
        raise StorageFailure(
            f"{path}: {reason}{need}; {hint}, then run the same command again. "
            "What was committed before is safe."
        ) from error


@contextmanager
def opened(disk: Disk, path: Path) -> Iterator[int]:
    """A descriptor for reading, and a `StorageFailure` where the disk cannot.

    `FileNotFoundError` stays itself: the file may have moved, and the caller looks again.
    """
    descriptor = -1
    try:
        descriptor = disk.open(path)
        yield descriptor
    except FileNotFoundError:
        raise
    except OSError:
        with storage_errors(path):
            raise
    finally:
        if descriptor >= 0:
            disk.close(descriptor)


def discard(disk: Disk, path: Path) -> None:
    """Remove an unfinished file, on the way out of an error that matters more."""
    with suppress(OSError, FeatcacheError):  # `gc` deletes what stays; the first error is shown
        disk.unlink(path)


def make_folder(disk: Disk, path: Path, levels: int = 3) -> None:
    """Make a folder whose own name is durable, and those above it.

    A folder that is already there may have been made by a process that died before its name
    was durable, so the nearest `levels` parents are synced whether or not they are new.
    """
    is_new = not disk.exists(path)
    if is_new:
        make_folder(disk, path.parent, levels - 1)
        with suppress(FileExistsError):  # another process was quicker
            disk.mkdir(path)
    elif levels > 1 and path.parent != path:
        make_folder(disk, path.parent, levels - 1)
    if is_new or levels > 0:
        disk.sync_folder(path.parent)
