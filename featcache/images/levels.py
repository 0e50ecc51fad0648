"""One level too high or too low: what lies around a folder of images, for a hint."""

from __future__ import annotations

import difflib
import itertools
import os
from pathlib import Path

from featcache.images.folder import IMAGES, extension_of
from featcache.images.layout import Layout, named, split_of

#: Entries that are looked at.
_LOOKS = 40
#: Classes from which about one image a class is odd.
_MANY = 8


def level_hints(root: Path, found: Layout) -> list[str]:
    """What lies one level up or down, where the classes seem to be there."""
    classes, hints = set(found.labels) - {""}, []
    if split_of(root.name) and not any(found.splits):
        if splits := [name for name in _neighbours(root) if split_of(name)]:
            hints.append(
                f"{root.name!r} lies beside {named(splits)}: the folder above gives the splits too"
            )
    elif len(classes) <= 1 and (beside := _neighbours(root)):
        what = f"one class only, {min(classes)!r}" if classes else "no class folders"
        hints.append(
            f"{what}: one level up, {root.parent.name!r} holds {named([root.name, *beside])} with "
            f"images; if these are the classes, give that folder"
        )
    labelled = len(found.labels) - found.labels.count("")
    if len(classes) >= _MANY and 2 * len(classes) > labelled:
        hints.append(
            f"{labelled} images in {len(classes)} classes: are these folders classes, or groups "
            f"(--folders group, --folders class/group)?"
        )
    return hints


def _neighbours(root: Path) -> list[str]:
    """The names of folders beside `root` that hold images, in themselves or one level down."""
    try:
        with os.scandir(root.parent) as entries:
            folders = [each for each in entries if each.is_dir(follow_symlinks=False)]
    except OSError:  # a folder above may not be listed: then there is no hint
        return []
    beside = sorted(each.path for each in folders[:_LOOKS] if each.name != root.name)
    return [Path(path).name for path in beside if _has_images(path, 1)]


def _has_images(folder: str, deeper: int) -> bool:
    """Whether there is an image among the first entries."""
    try:
        with os.scandir(folder) as entries:
            some = [entry for entry in itertools.islice(entries, _LOOKS) if entry.name[0] != "."]
    except OSError:
        return False
    if any(extension_of(entry.name) in IMAGES for entry in some):
        return True
    below = [entry.path for entry in some if deeper and entry.is_dir(follow_symlinks=False)]
    return any(_has_images(path, deeper - 1) for path in below)


def not_there(path: str | Path) -> str:
    """The sentence for a path that does not exist, with the nearest name that does."""
    path = Path(path)
    there = next((above for above in path.parents if above.is_dir()), Path())
    missing = path.relative_to(there).parts[0]
    near = difflib.get_close_matches(missing, [entry.name for entry in there.iterdir()], n=1)
    hint = f"; did you mean {str(there / near[0])!r}?" if near else f" in {str(there.resolve())!r}"
    return f"{str(path)!r} is not there: no {missing!r}{hint}"
