"""Place: the folder of one data set and one recipe, and what its names mean.

features.h5       the packed file, the one that people open
parts/p-*.h5      finished rows of runs that are not packed yet
parts/left-*.h5   rows that the last pack found no image for; kept until `gc`
quarantine/       damaged files that `repair` moved aside; never read
lock              the target of flock, empty
.tmp-*            unfinished; ignored by every reader
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from featcache.features.store.disk import Disk, make_folder, storage_errors

LEFT = "left-"


@dataclass(frozen=True, slots=True)
class Place:
    """A folder, the recipe whose rows it holds, and the disk it is on."""

    folder: Path
    recipe: str
    disk: Disk

    @property
    def recipe_key(self) -> str:
        """SHA-256 of the recipe's text, in hex."""
        return hashlib.sha256(self.recipe.encode("utf-8")).hexdigest()

    @property
    def packed(self) -> Path:
        """The file that people open."""
        return self.folder / "features.h5"

    @property
    def parts(self) -> Path:
        """The folder of the parts."""
        return self.folder / "parts"

    @property
    def quarantine(self) -> Path:
        """The folder of damaged files."""
        return self.folder / "quarantine"

    def files(self) -> list[Path]:
        """Every file that holds rows: `features.h5` first, then the parts by name."""
        packed = [self.packed] if self.disk.exists(self.packed) else []
        names = [name for name in self.disk.names(self.parts) if name.endswith(".h5")]
        return packed + [self.parts / name for name in names if not name.startswith(".")]

    @property
    def lock(self) -> Path:
        """The empty file whose lock is that of the folder."""
        return self.folder / "lock"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the exclusive lock of the folder, which is made where it is missing."""
        with storage_errors(self.folder):
            make_folder(self.disk, self.parts)
        with self.locked_there():
            yield

    @contextmanager
    def locked_there(self) -> Iterator[None]:
        """Hold the exclusive lock of the folder, of which nothing is made but the lock."""
        with storage_errors(self.folder):
            lock = self.disk.lock(self.lock)
        try:
            yield
        finally:
            self.disk.close(lock)

    def put_aside(self, path: Path) -> Path:
        """Move a bad file to the quarantine, under a name that is free there."""
        make_folder(self.disk, self.quarantine)
        target, number = self.quarantine / path.name, 2
        while self.disk.exists(target):
            target = self.quarantine / f"{path.stem}-{number}{path.suffix}"
            number += 1
        self.disk.replace(path, target)
        self.disk.sync_folder(self.quarantine)
        self.disk.sync_folder(path.parent)
        return target


def place_of(folder: Path, recipe: str = "", disk: Disk | None = None) -> Place:
    """The place of a folder of a cache: below the cache no link is followed to change anything."""
    return Place(folder, recipe, disk or Disk(folder.parent.parent))
