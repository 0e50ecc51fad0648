"""Writing: a file is whole, durable and under its final name, or it is not there."""

from __future__ import annotations

import os
import re
import socket
import time
import uuid
from collections.abc import Iterable
from pathlib import Path

from featcache.errors import FeatcacheError
from featcache.store.disk import Disk, discard, storage_errors
from featcache.store.records import Array
from featcache.store.skeleton import Skeleton

TEMPORARY = ".tmp-"
_DAY = 24 * 3600.0


def write_file(disk: Disk, target: Path, *, skeleton: Skeleton, rows: Iterable[Array]) -> None:
    """Write a skeleton and the rows behind it; when this returns, a power cut cannot undo it.

    Raises `StorageFailure` with the path and the bytes needed; the unfinished file is removed.
    """
    temporary = target.with_name(_temporary_name())
    with storage_errors(target, skeleton.layout.file_size):
        try:
            _write_durably(disk, temporary, skeleton=skeleton, rows=rows)
            disk.replace(temporary, target)
            disk.sync_folder(target.parent)
        except BaseException:
            discard(disk, temporary)
            raise


def is_stale(disk: Disk, path: Path) -> bool:
    """Was this unfinished file left by a process of this host that is gone, or a day ago?"""
    host, _, rest = path.name.removeprefix(TEMPORARY).partition("-")
    process = rest.partition("-")[0]
    if host == _host() and process.isdecimal() and not _is_alive(int(process)):
        return True
    return time.time() - disk.status(path).changed > _DAY


def _write_durably(disk: Disk, path: Path, *, skeleton: Skeleton, rows: Iterable[Array]) -> None:
    descriptor = disk.create(path)
    try:
        disk.allocate(descriptor, skeleton.layout.file_size)
        end = _write_all(disk, descriptor, content=memoryview(skeleton.head), offset=0)
        for block in rows:
            if block.size:
                end = _write_all(disk, descriptor, content=block.data.cast("B"), offset=end)
        if end != skeleton.layout.file_size:
            raise FeatcacheError(f"{end} bytes of {skeleton.layout.file_size} came for {path}")
        disk.fsync(descriptor)
    finally:
        disk.close(descriptor)


def _write_all(disk: Disk, descriptor: int, *, content: memoryview, offset: int) -> int:
    """The system may take less than it was given; returns the offset behind the last byte."""
    while len(content):
        taken = disk.write(descriptor, content, offset)
        content, offset = content[taken:], offset + taken
    return offset


def _temporary_name() -> str:
    return f"{TEMPORARY}{_host()}-{os.getpid()}-{uuid.uuid4().hex}"


def _host() -> str:
    return re.sub(r"[^a-z0-9.]", "_", socket.gethostname().lower())[:60]


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):  # another user's; a number no process can have
        return True
    return True
