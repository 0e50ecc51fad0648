"""Writing: a file is whole, durable and under its final name, or it is not there."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from featcache.errors import FeatcacheError
from featcache.features.store.disk import Disk, discard, storage_errors
from featcache.features.store.records import Array
from featcache.features.store.skeleton import Skeleton
from featcache.files.folders import draft_name


def write_file(disk: Disk, target: Path, *, skeleton: Skeleton, rows: Iterable[Array]) -> None:
    """Write a skeleton and the rows behind it; when this returns, a power cut cannot undo it.

    Raises `StorageFailure` with the path and the bytes needed; the unfinished file is removed.
    """
    draft = target.with_name(draft_name(target.name))
    with storage_errors(target, skeleton.layout.file_size):
        try:
            # Open until it has its name: the lock that comes with it says that we are alive.
            descriptor = _write_durably(disk, draft, skeleton=skeleton, rows=rows)
            try:
                disk.replace(draft, target)
            finally:
                disk.close(descriptor)
            disk.sync_folder(target.parent)
        except BaseException:
            discard(disk, draft)
            raise


def _write_durably(disk: Disk, path: Path, *, skeleton: Skeleton, rows: Iterable[Array]) -> int:
    """Write a new file; gives it open."""
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
    except BaseException:
        disk.close(descriptor)
        raise
    return descriptor


def _write_all(disk: Disk, descriptor: int, *, content: memoryview, offset: int) -> int:
    """The system may take less than it was given; returns the offset behind the last byte."""
    while len(content):
        taken = disk.write(descriptor, content, offset)
        content, offset = content[taken:], offset + taken
    return offset
