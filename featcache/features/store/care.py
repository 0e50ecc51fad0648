"""Care: verify finds what is damaged, and repair saves what is not."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from featcache.errors import FeatcacheError
from featcache.features.store.disk import Disk, Status, storage_errors
from featcache.features.store.hdf5_view import hdf5_problem
from featcache.features.store.layout import Extent
from featcache.features.store.place import Place
from featcache.features.store.records import Array, Problem, RepairResult
from featcache.features.store.recovery import Recovered, recover, recovered_file
from featcache.features.store.skeleton import build_skeleton
from featcache.features.store.snapshot import Snapshot, load_of_place, take_snapshot
from featcache.features.store.stored_file import (
    StoredFile,
    check_file_version,
    load,
    row_blocks,
    row_size,
)
from featcache.features.store.writing import write_file


def verify(place: Place) -> list[Problem]:
    """Every problem of every file: header, metadata, each row, and what libhdf5 makes of it."""
    problems = [problem for path in place.files() if (problem := examine(place, path))]
    if problems:
        return problems
    snapshot = take_snapshot(place)
    return snapshot.problems + _conflicts(snapshot)


def examine(place: Place, path: Path) -> Problem | None:
    """What is wrong with one file of a place, or None."""
    return _examined(place.disk, path, lambda: load_of_place(place, path))


def verify_file(path: Path) -> Problem | None:
    """What is wrong with a `features.h5` or a part that lies anywhere, or None."""
    disk = Disk()
    with storage_errors(path):
        return _examined(disk, path, lambda: load(disk, path))


def _examined(disk: Disk, path: Path, load_it: Callable[[], StoredFile]) -> Problem | None:
    try:
        check_file_version(disk, path)
        file = load_it()
        bad = bad_rows(file, file.column("row_crc32"))
    except FileNotFoundError:  # packed meanwhile
        return None
    except FeatcacheError as error:
        return Problem(path, str(error), [])
    if len(bad):
        reason = f"{len(bad)} of {len(file)} rows do not match their checksum"
        return Problem(path, reason, bad.tolist())
    difference = hdf5_problem(file)
    return Problem(path, difference, []) if difference else None


def bad_rows(file: StoredFile, checksums: Array) -> Array:
    """Numbers of the rows that do not match their checksums, some 16 MB at a time."""
    bad = [np.empty(0, np.int64)]
    for block in row_blocks(len(file), row_size(file.layout.features)):
        bad.append(block[file.read_rows(block, checksums[block])[1]])
    return np.concatenate(bad)


def repair(place: Place) -> RepairResult:
    """Save the good rows of bad files in new parts, and move the bad files to the quarantine.

    The rows are safe before their file is moved, so a repair that is killed loses none. A part
    that can be restored to the last byte is written in its own place.
    Raises `FeatcacheError` where a file is of a newer format: nothing is wrong with that.
    """
    for path in place.files():
        check_file_version(place.disk, path)
    moved: list[Path] = []
    kept = lost = 0
    for path in place.files():
        status = place.disk.status(path)
        if examine(place, path):
            saved, gone = _salvage(place, path)
            kept, lost = kept + saved, lost + gone
            moved += _move(place, path, status=status)
    snapshot = take_snapshot(place)
    for problem in snapshot.problems:  # whole, and yet unlike its neighbours
        moved.append(place.put_aside(problem.path))
    for problem in _conflicts(snapshot):
        saved, gone = _salvage(place, problem.path, but=problem.rows)
        kept, lost = kept + saved, lost + gone
        moved.append(place.put_aside(problem.path))
    return RepairResult(moved, kept, lost)


def _conflicts(snapshot: Snapshot) -> list[Problem]:
    """Files that have other rows for a key and view than the file that answers for them."""
    index = snapshot.index
    winners = index.find(index.names)
    differing = np.flatnonzero(index.checksums != index.checksums[winners])
    return [
        Problem(
            snapshot.files[number].path,
            f"{len(where)} rows differ from the rows of the same images in another file",
            (differing[where] - index.starts[number]).tolist(),
        )
        for number, where in index.by_file(differing)
        if len(where)
    ]


def _salvage(place: Place, path: Path, but: Sequence[int] = ()) -> tuple[int, int]:
    """Commit the good rows of a file as a part, leaving out some: how many were kept, and lost.

    (0, 0) where their number is unknown.
    """
    file = recovered_file(place.disk, path)
    if file is None or file.layout.recipe_key != place.recipe_key:
        return 0, 0
    recovered = recover(file)
    if recovered is None:
        return 0, len(file)
    bad = bad_rows(file, recovered.columns["row_crc32"])
    good = np.setdiff1d(np.flatnonzero(recovered.usable), [*bad, *but])
    if len(good) or len(recovered.columns["failed_path"]):
        _write_part(place, recovered, good=good)
    return len(good), len(file) - len(good)


def _write_part(place: Place, recovered: Recovered, *, good: Array) -> None:
    columns, features = dict(recovered.columns), recovered.file.layout.features
    for name in ("path", "key", "view", "source_size", "row_crc32"):
        columns[name] = columns[name][good]
    rows = Extent(features.dtype, (len(good), *features.shape[1:]), 0)
    skeleton = build_skeleton("part", columns, rows=rows)
    target = place.parts / f"p-{skeleton.name}.h5"
    vectors = _good_rows(recovered, good)
    write_file(place.disk, target, skeleton=skeleton, rows=vectors)


def _good_rows(recovered: Recovered, good: Array) -> Iterator[Array]:
    checksums = recovered.columns["row_crc32"]
    for block in row_blocks(len(good), row_size(recovered.file.layout.features)):
        yield recovered.file.rows(good[block], checksums[good[block]])


def _move(place: Place, path: Path, *, status: Status) -> list[Path]:
    """Put a bad file aside, unless a good one was committed under its name meanwhile."""
    with storage_errors(path):
        target = place.put_aside(path)
        if place.disk.status(target) == status:
            return [target]
        place.disk.replace(target, path)
        place.disk.sync_folder(path.parent)
    return []
