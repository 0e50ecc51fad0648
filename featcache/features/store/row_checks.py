"""Row checks: every row that is used is compared with its checksum, once per file and process."""

from __future__ import annotations

import logging
import zlib
from collections import OrderedDict
from threading import Lock

import numpy as np

from featcache.features.store.columns import as_bytes
from featcache.features.store.disk import FileIdentity
from featcache.features.store.records import Array

#: Files whose rows are known at a time; of others, rows are checked again.
_FILES = 64
#: From so many bytes on, a check is logged: it takes about a second.
_LONG = 1 << 30
_log = logging.getLogger("featcache")


_lock = Lock()
_sound: OrderedDict[FileIdentity, Array] = OrderedDict()


def bad_rows(
    identity: FileIdentity, vectors: Array, checksums: Array, rows: slice | Array, *, name: str
) -> Array:
    """Numbers of the rows that do not match their checksum, among some rows of a file.

    Rows that were found right before are not read again; bad ones are, every time.
    """
    sound = _sound_rows(identity, len(vectors))
    if sound[rows].all():
        return np.empty(0, np.int64)
    asked = np.zeros(len(vectors), dtype=bool)
    asked[rows] = True
    unknown = np.flatnonzero(asked & ~sound)
    size = len(unknown) * vectors[:1].nbytes
    if size >= _LONG:
        _log.info("checking %.1f GB of rows in %s against their checksums", size / 1e9, name)
    is_bad = _checksums(vectors, unknown) != checksums[unknown]
    sound[unknown[~is_bad]] = True
    bad: Array = unknown[is_bad]
    return bad


def _sound_rows(identity: FileIdentity, count: int) -> Array:
    """(R,) bool, which rows of a file were found right; to be written to."""
    with _lock:
        sound = _sound.setdefault(identity, np.zeros(count, dtype=bool))
        _sound.move_to_end(identity)
        while len(_sound) > _FILES:
            _sound.popitem(last=False)
    return sound


def _checksums(vectors: Array, rows: Array) -> Array:
    """CRC-32 of some rows, (n,) uint32; nothing is copied, whatever the file's size."""
    content = as_bytes(vectors)
    width = content.shape[1]
    flat = content.reshape(-1).data
    starts = (rows * width).tolist()
    return np.fromiter((zlib.crc32(flat[at : at + width]) for at in starts), "<u4", len(rows))
