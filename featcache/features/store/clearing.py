"""Clearing: gc and rm take away what they recognise, name by name; whatever else lies there stays.

A file is recognised by its exact name in its exact place and by how its content begins. A name
alone proves nothing: a cache that was received may hold anything.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from contextlib import suppress
from pathlib import Path

import numpy as np

from featcache.errors import FeatcacheError
from featcache.features.store.disk import Disk, opened, storage_errors
from featcache.features.store.index import build_index, row_names
from featcache.features.store.place import LEFT, Place, place_of
from featcache.features.store.records import GcResult
from featcache.features.store.snapshot import Snapshot, take_snapshot
from featcache.files.folders import DRAFT
from featcache.files.write import HDF5, HDF5_AT, looks_like_features

_PART = re.compile(r"(p|left)-[0-9a-f]{16}\.h5")
_ASIDE = re.compile(r"(features|(p|left)-[0-9a-f]{16})(-[0-9]+)?\.h5")
#: Drafts of earlier versions: host, process, number.
_OLD_DRAFT = re.compile(r"\.tmp-[a-z0-9._]+-[0-9]+-[0-9a-f]+")


def collect(folder: Path, spare: Collection[Path] = (), disk: Disk | None = None) -> GcResult:
    """Delete the quarantine, rows that the last pack found no image for, and stale drafts.

    `spare` are files that stay. Where there is nothing to delete, nothing is written either.
    Raises `StorageFailure`.
    """
    place = place_of(folder, disk=disk)
    with storage_errors(folder):
        if not _garbage(place, spare):
            return GcResult(unrecognised=_unrecognised(place))
        with place.locked_there():
            result = _delete(place, _garbage(place, spare))
            for each in (place.folder, place.parts, place.quarantine):
                if place.disk.is_folder(each):
                    place.disk.sync_folder(each)
        return result + GcResult(unrecognised=_unrecognised(place))


def drop_drafts(place: Place) -> None:
    """Delete what dead writers left; raises nothing, since what stays does no harm."""
    for path in _drafts(place):
        with suppress(OSError):
            place.disk.unlink_abandoned(path)


def remove_place(folder: Path) -> GcResult:
    """Delete every file of the store that is recognised in a folder, and what that empties."""
    place = place_of(folder)
    disk = place.disk
    with storage_errors(folder), place.locked_there():
        result = _delete(place, _everything(place))
        for folder in (place.parts, place.quarantine):
            disk.rmdir(folder)
        if disk.status(place.lock).size == 0:
            disk.unlink(place.lock)
    return result


def last_copies(folder: Path, recipe: str, others: list[Snapshot]) -> dict[Path, int]:
    """The parts that `gc` would delete with rows that no other file has: how many rows.

    `others` are the other places of the same recipe. A part that cannot be read counts too, with
    no rows: its content is unknown.
    """
    with storage_errors(folder):
        snapshot = take_snapshot(place_of(folder, recipe))
    damaged = [each.path for each in snapshot.problems if _is_left(each.path)]
    lasting = [  # the rows of the files that `gc` leaves alone
        build_index([file for file in each.files if not _is_left(file.path)])
        for each in (snapshot, *others)
    ]
    found: dict[Path, int] = dict.fromkeys(damaged, 0)
    for file in filter(lambda each: _is_left(each.path), snapshot.files):
        names = row_names(file.column("key"), file.column("view"))
        is_elsewhere = np.any([index.find(names) >= 0 for index in lasting], axis=0)
        if not is_elsewhere.all():
            found[file.path] = int((~is_elsewhere).sum())
    return found


def _is_left(path: Path) -> bool:
    return path.name.startswith(LEFT)


def _delete(place: Place, paths: Iterable[Path]) -> GcResult:
    """Delete files, and drafts whose writer is dead; count what was deleted."""
    deleted = GcResult()
    for path in paths:
        with suppress(FileNotFoundError):  # another process was quicker
            length = place.disk.status(path).size
            if not _is_draft(path.name):
                place.disk.unlink(path)
            elif not place.disk.unlink_abandoned(path):
                continue
            deleted += GcResult(1, length)
    return deleted


def _garbage(place: Place, spare: Collection[Path]) -> list[Path]:
    aside = _known(place, place.quarantine, _ASIDE)
    left = [path for path in _known(place, place.parts, _PART) if _is_left(path)]
    return [path for path in (*aside, *left) if path not in spare] + _drafts(place)


def _everything(place: Place) -> list[Path]:
    packed = [place.packed] if _is_ours(place.disk, place.packed) else []
    parts = _known(place, place.parts, _PART)
    return [*packed, *parts, *_known(place, place.quarantine, _ASIDE), *_drafts(place)]


def _known(place: Place, folder: Path, pattern: re.Pattern[str]) -> list[Path]:
    """The files of a folder that are ours by name and content."""
    named = [folder / name for name in _names(place, folder) if pattern.fullmatch(name)]
    return [path for path in named if _is_ours(place.disk, path)]


def _drafts(place: Place) -> list[Path]:
    return [
        folder / name
        for folder in (place.folder, place.parts)
        for name in _names(place, folder)
        if _is_draft(name)
    ]


def _is_draft(name: str) -> bool:
    return bool(DRAFT.fullmatch(name) or _OLD_DRAFT.fullmatch(name))


def _is_ours(disk: Disk, path: Path) -> bool:
    """Whether a file's content is of our kind, or there is none."""
    try:
        with opened(disk, path) as descriptor:
            beginning = disk.read(descriptor, HDF5_AT + len(HDF5), 0)
            return not beginning or looks_like_features(beginning)
    except (FileNotFoundError, FeatcacheError):  # gone, no regular file, not readable
        return False


def _names(place: Place, folder: Path) -> list[str]:
    """The names in a folder; none where a link leads to it, or it is no folder."""
    return place.disk.names(folder) if place.disk.is_folder(folder) else []


def _unrecognised(place: Place) -> list[Path]:
    """What lies where only our files should, and is not known to be one."""
    known = {*_known(place, place.parts, _PART), *_known(place, place.quarantine, _ASIDE)}
    known |= set(_drafts(place))
    return [path for path in _inside(place) if path not in known]


def _inside(place: Place) -> list[Path]:
    """What lies in the folders of a place; a folder itself where it is a link, or none."""
    found: list[Path] = []
    for folder in (place.parts, place.quarantine):
        is_odd = place.disk.exists(folder) and not place.disk.is_folder(folder)
        found += [folder] if is_odd else [folder / name for name in _names(place, folder)]
    return found
