"""RecipeStore: the rows of one recipe for one data set, in one folder."""

from __future__ import annotations

from pathlib import Path

from featcache.features.store import care, clearing, pack, snapshot
from featcache.features.store.columns import (
    attribute,
    block_columns,
    block_rows,
    row_checksums,
    stamp_columns,
)
from featcache.features.store.disk import Disk, make_folder, opened, storage_errors
from featcache.features.store.layout import BLOCK, Extent, parse_header
from featcache.features.store.packed_file import PackedFile
from featcache.features.store.place import place_of
from featcache.features.store.records import Block, Identity, Problem, RepairResult, Stamp
from featcache.features.store.recovery import recipe_of, recovered_file
from featcache.features.store.skeleton import build_skeleton
from featcache.features.store.snapshot import Snapshot
from featcache.features.store.writing import write_file


def recipe_key_of(path: Path) -> str:
    """The key of the recipe that a file of the store says it is of; only its header is checked.

    Raises `FeatcacheError` where it is no such file, or its header is damaged.
    """
    disk = Disk()
    with storage_errors(path), opened(disk, path) as descriptor:
        return parse_header(disk.read(descriptor, BLOCK, 0)).recipe_key


def recipe_text_of(path: Path) -> str | None:
    """The recipe of a part or a `features.h5`, even of a damaged one; None where it is lost.

    Raises `StorageFailure`.
    """
    with storage_errors(path):
        file = recovered_file(Disk(), path)
    return None if file is None else recipe_of(file)


class RecipeStore:
    """The folder ``<data set>/<backbone>-<key8>``: commit rows, look at them, pack, take care.

    `recipe` is the recipe's canonical JSON; its SHA-256 is the key that every file here carries.
    Any number of processes may use one folder at once. Every method raises `StorageFailure` where
    the disk refuses; what was committed before stays valid.
    """

    def __init__(self, directory: Path, recipe: str, disk: Disk | None = None) -> None:
        attribute(recipe, "recipe")
        self._place = place_of(Path(directory), recipe, disk)
        self._has_folder = False

    @property
    def packed_path(self) -> Path:
        """Where `features.h5` is or will be."""
        return self._place.packed

    def commit(self, block: Block, stamp: Stamp) -> Path:
        """Write a part; when this returns, its rows survive a crash and a power cut.

        Raises `FeatcacheError` where a vector is not finite or a column does not fit.
        """
        rows = block_rows(block)
        columns = block_columns(block) | stamp_columns(stamp, self._place.recipe)
        columns["row_crc32"] = row_checksums(rows)
        skeleton = build_skeleton("part", columns, rows=Extent(rows.dtype.str, rows.shape, 0))
        self._make_folder(skeleton.layout.file_size)
        target = self._place.parts / f"p-{skeleton.name}.h5"
        # Always written, even where the name exists: that file may be damaged or not yet durable.
        write_file(self._place.disk, target, skeleton=skeleton, rows=[rows])
        return target

    def snapshot(self) -> Snapshot:
        """Everything that is here at this moment; takes no lock, and nobody waits for it."""
        with storage_errors(self._place.folder):
            return snapshot.take_snapshot(self._place)

    def pack(self, identity: Identity, stamp: Stamp) -> PackedFile:
        """Bring `features.h5` to `identity`; waits for other packs of this folder.

        The result depends on nothing but the arguments and the rows. Rows that `identity` does not
        ask for stay in one part until `gc`. Raises `FeatcacheError` where rows are missing, and
        `DamagedFile` where one does not match its checksum: then nothing was changed.
        """
        with storage_errors(self._place.folder), self._place.locked():
            clearing.drop_drafts(self._place)
            return pack.pack(self._place, identity, stamp=stamp)

    def verify(self) -> list[Problem]:
        """Check every byte of every file; none = all is what was computed."""
        with storage_errors(self._place.folder):
            return care.verify(self._place)

    def repair(self) -> RepairResult:
        """Keep the good rows of bad files, and move the files to ``quarantine/``."""
        with storage_errors(self._place.folder), self._place.locked():
            return care.repair(self._place)

    def put_aside(self, path: Path) -> Path:
        """Move a damaged file that lies beside the rows to ``quarantine/``; gives its new place."""
        with storage_errors(path), self._place.locked():
            return self._place.put_aside(path)

    def _make_folder(self, needed: int) -> None:
        if not self._has_folder:
            with storage_errors(self._place.parts, needed):
                make_folder(self._place.disk, self._place.parts)
            self._has_folder = True
