"""Head file: a safetensors file with a digest over all of its bytes, so that damage is noticed.

    8 bytes, length of the header | header, one JSON object, keys sorted | arrays

``__metadata__`` holds the texts ``format``, ``version``, ``head`` (JSON too) and, from version 2
on, ``digest``: SHA-256 of the whole file with the digest's own 64 characters as zeros.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np

from featcache.errors import DamagedFile, FeatcacheError
from featcache.files.small_files import (
    MOST_OF_A_TABLE,
    ZEROS,
    is_sound,
    parse_json,
    read_small,
    sealed,
)

FORMAT = "featcache-head"
VERSION = 2
#: Of this version on, a file without a digest is damaged.
_DIGESTED = 2
#: One of these stands near the beginning of every head, whichever single byte was flipped.
_MARKS = (FORMAT.encode("ascii"), b'"digest":"')
_SEARCHED = 1 << 20


def pack_head(arrays: dict[str, np.ndarray], head: dict[str, Any]) -> bytes:
    """The bytes of a head's file: the same for the same head."""
    from safetensors.numpy import save

    # safetensors writes an array's memory as it lies: Fortran order would come back scrambled.
    content = save({name: np.ascontiguousarray(array) for name, array in arrays.items()})
    (length,) = struct.unpack_from("<Q", content)
    header = json.loads(content[8 : 8 + length])
    header["__metadata__"] = {
        "digest": ZEROS,
        "format": FORMAT,
        "head": json.dumps(head, sort_keys=True),
        "version": str(VERSION),
    }
    text = json.dumps(header, sort_keys=True, separators=(",", ":")).encode("ascii")
    text += b" " * (-len(text) % 8)
    return sealed(struct.pack("<Q", len(text)) + text + content[8 + length :])


def read_head(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any], bool]:
    """The arrays and the JSON of a head's file, and whether a digest protects them.

    Heads of version 1 have none. Raises `DamagedFile` where the file is not what was written, and
    `FeatcacheError` where it is no head, or of a newer version.
    """
    try:
        content = read_small(path, MOST_OF_A_TABLE)
    except OSError as error:
        raise FeatcacheError(f"{path}: the head cannot be read: {error.strerror}") from error
    try:
        is_digested = is_sound(content)
        if is_digested is False:
            raise ValueError("it does not match its digest")
        metadata = _metadata(content)
        _check_version(metadata["version"], is_digested=bool(is_digested))
        arrays = _arrays(content)
        return arrays, _checked(parse_json(metadata["head"]), arrays), bool(is_digested)
    except Newer as error:
        raise FeatcacheError(f"{path}: {error}") from error
    except (ValueError, KeyError, TypeError, RecursionError, struct.error) as error:
        if not any(mark in content[:_SEARCHED] for mark in _MARKS):
            raise FeatcacheError(
                f"{path}: not a featcache head (made by `featcache fit-head`)"
            ) from error
        raise damaged_head(path, error) from error


def damaged_head(path: Path, error: Exception) -> DamagedFile:
    """What to say of a head that is not what was written."""
    return DamagedFile(f"{path}: a damaged head: {error}. Fit it again, or copy it again")


class Newer(Exception):
    """The file is whole, and this featcache is too old for it."""


def _metadata(content: bytes) -> dict[str, str]:
    (length,) = struct.unpack_from("<Q", content)
    metadata = json.loads(content[8 : 8 + length])["__metadata__"]
    if metadata["format"] != FORMAT:
        raise ValueError("its format is another")
    if not all(isinstance(text, str) for text in metadata.values()):
        raise ValueError("its metadata are not texts")
    checked: dict[str, str] = metadata
    return checked


def _check_version(version: str, *, is_digested: bool) -> None:
    if version not in {str(each + 1) for each in range(VERSION)}:
        raise Newer(
            f"a head of format {version}, this featcache reads 1 to {VERSION}: upgrade featcache"
        )
    if is_digested != (int(version) >= _DIGESTED):
        raise ValueError(f"version {version} {'has no' if is_digested else 'lacks its'} digest")


#: What a head's record holds, and of which type.
_SHAPE: dict[str, type] = {
    "kind": str, "classes": list, "recipe": str, "weights_hint": str, "settings": dict,
    "protocol": str, "metrics": dict, "versions": dict,
}  # fmt: skip


def _checked(record: Any, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """The record of a head, its fields of the types that are written; raises `ValueError`."""
    if not isinstance(record, dict):
        raise ValueError("its record is no JSON object")
    for name, kind in _SHAPE.items():
        if not isinstance(record.get(name), kind):
            raise ValueError(f"its {name} is {record.get(name)!r:.80}, expected {kind.__name__}")
    names = record["classes"]
    if not all(isinstance(name, str) for name in names) or len(set(names)) != len(names):
        raise ValueError("its classes are not names, each once")
    known, probe = arrays["trained_on"], arrays["probe"]
    if known.dtype != np.uint64 or known.ndim != 1:
        raise ValueError("the array 'trained_on' is no list of keys")
    if probe.dtype != np.float32 or probe.ndim != 2:
        raise ValueError("the array 'probe' is no matrix of float32")
    _check_history(record["settings"])
    return record


def _check_history(settings: dict[str, Any]) -> None:
    """What is drawn and printed of a training, where there was one; raises `ValueError`."""
    tuned = settings.get("finetuned", {})
    learned = tuned.get("learned", {}) if isinstance(tuned, dict) else None
    history, parameters = settings.get("history", {}), settings.get("parameters", {})
    if not all(isinstance(each, dict) for each in (learned, history, parameters)) or not all(
        isinstance(values, list) and all(isinstance(value, int | float) for value in values)
        for values in history.values()
    ):
        raise ValueError("the history in its settings is none of a training")


def _arrays(content: bytes) -> dict[str, np.ndarray]:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        arrays: dict[str, np.ndarray] = load(content)
    except SafetensorError as error:
        raise ValueError(str(error)) from error
    return arrays
