"""Snapshot: all valid rows of a place at one moment, read without any lock."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from featcache.errors import DamagedFile, FeatcacheError, StorageFailure
from featcache.features.store.columns import decode
from featcache.features.store.disk import opened, storage_errors
from featcache.features.store.index import Index, build_index, name_parts, row_names
from featcache.features.store.layout import BLOCK
from featcache.features.store.packed_file import PackedFile, map_packed
from featcache.features.store.place import LEFT, Place, place_of
from featcache.features.store.records import Array, Failure, Problem
from featcache.features.store.stored_file import StoredFile, check_file_version, load

_ATTEMPTS = 50


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """What a place holds, each (key, view) once. Where two files have a row, `features.h5` answers,
    then the part of the smallest name.

    Attributes
    ----------
    problems: damaged or foreign files; they were ignored, so their rows count as missing.
    failures: images without a row, from all files.
    provenances: of the files with rows (of all, where none has any), each once.
    probe: (8, k) float32 of the first file with rows; None where no network ever ran.
    packed: the valid `features.h5`, mapped, or None.
    row_shape, dtype: of one row; None in an empty place.
    """

    problems: list[Problem]
    failures: list[Failure]
    provenances: list[str]
    probe: Array | None
    packed: PackedFile | None
    row_shape: tuple[int, ...] | None
    dtype: np.dtype[np.floating] | None
    place: Place
    files: list[StoredFile]
    index: Index

    def __len__(self) -> int:
        return len(self.index.distinct)

    def keys_and_views(self) -> tuple[Array, Array]:
        """Key (N,) 'S64' and view (N,) int32 of every row, sorted."""
        return name_parts(self.index.distinct)

    def find(self, keys: Array, views: Array) -> Array:
        """Positions of rows, -1 = missing: (n,) int64. `keys` (n,) 'S64' hex, `views` (n,) int."""
        return self.index.find(row_names(keys, views))

    def read(self, positions: Array) -> Array:
        """The rows at some positions, each checked: (n, ...) of `row_shape`.

        Raises `DamagedFile` naming the file and the rows, `FeatcacheError` where a row was removed
        since (`gc`).
        """
        positions = self._checked(positions)
        if self.row_shape is None:
            raise FeatcacheError("there are no rows to read here: run `featcache extract` first")
        vectors = np.empty((len(positions), *self.row_shape), self.dtype)
        for number, where in self.index.by_file(positions):
            file, some = self.files[number], positions[where]
            try:
                checksums = self.index.checksums[some]
                vectors[where] = file.rows(some - self.index.starts[number], checksums)
            except FileNotFoundError:  # packed meanwhile: the rows are in another file now
                vectors[where] = self._read_elsewhere(some)
        return vectors

    def source_sizes(self, positions: Array) -> Array:
        """Height and width in pixels of the images at some positions: (n, 2) int32."""
        return self.index.sizes[self._checked(positions)]

    def paths(self, positions: Array) -> Array:
        """Paths as they were when the rows were stored: (n,) object array of bytes."""
        positions = self._checked(positions)
        paths = np.empty(len(positions), object)
        for number, where in self.index.by_file(positions):
            column = self.files[number].column("path")
            paths[where] = column[positions[where] - self.index.starts[number]]
        return paths

    def _checked(self, positions: Array) -> Array:
        positions = np.asarray(positions, np.int64)
        if positions.size and not 0 <= positions.min() <= positions.max() < len(self.index.names):
            raise FeatcacheError("a position is -1 (a missing row) or beyond the last row")
        return positions

    def _read_elsewhere(self, positions: Array) -> Array:
        fresh = take_snapshot(self.place)
        found = fresh.find(*name_parts(self.index.names[positions]))
        if (found < 0).any():
            for problem in fresh.problems:
                raise DamagedFile(
                    f"{problem.path}: {problem.reason}; run `featcache repair`, then the same "
                    "command again"
                )
            raise FeatcacheError(
                f"{self.place.folder}: {(found < 0).sum()} rows were removed while they were "
                "read; run the same command again"
            )
        return fresh.read(found)


def found_in(
    snapshots: Sequence[Snapshot], keys: Array, views: Array, *, plain: Sequence[Snapshot] = ()
) -> Iterator[tuple[Snapshot, Array, Array]]:
    """Where rows are: (snapshot, positions in it, which of the rows); the first that has it.

    `plain`, asked last, are of a recipe without augmentation: they answer for view 0 alone.
    """
    left = np.arange(len(keys))
    for number, snapshot in enumerate((*snapshots, *plain)):
        if not len(left):
            return
        positions = snapshot.find(keys[left], views[left])
        if number >= len(snapshots):
            positions = np.where(views[left] == 0, positions, -1)
        there = positions >= 0
        if there.any():
            yield snapshot, positions[there], left[there]
            left = left[~there]


def take_snapshot(place: Place) -> Snapshot:
    """Read every header and index, and do it again if a pack, repair or gc came between.

    Rows move only while `features.h5` is replaced or files vanish, so a look at which neither
    happened saw everything. Raises `FeatcacheError` where a file is of a newer format.
    """
    for _ in range(_ATTEMPTS):
        before = _packed_header(place)
        try:
            snapshot = _look(place)
        except FileNotFoundError:
            continue
        if _packed_header(place) == before:
            return snapshot
    raise StorageFailure(f"{place.folder} changes faster than it can be read: try again")


def _packed_header(place: Place) -> bytes | None:
    try:
        with opened(place.disk, place.packed) as descriptor:
            return place.disk.read(descriptor, BLOCK, 0)
    except FileNotFoundError:
        return None


def _look(place: Place) -> Snapshot:
    # The parts are listed before anything is read: a pack that ends in between then shows as a
    # part that vanished, and never as rows that are nowhere.
    files, problems = _load_all(place, place.files())
    packed = map_packed(files[0]) if files and files[0].path == place.packed else None
    reference = _reference(files)
    rows = reference.layout.features if reference else None
    # A part that holds failures only was written before a network ran: it has no probe to compare.
    with_rows = [file for file in files if len(file)]
    failures = dict.fromkeys(failure for file in files for failure in file.failures())
    return Snapshot(
        problems=problems,
        failures=list(failures),
        provenances=list(dict.fromkeys(file.text("provenance") for file in with_rows or files)),
        probe=with_rows[0].column("probe") if with_rows else None,
        packed=packed,
        row_shape=rows.shape[1:] if rows else None,
        dtype=np.dtype(rows.dtype) if rows else None,
        place=place,
        files=files,
        index=build_index(files),
    )


def _load_all(place: Place, paths: list[Path]) -> tuple[list[StoredFile], list[Problem]]:
    files: list[StoredFile] = []
    problems: list[Problem] = []
    for path in paths:
        check_file_version(place.disk, path)
        try:
            file = load_of_place(place, path)
            _check_same_rows(file, _reference(files))
            files.append(file)
        except FeatcacheError as error:
            if isinstance(error, StorageFailure):
                raise
            problems.append(Problem(path, str(error), []))
    return files, problems


def load_of_place(place: Place, path: Path) -> StoredFile:
    """Load a file that belongs to this place: of its recipe, and of the kind its name says."""
    file = load(place.disk, path)
    if file.layout.recipe_key != place.recipe_key:
        raise FeatcacheError("the file holds the rows of another recipe")
    kind = "features" if path == place.packed else "part"
    if file.layout.kind != kind:
        raise FeatcacheError(f"the file is of kind {file.layout.kind!r}, not {kind!r}")
    return file


def _reference(files: list[StoredFile]) -> StoredFile | None:
    """The file whose rows the others must be like.

    The first that has any: an empty file does not always know how wide its rows would have been.
    """
    return next((file for file in files if len(file)), files[0] if files else None)


def _check_same_rows(file: StoredFile, first: StoredFile | None) -> None:
    if first is None or not len(first) or not len(file):
        return
    mine, other = file.layout.features, first.layout.features
    if (mine.shape[1:], mine.dtype) != (other.shape[1:], other.dtype):
        raise DamagedFile(
            f"rows of shape {mine.shape[1:]} and type {mine.dtype}, and {first.path.name} has "
            f"{other.shape[1:]} and {other.dtype}"
        )


def rows_of_place(folder: Path) -> Iterator[tuple[str, str]]:
    """Path and key of every row of a folder, whatever its recipe; not of what a pack left over.

    Raises `FeatcacheError` where a file is damaged, `StorageFailure`.
    """
    place = place_of(folder)
    for path in place.files():
        if not path.name.startswith(LEFT):
            with storage_errors(path):
                file = load(place.disk, path)
            keys = file.column("key").tolist()
            for name, key in zip(decode(file.column("path")), keys, strict=True):
                yield name, key.decode("ascii")
