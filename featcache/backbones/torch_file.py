"""Tensors out of a file in torch's legacy pickle layout, without torch and without running code.

The layout: magic number, protocol, system facts, the object (its storages are only named), the
list of storage names, then each storage as an int64 count and its raw values.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from featcache.errors import FeatcacheError

_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001


@dataclass(frozen=True, slots=True)
class _StorageType:
    dtype: str


@dataclass(frozen=True, slots=True)
class _Storage:
    key: str
    dtype: str
    count: int


@dataclass(frozen=True, slots=True)
class _Tensor:
    storage: _Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


def _rebuild(storage: _Storage, offset: int, size: Any, stride: Any, *_rest: Any) -> _Tensor:
    """Stands where the pickle names ``torch._utils._rebuild_tensor_v2``."""
    return _Tensor(storage, int(offset), tuple(map(int, size)), tuple(map(int, stride)))


_STORAGE_TYPES = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
}


class _TensorUnpickler(pickle.Unpickler):
    """Admits tensors, storages and ordered dictionaries; every other name is an error."""

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in _STORAGE_TYPES:
            return _StorageType(_STORAGE_TYPES[name])
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            # A fresh function each time: a pickle can set attributes of what it is given.
            return lambda *arguments: _rebuild(*arguments)
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")

    def persistent_load(self, identity: Any) -> _Storage:
        kind, storage_type, key, _device, count, _view = identity
        if kind != "storage" or not isinstance(storage_type, _StorageType):
            raise pickle.UnpicklingError(f"it asks for an unknown object {identity!r}")
        return _Storage(str(key), storage_type.dtype, int(count))


def read_torch_file(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    """The tensors of a state dictionary, by name, each as a C-ordered array.

    Raises `FeatcacheError` where the file is missing, is in another layout, holds anything but
    tensors, or a tensor reaches outside its storage. No code of the file is ever run.
    """
    try:
        with path.open("rb") as file:
            return _read(file)
    except (
        *(OSError, EOFError, pickle.UnpicklingError),
        *(ValueError, TypeError, KeyError, AttributeError, IndexError, OverflowError, MemoryError),
    ) as error:
        raise FeatcacheError(
            f"{path}: not a torch file of plain tensors in the legacy layout: {error}"
        ) from error


def _read(file: BinaryIO) -> dict[str, np.ndarray[Any, Any]]:
    if _load(file) != _MAGIC or _load(file) != _PROTOCOL:
        raise ValueError("the magic number or protocol differs")
    if not _load(file)["little_endian"]:
        raise ValueError("it was written on a big-endian machine")
    tensors = _load(file)
    if not isinstance(tensors, dict) or not all(
        isinstance(name, str) and isinstance(tensor, _Tensor) for name, tensor in tensors.items()
    ):
        raise ValueError("it is not a dictionary of tensors")
    known = {tensor.storage.key: tensor.storage for tensor in tensors.values()}
    storages = {key: _read_storage(file, known[key]) for key in _load(file)}
    return {name: _strided(name, tensor, storages) for name, tensor in tensors.items()}


def _load(file: BinaryIO) -> Any:
    return _TensorUnpickler(file).load()


def _read_storage(file: BinaryIO, storage: _Storage) -> np.ndarray[Any, Any]:
    count = int.from_bytes(file.read(8), "little", signed=True)
    if storage.dtype not in _STORAGE_TYPES.values():
        raise ValueError(f"storage {storage.key} is of type {storage.dtype}")
    if count != storage.count:
        raise ValueError(f"storage {storage.key} holds {count} values, not {storage.count}")
    length = count * np.dtype(storage.dtype).itemsize
    raw = file.read(length) if length >= 0 else b""
    if len(raw) != length:
        raise ValueError(f"storage {storage.key} is cut off")
    return np.frombuffer(raw, dtype=storage.dtype)


def _strided(
    name: str, tensor: _Tensor, storages: dict[str, np.ndarray[Any, Any]]
) -> np.ndarray[Any, Any]:
    """One tensor: strides are used (some convolutions are stored permuted), its bounds checked."""
    values = storages[tensor.storage.key]
    size, stride = tensor.size, tensor.stride
    if len(size) != len(stride) or min((tensor.offset, *size, *stride)) < 0:
        raise ValueError(f"tensor {name} has an impossible shape")
    count = 1
    for length in size:
        count *= length
    last = tensor.offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if count == 0 or last >= len(values) or count > len(values):
        raise ValueError(f"tensor {name} reaches outside its storage")
    steps = [step * values.itemsize for step in stride]
    view = np.lib.stride_tricks.as_strided(values[tensor.offset :], size, steps, writeable=False)
    return np.ascontiguousarray(view).reshape(size)
