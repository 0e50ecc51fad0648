"""Weights files that others wrote: checked before they are used, then read.

An HDF5 file can name other files on the machine, or declare two gigabytes in twelve kilobytes.
So the file is walked first: hard links only, no external or virtual storage, no filters but gzip
and shuffle, and never more declared bytes than four times the file.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from featcache.errors import FeatcacheError

_FILTERS = ("gzip", "shuffle")
_DECLARED_PER_BYTE = 4
_MOST_OBJECTS = 100_000


@dataclass(frozen=True, slots=True)
class StoredWeight:
    """One array of a weights file: its layer's name, its own name, shape, and where it lies.

    `layer` is "" where the file does not say.
    """

    layer: str
    name: str
    shape: tuple[int, ...]
    dataset: str


@dataclass(frozen=True, slots=True)
class WeightsFile:
    """A checked HDF5 weights file: "legacy" (Keras 1 and 2) or "keras" (``.weights.h5``)."""

    path: Path
    kind: str
    weights: tuple[StoredWeight, ...]

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """Of the arrays, in the order of `weights`."""
        return [weight.shape for weight in self.weights]

    def read(self) -> Iterator[np.ndarray[Any, Any]]:
        """The arrays, one at a time, in the order of `weights`."""
        with h5py.File(self.path, "r") as file:
            for weight in self.weights:
                yield file[weight.dataset][()]


def check_weights_file(path: Path) -> WeightsFile:
    """Walk an HDF5 file of unknown origin and list the weights in it.

    Raises `FeatcacheError` where it is not HDF5, or holds anything that could reach outside of it
    or grow out of proportion.
    """
    try:
        with h5py.File(path, "r") as file:
            datasets = _checked_datasets(file)
            declared = sum(dataset.size * dataset.dtype.itemsize for dataset in datasets.values())
            _refuse_if(
                declared > _DECLARED_PER_BYTE * path.stat().st_size,
                f"it declares {declared} bytes in a file of {path.stat().st_size}",
            )
            return _listed(path, file, datasets)
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        raise FeatcacheError(
            f"{path}: not a weights file that featcache reads: {error}. Expected is a file of "
            "Keras's save_weights (.weights.h5, .h5) or .safetensors"
        ) from error


def _refuse_if(wrong: bool, reason: str) -> None:
    if wrong:
        raise ValueError(reason)


def _checked_datasets(file: h5py.File) -> dict[str, h5py.Dataset]:
    """Every dataset by its full name, walked by hard links only."""
    datasets: dict[str, h5py.Dataset] = {}
    groups, seen = [("", file)], 0
    while groups:
        prefix, group = groups.pop()
        for name in group:
            seen += 1
            _refuse_if(seen > _MOST_OBJECTS, "it holds too many objects")
            _refuse_if(
                not isinstance(group.get(name, getlink=True), h5py.HardLink),
                f"{prefix}/{name} is a link to elsewhere",
            )
            child = group[name]
            if isinstance(child, h5py.Group):
                _refuse_if(prefix.count("/") > 40, "its groups are nested too deeply")
                groups.append((f"{prefix}/{name}", child))
            elif isinstance(child, h5py.Dataset):
                _check_dataset(f"{prefix}/{name}", child)
                datasets[f"{prefix}/{name}"] = child
    return datasets


def _check_dataset(name: str, dataset: h5py.Dataset) -> None:
    properties = dataset.id.get_create_plist()
    _refuse_if(properties.get_external_count() > 0, f"{name} keeps its bytes in another file")
    _refuse_if(dataset.is_virtual, f"{name} is a virtual dataset")
    _refuse_if(
        dataset.dtype.hasobject or dataset.dtype.kind not in "fiubS",
        f"{name} is of type {dataset.dtype}, not numbers",
    )
    unknown = [code for code in dataset._filters if code not in _FILTERS]
    _refuse_if(bool(unknown), f"{name} uses the filter {', '.join(unknown)}")


def _listed(path: Path, file: h5py.File, datasets: dict[str, h5py.Dataset]) -> WeightsFile:
    root = file.get("model_weights", file)
    if "layer_names" in root.attrs or "layer_names0" in root.attrs:
        return WeightsFile(path, "legacy", tuple(_legacy_weights(root, datasets)))
    weights = tuple(
        StoredWeight(_layer_of(file, name), name.rsplit("/", 1)[1], dataset.shape, name)
        for name, dataset in datasets.items()
        if "/vars/" in name and not name.startswith("/optimizer/") and "seed_generator" not in name
    )
    _refuse_if(not weights, "it holds no weights as Keras writes them")
    return WeightsFile(path, "keras", weights)


def _legacy_weights(root: h5py.Group, datasets: dict[str, h5py.Dataset]) -> Iterator[StoredWeight]:
    for layer in _names(root, "layer_names"):
        for name in _names(root[layer], "weight_names"):
            full = f"{root.name.rstrip('/')}/{layer}/{name}"
            _refuse_if(full not in datasets, f"it names {full} and does not hold it")
            yield StoredWeight(layer, name, datasets[full].shape, full)


def _names(group: h5py.Group, attribute: str) -> list[str]:
    """A list of names, which Keras splits over several attributes when it is long."""
    pieces = [attribute] if attribute in group.attrs else []
    while f"{attribute}{len(pieces)}" in group.attrs:
        pieces.append(f"{attribute}{len(pieces)}")
    found = [name for piece in pieces for name in group.attrs[piece]]
    return [name.decode("utf-8") if isinstance(name, bytes) else str(name) for name in found]


def _layer_of(file: h5py.File, dataset: str) -> str:
    name = file[dataset.rsplit("/", 1)[0]].attrs.get("name", "")
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)
