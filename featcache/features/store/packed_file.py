"""PackedFile: `features.h5`, checked and mapped, without libhdf5.

Every row that is used is compared with its checksum, once per file and process.
"""

from __future__ import annotations

import logging
import zlib
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import numpy as np

from featcache.errors import DamagedFile, FeatcacheError, StorageFailure
from featcache.features.store.columns import as_bytes, checked_codes, decode, failures_of
from featcache.features.store.disk import Disk, FileIdentity, opened
from featcache.features.store.layout import COLUMNS
from featcache.features.store.records import Array, Failure
from featcache.features.store.stored_file import StoredFile, as_array, load

#: Looks at a file that others replace meanwhile.
_ATTEMPTS = 50
#: Files whose rows are known at a time; of others, rows are checked again.
_FILES = 64
#: From so many bytes on, a check is logged: it takes about a second.
_LONG = 1 << 30
_log = logging.getLogger("featcache")
_lock = Lock()
_sound: OrderedDict[FileIdentity, Array] = OrderedDict()


@dataclass(frozen=True, slots=True, eq=False)
class PackedFile:
    """A `features.h5` of R rows; its arrays are read-only maps of the file.

    They stay as they are when the file is replaced or removed. Header and metadata were checked
    when it was opened; rows are checked by `bad_rows`.

    Attributes
    ----------
    vectors: (R, D) or (R, H, W, C), float32 or float16.
    paths, keys: (R,) 'S', UTF-8; views: (R,) int32; row_crc32: (R,) uint32.
    labels, splits, groups: (R,) int32 codes into `classes`, `split_names`, `group_names`; -1 none.
    source_sizes: (R, 2) int32, height and width of the image in pixels.
    probe: (8, k) float32.
    recipe, provenance: canonical JSON.
    identity: which file it is.
    """

    path: Path
    identity: FileIdentity
    recipe: str
    recipe_key: str
    provenance: str
    vectors: Array
    paths: Array
    keys: Array
    views: Array
    labels: Array
    classes: list[str]
    splits: Array
    split_names: list[str]
    groups: Array
    group_names: list[str]
    row_crc32: Array
    source_sizes: Array
    failures: list[Failure]
    probe: Array

    def __len__(self) -> int:
        return len(self.vectors)

    def bad_rows(self, rows: slice | Array = slice(None)) -> Array:
        """Numbers of the rows, among some, that do not match their checksum.

        Those that this process found right already are not read again.
        """
        return bad_rows(self.identity, self.vectors, self.row_crc32, rows, name=str(self.path))


def open_packed(path: Path, disk: Disk | None = None) -> PackedFile:
    """Open a `features.h5`, whoever made it: none of its content is ever run.

    Raises `FeatcacheError` where it is missing, no file of ours or of another format version, and
    `DamagedFile` where it is not what was written.
    """
    path, disk = Path(path), disk or Disk()
    try:
        return _open_with_retries(path, disk)
    except FileNotFoundError as error:
        raise FeatcacheError(f"{path} does not exist: run `featcache ls` to see what does") from (
            error
        )
    except DamagedFile as error:
        raise DamagedFile(f"{path}: {error}; run `featcache repair`") from error
    except FeatcacheError as error:
        if str(path) in str(error):
            raise
        raise type(error)(f"{path}: {error}") from error


def _open_with_retries(path: Path, disk: Disk) -> PackedFile:
    """Open the file; where a pack replaces it meanwhile, the one that has its name by then."""
    for _ in range(_ATTEMPTS):
        try:
            stored = load(disk, path)
            if stored.layout.kind != "features":
                raise FeatcacheError("it is a part of an unfinished run: open features.h5 instead")
            return map_packed(stored)
        except FileNotFoundError:
            if not disk.exists(path):
                raise
    raise StorageFailure(f"{path} changes faster than it can be read: try again")


def map_packed(stored: StoredFile) -> PackedFile:
    """Map a packed file that was loaded; `FileNotFoundError` where it was replaced meanwhile."""
    with opened(stored.disk, stored.path) as descriptor:
        stored.check_same(descriptor)
        if stored.disk.size(descriptor) != stored.layout.file_size:
            raise DamagedFile("the file was cut short while it was opened")
        buffer = stored.disk.map(descriptor, stored.layout.file_size)
        identity = stored.disk.identity(descriptor)
    arrays = {name: as_array(buffer, stored.layout.arrays[name]) for name in (*COLUMNS, "features")}
    classes, split_names, group_names = (
        decode(arrays[name]) for name in ("classes", "split_names", "group_names")
    )
    return PackedFile(
        path=stored.path,
        identity=identity,
        recipe=bytes(arrays["recipe"].item()).decode("utf-8"),
        recipe_key=stored.layout.recipe_key,
        provenance=bytes(arrays["provenance"].item()).decode("utf-8"),
        vectors=arrays["features"],
        paths=arrays["path"],
        keys=arrays["key"],
        views=arrays["view"],
        row_crc32=arrays["row_crc32"],
        source_sizes=arrays["source_size"],
        failures=failures_of(arrays),
        probe=arrays["probe"],
        labels=_codes(arrays["label"], classes, what="label"),
        classes=classes,
        splits=_codes(arrays["split"], split_names, what="split"),
        split_names=split_names,
        groups=_codes(arrays["group"], group_names, what="group"),
        group_names=group_names,
    )


def _codes(codes: Array, names: list[str], *, what: str) -> Array:
    try:
        return checked_codes(codes, names, what=what)
    except FeatcacheError as error:
        raise DamagedFile(str(error)) from error


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
