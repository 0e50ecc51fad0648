"""Finding: which features a text means: a name in the cache, then a path, then a beginning.

A path counts only where a file of ours lies, so that a folder of images never stands for features.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from featcache.errors import DamagedFile, FeatcacheError
from featcache.features.store import recipe_key_of

PACKED = "features.h5"
PARTS = "parts"
#: The folder of one data set under one recipe ends in the first digits of the recipe's key.
KEYED = re.compile(r".+-[0-9a-f]{8}", re.DOTALL)


def is_keyed(folder: Path) -> bool:
    """Whether a folder is called as those of one data set under one recipe are."""
    return KEYED.fullmatch(folder.name) is not None


class Named(Protocol):
    """What can be found: ``photos/vgg16-1a2b3c4d`` of the data set ``photos``, and its tap."""

    @property
    def name(self) -> str: ...
    @property
    def data_set(self) -> str: ...
    @property
    def tap(self) -> str: ...


Found = TypeVar("Found", bound=Named)


def is_path(text: str) -> bool:
    """Whether a text can only be a path: ``/x``, ``./x``, ``../x``, ``.``, ``..``, ``x.h5``."""
    return text.startswith(("/", "./", "../")) or text in (".", "..") or text.endswith(".h5")


def whole_names(text: str, entries: Sequence[Found]) -> list[Found]:
    """Those called exactly so, or all of the data set called exactly so."""
    whole = [entry for entry in entries if entry.name == text]
    return whole or [entry for entry in entries if entry.data_set == text]


def names(text: str, entries: Sequence[Found]) -> list[Found]:
    """Those called exactly so: by whole name, data set, backbone, or backbone and tap."""
    above, _, tap = text.rpartition("/")
    return (
        whole_names(text, entries)
        or [entry for entry in entries if entry.name.rpartition("-")[0] == text]
        or [
            entry
            for entry in entries
            if above and entry.name.startswith(above) and entry.tap == tap
        ]
    )


def beginnings(text: str, entries: Sequence[Found]) -> list[Found]:
    """Those whose name begins so; nothing begins with nothing."""
    return [entry for entry in entries if text and entry.name.startswith(text)]


def is_ours(file: str | Path) -> bool:
    """Whether a file has a header of ours; a damaged one too, which `verify` has words for."""
    try:
        recipe_key_of(Path(file))
    except DamagedFile:
        return True
    except (FeatcacheError, OSError, ValueError):
        return False
    return True


def any_of_ours(files: Iterable[Path]) -> bool:
    """Whether one of the files of a folder has a header of ours."""
    return any(is_ours(file) for file in files)


def folder_of(file: Path) -> Path:
    """The folder of one data set and recipe that a file of it lies in.

    Raises `FeatcacheError` where the file is none of ours, or lies there by itself.
    """
    if not is_ours(file):
        raise FeatcacheError(f"{str(file)!r} is not a file of features: expected {PACKED}")
    if file.name == PACKED:
        return file.absolute().parent
    if file.absolute().parent.name == PARTS:
        return file.absolute().parent.parent
    raise FeatcacheError(
        f"{str(file)!r} is a file of features by itself: expected a folder of the cache with "
        f"{PACKED} in it"
    )


def kind_at(path: str | Path) -> str:
    """What lies at a path, links followed: "folder", "file", or "" for nothing one can look at."""
    try:
        mode = Path(path).stat().st_mode
    except (OSError, ValueError):  # too long, a loop of links, not permitted: nothing to find
        return ""
    return "folder" if stat.S_ISDIR(mode) else "file"


def there(text: str) -> str:
    """What lies at a path that holds no features, in words for an error; "" for nothing."""
    kind = kind_at(text)
    return f" ({text!r} is a {kind} without features)" if kind else ""
