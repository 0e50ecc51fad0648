"""The store: immutable, self-checking HDF5 files, and the folder that collects them.

    Block --commit--> parts/p-*.h5 --pack--> features.h5
                           \\                     |
                            `----- snapshot ------'   find, read

`RecipeStore` is the folder of one data set and one recipe; `open_packed` opens a `features.h5` by
itself. This package is the only home of h5py, and h5py sees no file whose checksums were not
verified first.
"""

from __future__ import annotations

import os

from featcache.errors import FeatcacheError

if os.name == "nt":
    raise FeatcacheError("featcache runs on Linux and macOS; on Windows, use WSL")

from featcache.features.store.care import verify_file
from featcache.features.store.clearing import collect, last_copies, remove_place
from featcache.features.store.disk import Disk, FileIdentity
from featcache.features.store.packed_file import PackedFile, open_packed
from featcache.features.store.recipe_store import RecipeStore, recipe_key_of, recipe_text_of
from featcache.features.store.records import (
    Block,
    Failure,
    GcResult,
    Identity,
    Problem,
    RepairResult,
    Stamp,
)
from featcache.features.store.snapshot import Snapshot, found_in, rows_of_place

__all__ = [
    "RecipeStore",
    "recipe_key_of",
    "recipe_text_of",
    "verify_file",
    "Snapshot",
    "found_in",
    "PackedFile",
    "open_packed",
    "Block",
    "Stamp",
    "Identity",
    "Failure",
    "Problem",
    "RepairResult",
    "GcResult",
    "Disk",
    "collect",
    "last_copies",
    "remove_place",
    "rows_of_place",
    "FileIdentity",
]
