"""Care: verify finds what is damaged, and repair saves what is not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from featcache.errors import FeatcacheError
from featcache.store.disk import Status, storage_errors
from featcache.store.hdf5_view import hdf5_problem
from featcache.store.index import build_index
from featcache.store.layout import PART, Extent
from featcache.store.place import Place
from featcache.store.records import Array, Problem, RepairResult
from featcache.store.skeleton import build_skeleton
from featcache.store.snapshot import load_of_place, take_snapshot
from featcache.store.stored_file import StoredFile, check_file_version, row_blocks, row_size
from featcache.store.writing import write_file


def verify(place: Place) -> list[Problem]:
    """Every problem of every file: header, metadata, each row, and what libhdf5 makes of it."""
    problems = [problem for path in place.files() if (problem := examine(place, path))]
    if problems:
        return problems
    return take_snapshot(place).problems + _quarrels(place)


def examine(place: Place, path: Path) -> Problem | None:
    """What is wrong with one file, or None."""
    try:
        check_file_version(place.disk, path)
        file = load_of_place(place, path)
        bad = bad_rows(file)
    except FileNotFoundError:  # packed meanwhile
        return None
    except FeatcacheError as error:
        return Problem(path, str(error), [])
    if len(bad):
        reason = f"{len(bad)} of {len(file)} rows do not match their checksum"
        return Problem(path, reason, bad.tolist())
    difference = hdf5_problem(file)
    return Problem(path, difference, []) if difference else None


def bad_rows(file: StoredFile) -> Array:
    """Numbers of the rows that do not match their checksum, some 16 MB at a time."""
    checksums = file.column("row_crc32")
    bad = [np.empty(0, np.int64)]
    for block in row_blocks(len(file), row_size(file.layout.features)):
        bad.append(block[file.read_rows(block, checksums[block])[1]])
    return np.concatenate(bad)


def repair(place: Place) -> RepairResult:
    """Save the good rows of bad files in new parts, and move the bad files to the quarantine.

    The rows are safe before their file is moved, so a repair that is killed loses none.
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
    for problem in take_snapshot(place).problems:  # whole, and yet unlike its neighbours
        moved.append(place.put_aside(problem.path))
    return RepairResult(moved, kept, lost)


def _quarrels(place: Place) -> list[Problem]:
    """Files that have other rows for a key and view than the file that answers for them."""
    files = [load_of_place(place, path) for path in place.files()]
    index = build_index(files)
    winners = index.find(index.names)
    differing = np.flatnonzero(index.checksums != index.checksums[winners])
    return [
        Problem(
            files[number].path,
            f"{len(where)} rows differ from the rows of the same images in another file",
            (differing[where] - index.starts[number]).tolist(),
        )
        for number, where in index.by_file(differing)
        if len(where)
    ]


def _salvage(place: Place, path: Path) -> tuple[int, int]:
    """Commit the good rows of a bad file as a part; (kept, lost), (0, 0) if nobody can tell."""
    try:
        file = load_of_place(place, path, is_cut_ok=True)
    except FeatcacheError:  # `verify` has said it; its keys or checksums are not to be trusted
        return 0, 0
    good = np.setdiff1d(np.arange(len(file)), bad_rows(file))
    if len(good) or len(file.column("failed_path")):
        _write_part(place, file, good=good)
    return len(good), len(file) - len(good)


def _write_part(place: Place, file: StoredFile, *, good: Array) -> None:
    columns = file.columns(*PART)
    for name in ("path", "key", "view", "source_size", "row_crc32"):
        columns[name] = columns[name][good]
    features = file.layout.features
    rows = Extent(features.dtype, (len(good), *features.shape[1:]), 0)
    skeleton = build_skeleton("part", columns, rows=rows)
    target = place.parts / f"p-{skeleton.name}.h5"
    write_file(place.disk, target, skeleton=skeleton, rows=_good_rows(file, good))


def _good_rows(file: StoredFile, good: Array) -> Iterator[Array]:
    checksums = file.column("row_crc32")
    for block in row_blocks(len(good), row_size(file.layout.features)):
        yield file.rows(good[block], checksums[good[block]])


def _move(place: Place, path: Path, *, status: Status) -> list[Path]:
    """Put a bad file aside, unless somebody committed a good one under its name meanwhile."""
    with storage_errors(path):
        target = place.put_aside(path)
        if place.disk.status(target) == status:
            return [target]
        place.disk.replace(target, path)
        place.disk.sync_folder(path.parent)
    return []
