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
