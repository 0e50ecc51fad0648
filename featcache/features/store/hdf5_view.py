"""What libhdf5 itself makes of a file, compared with what the header says.

The two descriptions of one file could differ only by a mistake of ours or by malice; everybody who
opens the file with h5py sees libhdf5's, so `verify` compares them. The bytes were checked before.
"""

from __future__ import annotations

import io
from typing import Any

import h5py
import numpy as np

from featcache.features.store.disk import Disk, opened
from featcache.features.store.layout import COLUMNS, Extent
from featcache.features.store.stored_file import StoredFile


def hdf5_problem(stored: StoredFile) -> str:
    """Where h5py sees another file than the header describes; "" where both agree."""
    try:
        with (
            opened(stored.disk, stored.path) as descriptor,
            h5py.File(_Stream(stored.disk, descriptor), "r") as file,
        ):
            return _first_difference(file, stored)
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError) as error:
        return f"h5py cannot read it: {error}"


def _first_difference(file: h5py.File, stored: StoredFile) -> str:
    texts = [name for name, (_, dimensions) in COLUMNS.items() if not dimensions]
    for name in texts:
        if bytes(file.attrs[name]).decode("utf-8") != stored.text(name):
            return f"h5py reads another {name} than the header names"
    arrays = {name: each for name, each in stored.layout.arrays.items() if name not in texts}
    for name, extent in ({"features": arrays["features"]} | arrays).items():
        if not isinstance(file.get(name, getlink=True), h5py.HardLink):
            return f"/{name} is missing, or a link and not an array of this file"
        seen = _extent(file[name], extent)
        if seen != extent:
            return f"h5py sees /{name} as {seen}, and the header says {extent}"
    return ""


def _extent(dataset: Any, expected: Extent) -> Extent | None:
    """Where and what a data set is for libhdf5; None unless it lies plainly in this file."""
    creation = dataset.id.get_create_plist()
    if creation.get_layout() != h5py.h5d.CONTIGUOUS or creation.get_external_count():
        return None
    dtype = dataset.dtype
    text = f"|S{dtype.itemsize}" if dtype.kind == "S" else np.dtype(dtype).str
    # Nothing of no length has a place.
    offset = int(dataset.id.get_offset()) if dataset.size else expected.offset
    return Extent(text, tuple(int(length) for length in dataset.shape), offset)


class _Stream(io.RawIOBase):
    """A descriptor of a `Disk` as the file object that h5py wants."""

    def __init__(self, disk: Disk, descriptor: int) -> None:
        self._disk, self._descriptor, self._offset = disk, descriptor, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._offset}.get(whence)
        self._offset = offset + (self._disk.size(self._descriptor) if start is None else start)
        return self._offset

    def tell(self) -> int:
        return self._offset

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        content = self._disk.read(self._descriptor, len(view), self._offset)
        view[: len(content)] = content
        self._offset += len(content)
        return len(content)
