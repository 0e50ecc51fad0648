"""Removal: what lies beside features, recognised by name and content, and deleted with them.

    cache/photos/featcache.json, scan.json.gz
    cache/photos/vgg16-1a2b3c4d/weights.json, runs.jsonl, logreg.head

The files of the store itself are the store's to delete. What is not recognised stays.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from featcache.errors import FeatcacheError
from featcache.features.claims import FORMAT, MARKER
from featcache.features.store.clearing import remove_place
from featcache.features.store.records import GcResult
from featcache.files.folders import check_no_link, remove_folder
from featcache.files.write import deleting, remove
from featcache.images import STAT_CACHE, is_stat_cache

WEIGHTS_NOTE, RUNS = "weights.json", "runs.jsonl"
_HEAD = ".head"

Recogniser = Callable[[BinaryIO], bool]

#: More of a note or a log is not read to recognise it.
_MOST = 1 << 20
_MOST_HEAD = 1 << 26


def remove_entry(directory: Path) -> GcResult:
    """Delete the files of an entry, and its data set's with the last one.

    Raises `FeatcacheError` where a link leads there; `StorageFailure`.
    """
    data_set = directory.parent
    check_no_link(data_set)
    if not directory.is_dir() or directory.is_symlink():
        raise FeatcacheError(
            f"{directory} is no folder of this cache, or a link: name the cache that it is in "
            f"with --cache"
        )
    with deleting(directory):
        removed = remove_place(directory) + _remove_beside(directory, _of_entry)
        remove_folder(directory, data_set.parent)
        # Nothing lies in the data set's folder but what is to go with its last entry.
        is_idle = {path.name for path in _inside(data_set)} <= {MARKER, STAT_CACHE}
        if is_idle and not directory.exists():
            removed += _remove_beside(data_set, _of_data_set)
            remove_folder(data_set, data_set.parent)
        return removed + GcResult(unrecognised=_what_is_left(data_set, directory))


def _remove_beside(folder: Path, kind: Callable[[str], Recogniser]) -> GcResult:
    """Delete the files of a folder that its `kind` of names recognises."""
    removed = GcResult()
    for path in _inside(folder):
        length = path.lstat().st_size
        if remove(path, kind(path.name), base=folder.parent):
            removed += GcResult(1, length)
    return removed


def _of_entry(name: str) -> Recogniser:
    known = {WEIGHTS_NOTE: _has("weights"), RUNS: _has("finished", "host")}
    return known.get(name) or (_is_head(name) if name.endswith(_HEAD) else _nothing)


def _of_data_set(name: str) -> Recogniser:
    return {MARKER: _is_marker, STAT_CACHE: is_stat_cache}.get(name, _nothing)


def _nothing(file: BinaryIO) -> bool:
    return False


def _has(*fields: str) -> Recogniser:
    """Recognises a file whose first line is an object with such fields; or an empty one."""

    def is_ours(file: BinaryIO) -> bool:
        line = file.readline(_MOST)
        return not line or set(fields) <= _object(line).keys()

    return is_ours


def _is_marker(file: BinaryIO) -> bool:
    return _object(file.read(_MOST)).get("format") == FORMAT


def _is_head(name: str) -> Recogniser:
    """Recognises a head that is called by its kind, as it is where it was given no name."""

    def is_ours(file: BinaryIO) -> bool:
        length = int.from_bytes(file.read(8), "little")
        said = _object(file.read(min(length, _MOST_HEAD))).get("__metadata__")
        if not isinstance(said, dict) or said.get("format") != "featcache-head":
            return False
        return f"{_object(said.get('head', '')).get('kind')}{_HEAD}" == name

    return is_ours


def _object(text: bytes | str) -> dict[str, Any]:
    """A JSON object; an empty one where the text is none."""
    try:
        found = json.loads(text)
    except (ValueError, TypeError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _inside(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _what_is_left(data_set: Path, directory: Path) -> list[Path]:
    """The files in an entry's folder, else those in its data set's, if it holds no other entry."""
    folder = directory if directory.is_dir() else data_set
    others = _inside(data_set) if folder == data_set else []
    if any((each / "features.h5").exists() or (each / "parts").is_dir() for each in others):
        return []
    found = [path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()]
    return sorted(found) or [folder] * folder.is_dir()
