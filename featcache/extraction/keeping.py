"""Keeping: what a data set knows of its images is never taken away without a word.

Vectors are found again by the images' bytes; labels, splits, groups and metadata come from the
call. A call that has none of what the data set has (a folder after its manifest) would take it
away, so it is refused; what it changes is counted.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from featcache.errors import FeatcacheError
from featcache.features.cache import images_root
from featcache.features.claims import root_of
from featcache.features.features import Features, open_features
from featcache.features.finding import PACKED
from featcache.images import ImageSet


@dataclass(frozen=True, slots=True)
class _Before:
    """The plain rows of a data set that are images of this call too: `here[i]` is row i's place."""

    rows: Features
    here: list[int]


def check_kept(
    images: ImageSet, folder: Path, directories: Sequence[Path], *, forget: bool
) -> list[str]:
    """Sentences about what a call changes of what its data set knows.

    `folder` is that of the data set, before its name changes hands; `directories` are those of the
    recipes of this call. With `forget` nothing is refused.

    Raises `FeatcacheError` where labels, splits, groups or metadata of images would be gone.
    """
    before = _before(images, folder, directories)
    if before is None:
        return []
    changes, gone = [], []
    for what, old, new in _columns(before, images):
        lost = int(((old != "") & (new == "")).sum())
        changed = int(((old != "") & (new != "") & (old != new)).sum())
        if lost and not (new != "").any():
            gone.append(f"{what} of {lost:,} images")
        elif lost or changed:
            changes.append(f"{what}: {changed:,} images change theirs, {lost:,} lose it")
    if gone and not forget:
        raise FeatcacheError(
            f"{folder.name} knows what this call does not give, and it would be gone: "
            f"{', '.join(gone)}. Give what said it ({_source(folder, before.rows)}), another "
            f"--name, or --forget to go on without"
        )
    forgotten = [f"forgotten: {', '.join(gone)}"] * bool(gone)
    return [f"{folder.name}: {each}" for each in [*forgotten, *changes]]


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
    """Where the images of rows are in a set, by name, else by path; -1 = nowhere."""
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


def _source(folder: Path, rows: Features) -> str:
    """What may have said it: a manifest of the data set's name or a split beside the images."""
    root = Path(images_root(rows.path.parent) or ".")
    near = [*sorted(root.glob("*.csv")), *sorted(root.glob("*.tsv")), *sorted(root.glob("*.jsonl"))]
    named = [path for path in near if path.stem == folder.name] or near
    if not named or not rows.groups.size:
        return "a manifest, or labels=..., splits=..., groups=... in Python"
    return f"such as `featcache extract {named[0]} --name {folder.name}`"
