"""Claims: which root of images owns a data set's name, as its marker says.

A marker is made exclusively: of two that come at one moment, one gets the name. It changes hands
only when the user gives the name, or where nothing can be lost by it: the old root is gone, and
every image of the data set is found under the new one, byte for byte.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from featcache.errors import FeatcacheError
from featcache.features.store.snapshot import rows_of_place
from featcache.files.folders import check_no_link
from featcache.files.small_files import read_json
from featcache.files.write import write_first, write_whole
from featcache.images import STAT_CACHE, ImageSet, StatCache

MARKER = "featcache.json"
FORMAT = "featcache-dataset"
#: In place of a root: the data set's images come from anywhere.
ANYWHERE = "*"
#: In place of a root: the marker cannot be read.
UNREADABLE = "?"

_ATTEMPTS = 10


def claim(cache: Path, images: ImageSet, name: str | None) -> tuple[Path, list[str]]:
    """The folder for a data set of these images, and what to tell the user about its name.

    Where another root has the name, the parent's name goes in front. Raises `FeatcacheError` where
    every name is taken, or the folder is a link; `StorageFailure`.
    """
    root, names = root_of(images), _names(images, name)
    for _ in range(_ATTEMPTS):
        owners = {candidate: owner_of(cache / candidate) for candidate in names}
        candidate, remarks = _choose(cache, images, owners, is_asked=bool(name))
        if owners[candidate] == root or _take(cache / candidate, root, owners[candidate]):
            check_no_link(cache / candidate)
            return cache / candidate, remarks
    raise FeatcacheError(f"{cache}: others take each of {', '.join(names)}: try again")


def claim_for_any(cache: Path, name: str) -> Path:
    """The folder for a data set of images from anywhere, which no root may take over.

    Raises `FeatcacheError` where the name is that of another data set.
    """
    folder = cache / slug(name)
    if owner_of(folder) is None:
        _take(folder, ANYWHERE, None)
    owner = owner_of(folder)
    if owner != ANYWHERE:
        raise FeatcacheError(
            f"{folder} holds the features of {_shown(owner)}: give images from anywhere another "
            f"data set (cache_name=... of FeatureExtractor)"
        )
    check_no_link(folder)
    return folder


def confirm(folder: Path, root: str) -> None:
    """Raise `FeatcacheError` where a data set's name went to another root since it was claimed."""
    if owner_of(folder) is None:  # deleted meanwhile
        _take(folder, root, None)
    if (owner := owner_of(folder)) != root:
        raise FeatcacheError(
            f"the name {folder.name!r} belongs to {_shown(owner)} by now. The rows of this run are "
            f"saved: run the same command again, which computes nothing and takes another name"
        )


def owner_of(folder: Path) -> str | None:
    """The root that owns a data set's name; None where it has no owner."""
    try:
        root = str(read_json(folder / MARKER)["root"])
        return UNREADABLE if "\0" in root else root  # no path has one
    except (FileNotFoundError, NotADirectoryError):
        return UNREADABLE if (folder / MARKER).is_symlink() else None
    except (OSError, ValueError, KeyError, TypeError):
        return UNREADABLE


def root_of(images: ImageSet) -> str:
    """The root as a marker has it; "" for arrays."""
    return str(images.root.resolve()) if images.root else ""


def slug(name: str) -> str:
    """A folder name that is safe everywhere: word characters, dots and hyphens."""
    return re.sub(r"[^\w.-]+", "-", name).strip("-.")[:48] or "images"


def _choose(
    cache: Path, images: ImageSet, owners: dict[str, str | None], *, is_asked: bool
) -> tuple[str, list[str]]:
    """The first name that is free, or already that of these images, or may change hands."""
    root = root_of(images)
    first = next(iter(owners))
    for candidate in sorted(owners, key=lambda candidate: owners[candidate] != root):
        owner = owners[candidate]
        if owner in (None, root):
            taken = f"the name {first!r} belongs to another folder: these features are called "
            return candidate, [] if candidate == first else [f"{taken}{candidate!r}"]
        if owner != ANYWHERE and (is_asked or _has_moved(cache / candidate, owner or "", images)):
            return candidate, [f"{candidate!r} was {_shown(owner)}, it is now {_shown(root)}"]
    raise FeatcacheError(
        f"every name for {_shown(root)} is taken in {cache} ({', '.join(owners)}): give another "
        f"with --name"
    )


def _take(folder: Path, root: str, owner: str | None) -> bool:
    """Write the marker; False where another process was quicker."""
    marker, cache = folder / MARKER, folder.parent
    text = json.dumps({"format": FORMAT, "version": 1, "root": root}).encode("ascii")
    if owner is None:
        return write_first(marker, text, base=cache)
    write_whole(marker, text, base=cache)
    return owner_of(folder) == root


def _has_moved(folder: Path, owner: str, images: ImageSet) -> bool:
    """Whether a data set's root is gone, and all of its images are here under the same names."""
    if not owner or not (owner == UNREADABLE or _is_gone(Path(owner))):
        return False
    try:
        places = [place for place in sorted(folder.iterdir()) if place.is_dir()]
        # But for those whose image had left it before.
        rows = {row for place in places for row in rows_of_place(place)}
    except FeatcacheError:  # damaged: unknown
        return False
    numbers = {name: index for index, name in enumerate(images.names)}
    if not all(path in numbers for path, _ in rows):
        return False
    from featcache.errors import BadImage  # which brings OpenCV

    stats = StatCache.load(folder / STAT_CACHE)
    try:
        return all(_key(images, numbers[path], stats) == key for path, key in sorted(rows))
    except BadImage:
        return False


def _key(images: ImageSet, index: int, stats: StatCache) -> str:
    stamp = images.stat(index)
    known = stats.key_of(images.names[index], stamp) if stamp else None
    return known or images.read(index).key


def _is_gone(path: Path) -> bool:
    """Not what may not be looked at: that is there."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


def _shown(owner: str | None) -> str:
    named = {"": "arrays in memory", ANYWHERE: "images from anywhere", UNREADABLE: "a folder that "
             "its damaged marker does not tell"}  # fmt: skip
    return named.get(owner or "", owner or "nobody")


def _names(images: ImageSet, name: str | None) -> list[str]:
    """The names to try for a data set, in order."""
    if name:
        return [slug(name)]
    own = slug(images.name)
    if images.root is None:
        return [own]
    parents = [parent.name for parent in images.root.resolve().parents if parent.name]
    return [own] + [slug("-".join([*reversed(parents[: n + 1]), own])) for n in range(len(parents))]
