"""Checkpoint: a training's state after its last epoch, as one file, whole or not at all."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from featcache.errors import DamagedFile, FeatcacheError, StorageFailure
from featcache.files.write import remove, write_whole

FORMAT = "featcache-checkpoint 1"

_MOST_METADATA = 1 << 20


@dataclass(frozen=True, eq=False)
class Saved:
    """What the next epoch depends on.

    Attributes
    ----------
    weights, optimizer: values of the variables that change, in their order.
    best: the weights of the best epoch; empty where that is the last one.
    progress: epochs done, the best one, history and seconds, as plain JSON.
    """

    weights: list[np.ndarray]
    optimizer: list[np.ndarray]
    best: list[np.ndarray]
    progress: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A file that a killed training goes on from.

    Attributes
    ----------
    path: the file.
    settings: everything that the result of the training depends on, as plain JSON; a file of
        other settings is refused.
    """

    path: Path
    settings: dict[str, Any]

    def save(self, saved: Saved) -> None:
        """Write the state, whole or not at all; raises `StorageFailure`."""
        from safetensors.numpy import save

        arrays = _named(saved)
        state = json.dumps({"settings": self.settings, "progress": saved.progress})
        metadata = {
            "format": FORMAT,
            "state": state,
            "state_crc32": _checksum(state, {}),
            "crc32": _checksum(state, arrays),
        }
        try:
            write_whole(self.path, save(arrays, metadata), base=self.path.parent)
        except StorageFailure as error:
            raise StorageFailure(
                f"{error}, such as another --out; the last epoch that was saved is still there"
            ) from error

    def load(self) -> Saved | None:
        """The state that was saved, None where there is none.

        Raises `FeatcacheError` that names the settings that differ;
        `DamagedFile` where it is no checkpoint, or a damaged one.
        """
        if not self.path.exists():
            return None
        with _opened(self.path) as file:
            metadata = _checked_metadata(file, self.path)
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if metadata.get("crc32") != _checksum(metadata["state"], arrays):
            raise _damaged(self.path)
        state = json.loads(metadata["state"])
        if differing := differences(state["settings"], self.settings):
            raise FeatcacheError(
                f"{self.path}: an unfinished training of other images or settings is there "
                f"({'; '.join(differing)}). Give those to finish it, name another --out, or delete "
                f"{self.path}"
            )
        return Saved(
            weights=_listed(arrays, "weights"),
            optimizer=_listed(arrays, "optimizer"),
            best=_listed(arrays, "best"),
            progress=state["progress"],
        )

    def settings_there(self) -> dict[str, Any] | None:
        """The settings of the training that was saved, None where there is none.

        They come from the file's header. Raises `DamagedFile` where that is no sound one.
        """
        if not self.path.exists():
            return None
        with _opened(self.path) as file:
            metadata = _checked_metadata(file, self.path)
        settings: dict[str, Any] = json.loads(metadata["state"])["settings"]
        return settings

    def remove(self) -> None:
        """Delete the file, if it is there: the training's result is safe elsewhere."""
        remove(self.path, _is_checkpoint, base=self.path.parent)


def _is_checkpoint(file: BinaryIO) -> bool:
    """Whether an open file begins as one, or is empty; safetensors puts the metadata first."""
    beginning = file.read(_MOST_METADATA)
    return not beginning or f'"format":"{FORMAT}"'.encode() in beginning


def digest_of(*columns: np.ndarray) -> str:
    """Sixteen hex digits of some columns, among settings: the same for the same values."""
    listing = json.dumps([column.tolist() for column in columns])
    return hashlib.sha256(listing.encode()).hexdigest()[:16]


def _named(saved: Saved) -> dict[str, np.ndarray]:
    # safetensors writes an array's memory as it lies: Fortran order would come back scrambled.
    return {
        f"{kind}.{number}": np.asarray(value, order="C")
        for kind in ("weights", "optimizer", "best")
        for number, value in enumerate(getattr(saved, kind))
    }


def _listed(arrays: dict[str, np.ndarray], kind: str) -> list[np.ndarray]:
    count = sum(name.startswith(f"{kind}.") for name in arrays)
    return [arrays[f"{kind}.{number}"] for number in range(count)]


def _checksum(state: str, arrays: dict[str, np.ndarray]) -> str:
    total = zlib.crc32(state.encode())
    for name in sorted(arrays):
        total = zlib.crc32(arrays[name].tobytes(), zlib.crc32(name.encode(), total))
    return f"{total:08x}"


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            yield file
    except (SafetensorError, OSError, ValueError) as error:
        raise DamagedFile(f"{path}: not a checkpoint of a training ({error}): {_ADVICE}") from error


def _checked_metadata(file: Any, path: Path) -> dict[str, str]:
    """The metadata, whose state is whole; of the arrays nothing is read."""
    metadata: dict[str, str] = file.metadata() or {}
    if metadata.get("format") != FORMAT:
        raise DamagedFile(f"{path}: not a checkpoint of this featcache: {_ADVICE}")
    if metadata.get("state_crc32") != _checksum(metadata.get("state", ""), {}):
        raise _damaged(path)
    return metadata


def _damaged(path: Path) -> DamagedFile:
    return DamagedFile(f"{path}: the checkpoint is damaged: {_ADVICE}")


_ADVICE = "delete the file and run again, which begins at the first epoch"


def differences(there: dict[str, Any], here: dict[str, Any]) -> list[str]:
    """The fields in which two settings differ, as "field: value there, value now"."""
    old, new = _flat(there), _flat(here)
    missing = "nothing"
    return [
        f"{name}: {old.get(name, missing)} there, {new.get(name, missing)} now"
        for name in dict.fromkeys([*old, *new])
        if old.get(name, missing) != new.get(name, missing)
    ]


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {prefix: value}
    flat: dict[str, Any] = {}
    for name, inner in value.items():
        flat |= _flat(inner, f"{prefix}.{name}" if prefix else str(name))
    return flat
