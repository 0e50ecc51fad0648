"""Walking a folder for images, and what lies around it."""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from featcache.errors import FeatcacheError, StorageFailure, some

READABLE = frozenset(
    {
        "jpg", "jpeg", "jpe", "jfif", "png", "bmp", "gif", "webp", "tif", "tiff", "avif", "heic",
        "heif", "dcm", "dicom", "ppm", "pgm", "pbm", "pnm",
    }
)  # fmt: skip
#: Images all the same: listed, so that each becomes a failure with advice instead of vanishing.
UNSUPPORTED = frozenset(
    {"svg", "psd", "pam", "pfm", "jp2", "jxl", "ico", "tga", "raw", "dng", "nef", "cr2"}
)
IMAGES = READABLE | UNSUPPORTED
#: What systems leave behind: never a class, never an image.
_CLUTTER = frozenset(
    {"thumbs.db", "desktop.ini", "__macosx", "@eadir", "$recycle.bin", "lost+found",
     "system volume information", "__pycache__"}
)  # fmt: skip
#: Small copies of the images beside them.
_COPIES = frozenset({"thumbs", "thumbnails", "thumbnail", "_thumbs", "_thumbnails"})

#: The longest path of Linux. A name that cannot be opened cannot be an image of the set.
LONGEST_PATH = 4096


@dataclass(frozen=True, slots=True)
class FolderWalk:
    """What a folder holds: images as paths relative to it, and what was left out."""

    root: str
    follow_symlinks: bool
    images: list[str] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)
    folder_links: list[str] = field(default_factory=list)
    cycles: list[str] = field(default_factory=list)
    copies: list[str] = field(default_factory=list)
    ignore: frozenset[str] = frozenset()
    ignored: set[str] = field(default_factory=set)

    def remarks(self) -> list[str]:
        """A sentence for each kind of thing that was left out."""
        sentences = []
        if self.others:
            sentences.append(f"ignored {_counted(self.others)}")
        if self.folder_links:
            sentences.append(
                f"{_number(self.folder_links, 'link')} to a folder not followed "
                f"({some(sorted(self.folder_links))}): --follow-symlinks follows them"
            )
        if self.copies:
            sentences.append(
                f"left out {_number(self.copies, 'folder')} of small copies "
                f"({some(sorted(self.copies))}): give another name to what is a class"
            )
        if self.cycles:
            sentences.append(
                f"{_number(self.cycles, 'link')} not followed, leading back to a folder above "
                f"({some(sorted(self.cycles))})"
            )
        return sentences


@dataclass(frozen=True, slots=True)
class _Folder:
    path: str  # relative to the root, "" for the root itself
    above: tuple[tuple[int, int], ...]  # device and inode of every folder above it


def walk(root: str, *, follow_symlinks: bool, ignore: Iterable[str] = ()) -> FolderWalk:
    """All images below `root`, in no order.

    `ignore` are folders to leave out: a path below the root, or a name wherever it stands.

    Raises `FeatcacheError` where a folder cannot be listed, a path is too long, or nothing is
    called as one of `ignore`.
    """
    found = FolderWalk(root, follow_symlinks, ignore=frozenset(_plain(name) for name in ignore))
    waiting = [_Folder("", ())]
    while waiting:
        waiting.extend(_list(found, waiting.pop()))
    if unknown := sorted(found.ignore - found.ignored):
        raise FeatcacheError(
            f"--ignore {unknown[0]}: no folder below {root!r} is called so; expected the name of a "
            f"folder, or its path below the root"
        )
    return found


def _plain(name: str) -> str:
    return os.path.normpath(name)


def _list(found: FolderWalk, folder: _Folder) -> list[_Folder]:
    """Note the images of one folder; give back the folders in it."""
    path = f"{found.root}/{folder.path}"
    deeper = []
    try:
        above = _lineage(found, folder, path)
        if above is None:
            return []
        with os.scandir(path) as entries:
            for entry in entries:
                name = f"{folder.path}/{entry.name}" if folder.path else entry.name
                if _is_folder(found, entry, name):
                    deeper.append(_Folder(name, above))
    except OSError as error:
        raise _unlistable(path, error) from error
    return deeper


def _lineage(found: FolderWalk, folder: _Folder, path: str) -> tuple[tuple[int, int], ...] | None:
    """The folders above and this one; None where this one is among those above it."""
    if not found.follow_symlinks:
        return ()
    status = Path(path).stat()
    identity = (status.st_dev, status.st_ino)
    if identity in folder.above:
        found.cycles.append(folder.path)
        return None
    return (*folder.above, identity)


def _is_folder(found: FolderWalk, entry: os.DirEntry[str], name: str) -> bool:
    """Whether to go into the entry; otherwise it is noted in its place."""
    if entry.name.startswith(".") or entry.name.lower() in _CLUTTER:
        return False
    if ignoring := {name, entry.name} & found.ignore:
        found.ignored.update(ignoring)
        return False
    if entry.is_dir(follow_symlinks=False):
        if entry.name.lower() in _COPIES:
            found.copies.append(name)
            return False
        return True
    if entry.is_symlink() and _leads_to_folder(entry):
        if not found.follow_symlinks:
            found.folder_links.append(name)
        return found.follow_symlinks
    extension = extension_of(entry.name)
    if extension in IMAGES:
        found.images.append(name)
    else:
        found.others[extension] += 1
    return False


def _leads_to_folder(link: os.DirEntry[str]) -> bool:
    try:
        return link.is_dir()
    except OSError:
        # A loop of links leads nowhere; if it is named like an image, reading it will say so.
        return False


def extension_of(name: str) -> str:
    """The lower-case extension without its dot; "" where there is none."""
    stem, dot, extension = name.rpartition(".")
    return extension.lower() if dot and stem else ""


def _unlistable(path: str, error: OSError) -> FeatcacheError:
    if error.errno == errno.ENAMETOOLONG:
        return FeatcacheError(
            f"the path {path[:80]!r}... has more than {LONGEST_PATH} bytes: move the images up"
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return FeatcacheError(f"the folder {path!r} may not be listed: check its permissions")
    return StorageFailure(f"the folder {path!r} could not be listed: {error.strerror}")


def found_instead(found: FolderWalk) -> str:
    """What a folder without images does hold, for an error message."""
    if not found.others and not found.folder_links:
        return "it is empty"
    return "; ".join(found.remarks())


def _counted(others: Counter[str]) -> str:
    kinds = sorted(others.items(), key=lambda kind: (-kind[1], not kind[0], kind[0]))
    shown = ", ".join(
        f"{count} {'.' + extension if extension else 'without extension'}"
        for extension, count in kinds[:8]
    )
    more = f", {len(kinds) - 8} other kinds" if len(kinds) > 8 else ""
    total = sum(others.values())
    return f"{total} {'file that is no image' if total == 1 else 'files that are no images'}" + (
        f" ({shown}{more})"
    )


def _number(things: list[str], word: str) -> str:
    return f"{len(things)} {word}{'' if len(things) == 1 else 's'}"
