"""Folders: opened step by step so that no link leads elsewhere, and the drafts that lie in them.

`base` is the folder that the user named (--cache, --out's folder, FEATCACHE_HOME). Links that lead
to it are followed; below it every folder is opened without following one. A draft has a random
name, and whoever writes it holds its lock: where that is free, the writer is dead.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import re
import secrets
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from featcache.errors import FeatcacheError

#: What every draft's name begins with, also that of earlier versions.
TEMPORARY = ".tmp-"
DRAFT = re.compile(r"\.tmp-[0-9a-f]{40}")

#: A draft whose writer cannot be asked (no locks, or an earlier version's) is stale after a day.
DAY = 24 * 3600.0

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
# O_NONBLOCK: to open a pipe would wait for its other end.
READ = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_LOCK = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@contextmanager
def opened_folder(folder: Path, base: Path | None = None) -> Iterator[int]:
    """A descriptor of a folder that no link below `base` leads to.

    Raises `OSError`, and `FeatcacheError` where there is such a link.
    """
    start, below = _split(folder, base)
    descriptor = os.open(start, FOLDER)
    try:
        for name in below:
            inner = _step(descriptor, name, folder)
            os.close(descriptor)
            descriptor = inner
        yield descriptor
    finally:
        os.close(descriptor)


def _split(folder: Path, base: Path | None) -> tuple[Path, tuple[str, ...]]:
    """Where to begin, and the names from there on. What stands before a ".." was named too."""
    if base is None or not folder.is_relative_to(base):
        return folder, ()
    below = folder.relative_to(base).parts
    named = max((at + 1 for at, name in enumerate(below) if name == ".."), default=0)
    return base.joinpath(*below[:named]), below[named:]


def _step(descriptor: int, name: str, folder: Path) -> int:
    try:
        return os.open(name, FOLDER | os.O_NOFOLLOW, dir_fd=descriptor)
    except OSError as error:
        with suppress(OSError):
            if stat.S_ISLNK(os.stat(name, dir_fd=descriptor, follow_symlinks=False).st_mode):
                raise FeatcacheError(
                    f"{folder}: {name} is a link, and nothing is written or deleted through a link "
                    f"inside a cache: name the folder that it leads to itself (--cache, --out)"
                ) from error
        raise


def check_no_link(folder: Path) -> None:
    """Raise `FeatcacheError` where a folder inside a named one is a link: it can only be read."""
    with suppress(OSError), opened_folder(folder, folder.parent):  # not there: writing makes it
        pass


def make_folder(folder: Path, base: Path | None = None) -> None:
    """Make a folder and those above it, durably; raises `OSError`."""
    if folder.is_dir():
        return
    make_folder(folder.parent, base)
    with opened_folder(folder.parent, base) as parent:
        try:
            os.mkdir(folder.name, dir_fd=parent)
        except FileExistsError as error:  # another process was quicker; or it is no folder
            if not folder.is_dir():
                raise FileExistsError(errno.EEXIST, error.strerror, str(folder)) from error
        os.fsync(parent)


def remove_folder(folder: Path, base: Path | None = None) -> bool:
    """Remove a folder that is empty; whether that was done."""
    try:
        with opened_folder(folder.parent, base) as parent:
            os.rmdir(folder.name, dir_fd=parent)
    except OSError:  # something is in it, or it is none: it stays, and the caller tells
        return False
    return True


def draft_name(name: str) -> str:
    """A random name, of which one part says whose draft it is."""
    return _draft_of(name) + secrets.token_hex(16)


def _draft_of(name: str) -> str:
    return TEMPORARY + hashlib.sha256(os.fsencode(name)).hexdigest()[:8]


def create(folder: int, name: str, mode: int = 0o666) -> int:
    """A new file in an opened folder, open for writing, its lock held; the umask takes from `mode`.

    Raises `OSError`, also where there is anything of that name.
    """
    while True:
        descriptor = os.open(name, _NEW, mode, dir_fd=folder)
        if _hold(descriptor, folder, name):
            return descriptor


def _hold(descriptor: int, folder: int, name: str) -> bool:
    """Lock a new draft, where there are locks; False, and closed, where it was cleared away."""
    with suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    if _is_named(descriptor, folder, name):
        return True
    os.close(descriptor)
    return False


def _is_named(descriptor: int, folder: int, name: str) -> bool:
    """Whether an open file still has its name."""
    try:
        there = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return os.path.samestat(os.fstat(descriptor), there)


def remove_abandoned(folder: int, name: str, *, is_tree: bool = False) -> bool:
    """Remove a draft if its writer is dead; whether that was done. Raises `OSError`.

    The caller knows by the name that it is a draft, and whether it may be a private folder.
    """
    try:
        descriptor = os.open(name, READ | os.O_NOFOLLOW, dir_fd=folder)
    except OSError:  # gone, a link, another user's
        return False
    try:  # with the lock in hand: a writer that has just begun waits, and sees that it must again
        mode = os.fstat(descriptor).st_mode
        # Another may have cleared it since, and its writer made a new one of the same name.
        if not _is_abandoned(descriptor, name) or not _is_named(descriptor, folder, name):
            return False
        if stat.S_ISREG(mode):
            os.unlink(name, dir_fd=folder)
        elif stat.S_ISDIR(mode) and is_tree:
            shutil.rmtree(name, dir_fd=folder)
        else:
            return False
        return True
    finally:
        os.close(descriptor)


def _is_abandoned(descriptor: int, name: str) -> bool:
    is_old = time.time() - os.fstat(descriptor).st_mtime > DAY
    if not DRAFT.fullmatch(name):
        return is_old
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return is_old
    return True


def clear_drafts(folder: int, target: str, *, is_tree: bool = False) -> None:
    """Remove what dead writers of a target left; also private folders, where those make it."""
    for name in os.listdir(folder):
        if name.startswith(_draft_of(target)) and DRAFT.fullmatch(name):
            with suppress(OSError):  # it does no harm
                remove_abandoned(folder, name, is_tree=is_tree)


@contextmanager
def private_folder(
    parent: Path, target: str, *, base: Path | None = None, mode: int = 0o700
) -> Iterator[Path]:
    """A new folder for what will become `target` in `parent`; it is deleted, unless moved.

    Raises `OSError`.
    """
    with opened_folder(parent, base) as folder:
        clear_drafts(folder, target, is_tree=True)
        name, descriptor = _make_private(folder, target, mode)
        try:
            yield parent / name
        finally:
            if _is_named(descriptor, folder, name):
                shutil.rmtree(name, ignore_errors=True, dir_fd=folder)
            os.close(descriptor)


def _make_private(folder: int, target: str, mode: int) -> tuple[str, int]:
    while True:
        name = draft_name(target)
        os.mkdir(name, mode, dir_fd=folder)
        descriptor = os.open(name, FOLDER | os.O_NOFOLLOW, dir_fd=folder)
        if _hold(descriptor, folder, name):
            return name, descriptor


def move_folder(draft: Path, target: Path, base: Path | None = None) -> None:
    """Give a private folder, in the folder of its target, its name; raises `OSError`."""
    with opened_folder(target.parent, base) as folder:
        os.rename(draft.name, target.name, src_dir_fd=folder, dst_dir_fd=folder)
        os.fsync(folder)


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A temporary folder of the system's; it is deleted at the end."""
    with tempfile.TemporaryDirectory(prefix="featcache-") as folder:
        yield Path(folder)


def scratch_file() -> IO[bytes]:
    """A file without a name, in the system's temporary folder."""
    return tempfile.TemporaryFile(prefix="featcache-")


# Locks


def lock(folder: int, name: str) -> int:
    """Wait for the exclusive lock of a file, which is made; it ends when the descriptor is closed.

    Raises `OSError`, and `FeatcacheError` where it is a link, or no regular file.
    """
    while True:
        descriptor = _open_lock(folder, name)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise _no_lock(name)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if _is_named(descriptor, folder, name):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # whoever held it has deleted it: it guards nothing any more


def _open_lock(folder: int, name: str) -> int:
    try:
        return os.open(name, _LOCK | os.O_RDWR | os.O_CREAT, 0o666, dir_fd=folder)
    except PermissionError:  # another user's, who may not be written to
        return os.open(name, _LOCK | os.O_RDONLY, dir_fd=folder)
    except OSError as error:
        if error.errno in {errno.ELOOP, errno.EISDIR, errno.ENXIO}:
            raise _no_lock(name) from error
        raise


def _no_lock(name: str) -> FeatcacheError:
    return FeatcacheError(f"{name} should be a file for locking, and is a link, a pipe or a folder")
