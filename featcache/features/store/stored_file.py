"""StoredFile: one file of the store, its checksums found right, read by `pread` alone.

`pread` gives an error where a map would kill the process (a bad sector, a file cut short by
somebody else), and no descriptor stays open between two reads.
"""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from featcache.errors import DamagedFile, FeatcacheError
from featcache.features.store.columns import (
    as_bytes,
    attribute,
    checked_keys,
    failures_of,
    provenance_attribute,
    row_checksums,
)
from featcache.features.store.disk import Disk, opened
from featcache.features.store.layout import (
    BLOCK,
    COLUMNS,
    Extent,
    Layout,
    check_version,
    parse_header,
)
from featcache.features.store.records import Array, Failure

_CHUNK = 1 << 20
#: Rows are read, checked and copied in blocks of about this many bytes.
ROW_BLOCK = 16 << 20


@dataclass(frozen=True, slots=True, eq=False)
class StoredFile:
    """A file whose header and metadata were right when it was loaded."""

    disk: Disk
    path: Path
    header: bytes
    layout: Layout

    def __len__(self) -> int:
        return self.layout.features.shape[0]

    def column(self, name: str) -> Array:
        """A copy of one small array. Raises `DamagedFile`, `FileNotFoundError`."""
        return self.columns(name)[name]

    def columns(self, *names: str) -> dict[str, Array]:
        """Copies of several small arrays, opening the file once."""
        with opened(self.disk, self.path) as descriptor:
            self.check_same(descriptor)
            return {name: self._column(descriptor, name) for name in names}

    def text(self, name: str) -> str:
        """The recipe or the provenance, as the canonical JSON that was committed."""
        return bytes(self.column(name).item()).decode("utf-8")

    def failures(self) -> list[Failure]:
        """The images that this file says could not be used."""
        return failures_of(self.columns(*(name for name in COLUMNS if name.startswith("failed"))))

    def rows(self, rows: Array, checksums: Array) -> Array:
        """The rows asked for, in any order, each checked against its checksum.

        Raises `DamagedFile` naming file and rows, and `FileNotFoundError` where another file has
        taken the name.
        """
        vectors, bad = self.read_rows(rows, checksums)
        if len(bad):
            shown = ", ".join(str(row) for row in np.sort(rows[bad])[:10])
            raise DamagedFile(
                f"{self.path}: {len(bad)} rows do not match their checksum (row {shown}); "
                "run `featcache repair`, then the same command again"
            )
        return vectors

    def read_rows(self, rows: Array, checksums: Array) -> tuple[Array, Array]:
        """The rows as they lie there, and which of them (indices into `rows`) are bad."""
        extent = self.layout.features
        vectors = np.zeros((len(rows), *extent.shape[1:]), extent.dtype)
        flat = as_bytes(vectors)
        with opened(self.disk, self.path) as descriptor:
            self.check_same(descriptor)
            for where, first in _runs(rows):
                self._fill(descriptor, flat, where=where, first=first)
        return vectors, np.flatnonzero(row_checksums(vectors) != checksums)

    def check_same(self, descriptor: int) -> None:
        """Raise `FileNotFoundError` where the name leads to another file by now."""
        if self.disk.read(descriptor, BLOCK, 0) != self.header:
            message = "another file has taken this name"
            raise FileNotFoundError(errno.ENOENT, message, str(self.path))

    def _fill(self, descriptor: int, flat: Array, *, where: Array, first: int) -> None:
        size = flat.shape[1]
        offset = self.layout.features.offset + first * size
        content = _read_some(self.disk, descriptor, size=size * len(where), offset=offset)
        whole = len(content) // size  # rows behind the end of a file cut short stay zero
        flat[where[:whole]] = np.frombuffer(content, np.uint8, whole * size).reshape(-1, size)

    def _column(self, descriptor: int, name: str) -> Array:
        extent = self.layout.arrays[name]
        content = _read_some(self.disk, descriptor, size=extent.size, offset=extent.offset)
        return as_array(content, Extent(extent.dtype, extent.shape, 0))


def load(disk: Disk, path: Path) -> StoredFile:
    """Check header and metadata of a file.

    Raises `FeatcacheError` or `DamagedFile` (their messages name no file), `FileNotFoundError`.
    """
    with opened(disk, path) as descriptor:
        header = disk.read(descriptor, BLOCK, 0)
        layout = parse_header(header)
        size = disk.size(descriptor)
        if size != layout.file_size:
            raise DamagedFile(f"the file has {size:,} bytes, and {layout.file_size:,} were written")
    stored = StoredFile(disk, path, header, layout)
    if not is_metadata_sound(stored):
        raise DamagedFile("the names, keys or checksums in the file were changed or damaged")
    _check_meaning(stored)
    return stored


def is_metadata_sound(file: StoredFile) -> bool:
    """Whether everything between header and rows is what the header's checksum says."""
    with opened(file.disk, file.path) as descriptor:
        file.check_same(descriptor)
        found = _digest(file.disk, descriptor, end=file.layout.features.offset)
    return found == file.layout.metadata_sha256


def check_file_version(disk: Disk, path: Path) -> None:
    """Raise `FeatcacheError` where the file is of a format this version does not know."""
    with opened(disk, path) as descriptor:
        block = disk.read(descriptor, BLOCK, 0)
    try:
        check_version(block)
    except FeatcacheError as error:
        raise FeatcacheError(f"{path}: {error}") from error


def as_array(buffer: bytes, extent: Extent) -> Array:
    """An array over bytes that hold it; read-only."""
    if len(buffer) < extent.end:
        raise DamagedFile("the file was cut short while it was read")
    count = extent.size // np.dtype(extent.dtype).itemsize
    return np.frombuffer(buffer, extent.dtype, count, extent.offset).reshape(extent.shape)


def row_blocks(count: int, row_size: int) -> Iterator[Array]:
    """Row numbers 0 … count - 1, in blocks of at most some 16 MB of rows."""
    step = max(1, ROW_BLOCK // max(1, row_size))
    for first in range(0, count, step):
        yield np.arange(first, min(first + step, count))


def row_size(extent: Extent) -> int:
    """Bytes of one row."""
    return Extent(extent.dtype, extent.shape[1:], 0).size


def _check_meaning(stored: StoredFile) -> None:
    """What only a crafted file gets wrong: its checksums are right and its content is not."""
    columns = stored.columns("recipe", "provenance", "key")
    recipe = bytes(columns["recipe"].item())
    if hashlib.sha256(recipe).hexdigest() != stored.layout.recipe_key:
        raise DamagedFile("the recipe in the file does not hash to its key")
    try:
        attribute(recipe.decode("utf-8"), "recipe")
        provenance_attribute(bytes(columns["provenance"].item()).decode("utf-8"))
        checked_keys(columns["key"])
    except ValueError as error:  # FeatcacheError is one too
        raise DamagedFile(f"the file makes no sense: {error}") from error


def _digest(disk: Disk, descriptor: int, *, end: int) -> str:
    digest = hashlib.sha256()
    for offset in range(BLOCK, end, _CHUNK):
        digest.update(_read_some(disk, descriptor, size=min(_CHUNK, end - offset), offset=offset))
    return digest.hexdigest()


def _read_some(disk: Disk, descriptor: int, *, size: int, offset: int) -> bytes:
    """`size` bytes, or fewer where the file ends before."""
    pieces: list[bytes] = []
    while size and (piece := disk.read(descriptor, size, offset)):
        pieces.append(piece)
        size, offset = size - len(piece), offset + len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _runs(rows: Array) -> Iterator[tuple[Array, int]]:
    """Rows that lie side by side, to be read at once: (where they go, the first of them)."""
    order = np.argsort(rows, kind="stable")
    breaks = np.flatnonzero(np.diff(rows[order]) != 1) + 1
    for where in np.split(order, breaks):
        if len(where):
            yield where, int(rows[where[0]])
