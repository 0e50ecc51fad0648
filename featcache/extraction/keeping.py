"""Keeping: what a data set knows of its images is never taken away without a word.

Vectors are found again by the images' bytes; labels, splits, groups and metadata come from the
call. A call that has none of what the data set has (a folder after its manifest) would take it
away, so it is refused; what it changes is counted.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from featcache.errors import FeatcacheError
from featcache.extraction.job import Target
from featcache.features.cache import images_root
from featcache.features.claims import root_of, slug
from featcache.features.features import Features, open_features
from featcache.features.finding import PACKED
from featcache.images import ImageSet
from featcache.images.folder import extension_of
from featcache.images.tables import TABLES


@dataclass(slots=True)
class Keeping:
    """What a data set knew of its images before a call, and whether it may be forgotten.

    `cache` is the cache's folder, `forget`: nothing is refused.
    """

    images: ImageSet
    cache: Path
    forget: bool
    checked: Path | None = None
    changes: list[str] = field(default_factory=list)

    def check_name(self, name: str | None, targets_in: Callable[[Path], list[Target]]) -> None:
        """Check the data set of a name that the user gave, before it may change hands.

        Raises `FeatcacheError` where labels, splits, groups or metadata of images would be gone.
        """
        if name and (self.cache / slug(name)).is_dir():
            self._check(targets_in(self.cache / slug(name)))

    def check(self, targets: list[Target]) -> list[str]:
        """Check the data set that the call goes to; sentences about what it changes.

        Raises as `check_name`.
        """
        self._check(targets)
        return self.changes

    def _check(self, targets: list[Target]) -> None:
        folder = targets[0].directory.parent
        if folder == self.checked:
            return
        self.checked = folder
        before = _before(self.images, folder, [target.directory for target in targets])
        self.changes = [] if before is None else _changes(before, self.images, self.forget)


@dataclass(frozen=True, slots=True)
class _Before:
    """The plain rows of a data set that are images of this call too: `here[i]` is row i's place."""

    rows: Features
    here: list[int]


def _changes(before: _Before, images: ImageSet, forget: bool) -> list[str]:
    """What changes, in sentences; raises `FeatcacheError` where all of a kind would be gone."""
    changes, gone, name = [], [], before.rows.path.parent.parent.name
    for what, old, new in _columns(before, images):
        lost = int(((old != "") & (new == "")).sum())
        changed = int(((old != "") & (new != "") & (old != new)).sum())
        if lost and not (new != "").any():
            gone.append(f"{what} of {lost:,} images")
        elif lost or changed:
            changes.append(f"{what} by image: {changed:,} changed, {lost:,} lost")
    if gone and not forget:
        raise FeatcacheError(
            f"{name} knows what this call does not give, and it would be gone: {', '.join(gone)}. "
            f"Give what said it ({_source(before.rows)}), another --name, or --forget"
        )
    forgotten = [f"forgotten: {', '.join(gone)}"] * bool(gone)
    return [f"{name}: {each}" for each in [*forgotten, *changes]]


def _before(images: ImageSet, folder: Path, directories: Sequence[Path]) -> _Before | None:
    """What was known: by the file that is written anew, else by the newest of the data set."""
    own = [each / PACKED for each in directories if (each / PACKED).is_file()]
    others = sorted(folder.glob(f"*/{PACKED}"), key=lambda path: path.stat().st_mtime_ns)
    for path in [*own, *reversed(others)]:
        try:
            rows = open_features(path)
        except FeatcacheError:  # damaged: the run says so, and nobody can tell what it knew
            continue
        rows = rows[rows.views == 0]
        here = _places(images, rows)
        there = here >= 0
        return _Before(rows[there], here[there].tolist()) if there.any() else None
    return None


def _places(images: ImageSet, rows: Features) -> np.ndarray:
    """Where the images of rows are in a set, by name, else by path; -1 = nowhere.

    Arrays have no name but their place in a list: they are known by their bytes.
    """
    if images.arrays is not None:
        by_key = {images.read(at).key: at for at in range(len(images))}
        return np.array([by_key.get(key, -1) for key in rows.keys.tolist()], np.int64)
    place = {name: at for at, name in enumerate(images.names)}
    found = np.array([place.get(name, -1) for name in rows.names.tolist()], np.int64)
    old_root = images_root(rows.path.parent)
    if (found >= 0).any() or not old_root:
        return found
    root = root_of(images)
    full = {os.path.normpath(os.path.join(root, name)): at for name, at in place.items()}  # noqa: PTH118
    paths = (os.path.normpath(os.path.join(old_root, name)) for name in rows.names.tolist())  # noqa: PTH118
    return np.array([full.get(path, -1) for path in paths], np.int64)


def _columns(before: _Before, images: ImageSet) -> list[tuple[str, np.ndarray, np.ndarray]]:
    rows, none = before.rows, [""] * len(images)
    new = {"labels": images.labels, "splits": images.splits, "groups": images.groups}
    old = {"labels": rows.labels, "splits": rows.splits, "groups": rows.groups}
    for name in rows.metadata:
        old[f"metadata {name!r}"] = rows.metadata[name]
        new[f"metadata {name!r}"] = images.metadata.get(name, none)
    return [
        (what, column, np.array([new[what][at] for at in before.here], dtype=str))
        for what, column in old.items()
    ]


def _source(rows: Features) -> str:
    """What may have said it: a manifest beside the images, by the data set's name or any."""
    root, name = Path(images_root(rows.path.parent) or "/nowhere"), rows.path.parent.parent.name
    near = sorted(path for path in root.glob("*.*") if extension_of(path.name) in TABLES)
    likely = [path for path in near if path.stem == name] or near
    if not likely:
        return "a manifest, or labels, splits and groups in Python"
    words = shlex.join(["featcache", "extract", str(likely[0]), "--name", name])
    return f"was it `{words} ...`?"
