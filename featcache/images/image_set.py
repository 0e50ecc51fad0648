"""ImageSet: where images are, what they are called, their labels.

    find_images(folder | manifest.csv | file | paths | arrays) -> ImageSet -> read(i) -> ImageBytes

A folder's images are in the order of their names' UTF-8 bytes, whatever the file system lists
first; what is listed (paths, arrays, the lines of a manifest) stays in the order of the list.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from featcache.errors import BadImage, FeatcacheError, one_of
from featcache.files.home import expanded
from featcache.files.small_files import FileStamp
from featcache.images.class_names import settled
from featcache.images.file_bytes import read_file, stamp_file
from featcache.images.folder import LONGEST_PATH, extension_of, found_instead, walk
from featcache.images.given import Named, as_text, column, index_of, listed, splits_column
from featcache.images.image_bytes import ImageBytes, Pixels, bytes_of_array, checked_array
from featcache.images.layout import read_layout
from featcache.images.levels import level_hints, not_there
from featcache.images.manifest import read_manifest
from featcache.images.pages import PAGES, LastFile, find_page_counts, page_key, page_name
from featcache.images.tables import OTHERS, TABLES

__all__ = ["BadImage", "FileStamp", "ImageBytes", "ImageSet", "find_images"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSet:
    """Images by name, in the order in which they were given; a folder's in that of their names.

    Attributes
    ----------
    name: what the data set is called.
    root: the folder that names are relative to; None for arrays.
    names: relative paths with "/"; bytes that are not UTF-8 are backslash-escaped.
    labels, splits, groups: one each an image, "" = none; splits are "train", "validation", "test".
    metadata: what else a manifest knows, by the name of its column: one text each an image.
    remarks: sentences for the user about what was left out or may surprise.
    pages: which page of its file each image is, None = the file; empty where none is a page.
    """

    name: str
    root: Path | None
    names: list[str]
    labels: list[str]
    splits: list[str]
    groups: list[str]
    remarks: list[str]
    metadata: dict[str, list[str]] = field(default_factory=dict)
    paths: list[str] = field(default_factory=list, repr=False)
    arrays: Sequence[Pixels] | None = field(default=None, repr=False)
    links_stay_inside: bool = False
    pages: list[int | None] = field(default_factory=list, repr=False)
    last: LastFile = field(default_factory=LastFile, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.names)

    def distinct(self) -> tuple[ImageSet, np.ndarray]:
        """Each image once, in the order of the names, and where each of these is among them.

        Raises `FeatcacheError` where one image is listed with two labels, splits or groups, or two
        images have one name.
        """
        # Code points order as their UTF-8 bytes do.
        order = sorted(range(len(self)), key=self.names.__getitem__)
        kept: list[int] = []
        places = np.zeros(len(self), np.int64)
        for index in order:
            if kept and self.names[kept[-1]] == self.names[index]:
                self._check_same(kept[-1], index)
            else:
                kept.append(index)
            places[index] = len(kept) - 1
        return (self if kept == list(range(len(self))) else self._take(kept)), places

    def _take(self, indices: list[int]) -> ImageSet:
        def taken(column: list[Any]) -> list[Any]:
            return [column[index] for index in indices] if column else column

        return replace(
            self,
            names=taken(self.names),
            labels=taken(self.labels),
            splits=taken(self.splits),
            groups=taken(self.groups),
            metadata={name: taken(column) for name, column in self.metadata.items()},
            paths=taken(self.paths),
            arrays=None if self.arrays is None else [self.arrays[index] for index in indices],
            pages=taken(self.pages),
        )

    def _check_same(self, one: int, other: int) -> None:
        """Refuse two images of one name, and one image of which two things are said."""
        name = self.names[one]
        if self.paths and os.path.normpath(self.paths[one]) != os.path.normpath(self.paths[other]):
            raise FeatcacheError(
                f"two images are called {name!r}: each needs a name of its own (bytes that are not "
                "UTF-8 are shown as \\x..)"
            )
        columns = {"labels": self.labels, "splits": self.splits, "groups": self.groups}
        for what, values in (columns | self.metadata).items():
            if (first := values[one]) != (second := values[other]):
                raise FeatcacheError(
                    f"{what}: {name!r} is listed twice, with {first!r} and with {second!r}"
                )

    @property
    def classes(self) -> list[str]:
        """The labels that occur, sorted, without ""."""
        return sorted(set(self.labels) - {""})

    def counts(self) -> dict[str, dict[str, int]]:
        """How many images each label has in each split."""
        counts: dict[str, dict[str, int]] = {}
        for split, label in sorted(zip(self.splits, self.labels, strict=True)):
            labels = counts.setdefault(split, {})
            labels[label] = labels.get(label, 0) + 1
        return counts

    def rows(self) -> list[tuple[str, str, int]]:
        """`counts` as printable rows: split, label, number of images; "-" = none."""
        return [
            (split or "-", label or "-", number)
            for split, labels in self.counts().items()
            for label, number in labels.items()
        ]

    def read(self, index: int) -> ImageBytes:
        """The image, read once; safe in threads. Raises `BadImage` where it cannot be read."""
        if self.arrays is not None:
            return bytes_of_array(self.arrays[index])
        if self.pages and (page := self.pages[index]) is not None:
            raw, digest, found = self.last.read(self._path(index), self.fence())
            return ImageBytes(page_key(digest, page), raw, None, found, page)
        raw, stamp = read_file(self._path(index), self.fence())
        return ImageBytes(hashlib.sha256(raw).hexdigest(), raw, None, stamp)

    def stat(self, index: int) -> FileStamp | None:
        """The file's stamp; None for arrays and for what `read` would refuse."""
        if self.arrays is not None:
            return None
        return stamp_file(self._path(index), self.fence())

    def files(self) -> list[str]:
        """The paths of the images; none for arrays."""
        return [self._path(index) for index in range(len(self.paths))]

    def _path(self, index: int) -> str:
        path = self.paths[index]
        return path if path.startswith("/") else f"{self.root}/{path}"

    def fence(self) -> str | None:
        """The folder that links must stay in; None where they may lead anywhere."""
        return str(self.root) if self.links_stay_inside else None


def find_images(
    images: str | Path | Pixels | Iterable[Any],
    *,
    name: str | None = None,
    labels: Mapping[str, Any] | Iterable[Any] | None = None,
    splits: Mapping[str, Any] | Iterable[Any] | None = None,
    groups: Mapping[str, Any] | Iterable[Any] | None = None,
    follow_symlinks: bool = False,
    folders: str | None = None,
    ignore: Sequence[str] = (),
    pages: str = "first",
) -> ImageSet:
    """The images of a folder, a CSV manifest, one file, a list of paths, or uint8 arrays.

    `labels`, `splits`, `groups` are {name: value}, or one each beside what is listed, in the same
    order; they replace what the folder or the manifest says. pandas Series do as well.
    `folders` says what the levels of folders are, from the top ("split/class", "class", "-"), where
    their names could mean several things; `ignore` are folders to leave out, by name or path.
    With pages="each" every page of a TIFF or DICOM file of several is an image of its own.

    Returns
    -------
    ImageSet: a folder's images sorted by name, the others in the order given.

    Raises `FeatcacheError` where nothing is there, or it is not what is described above.
    """
    said = _Folders(follow_symlinks, folders, ignore)
    found, has_order = _find(images, said)
    _check_lengths(found.names)
    remarks: list[str] = []
    named = Named(found.names, found.root, has_order, index_of(images), remarks)
    splits = found.splits if splits is None else splits_column(splits, named)
    labels = found.labels if labels is None else column("labels", labels, named)
    labels, alike = settled(labels, splits)
    found = replace(
        found,
        name=name or found.name,
        labels=labels,
        splits=splits,
        groups=found.groups if groups is None else column("groups", groups, named),
        remarks=[*found.remarks, *remarks, *alike],
    )
    if one_of("--pages", pages, PAGES) == "first":
        return found
    return _each_page(found) if has_order else _each_page(found).distinct()[0]


@dataclass(frozen=True, slots=True)
class _Folders:
    """What the caller says about folders, as `find_images` has it."""

    follow_symlinks: bool
    folders: str | None
    ignore: Sequence[str]


def _find(images: Any, said: _Folders) -> tuple[ImageSet, bool]:
    """The images, and whether their order is one that the caller gave."""
    if isinstance(images, ImageSet):
        return images, True
    if isinstance(images, np.ndarray) and images.dtype.kind not in "OUS":
        return _array_set(list(checked_array(images))), True
    if not isinstance(images, str | os.PathLike):
        return _from_list(listed(images)), not isinstance(images, set | frozenset)
    if images == "":  # a path of nothing would be the current folder
        raise FeatcacheError(
            "the images are an empty name: expected a folder, a CSV manifest or an image; in a "
            "script, a variable may be empty"
        )
    path = expanded(images)
    if path.is_dir():
        return _from_folder(path, said), False
    if not os.path.lexists(path):
        raise FeatcacheError(not_there(path))
    ending = extension_of(path.name)
    if ending in OTHERS:
        raise FeatcacheError(
            f"{str(path)!r}: a .{ending} file is neither an image nor a manifest here: "
            f"{OTHERS[ending]}"
        )
    if ending in TABLES:
        return _from_manifest(path, said.follow_symlinks), True
    return _new_set(path.stem, path.parent, [path.name]), True


def _from_folder(root: Path, said: _Folders) -> ImageSet:
    ignore = [said.ignore] if isinstance(said.ignore, str) else said.ignore
    found = walk(str(root), follow_symlinks=said.follow_symlinks, ignore=ignore)
    if not found.images:
        raise FeatcacheError(
            f"{str(root)!r} holds no images: {found_instead(found)}; expected .jpg, .png, .tif, "
            ".webp, .gif, .bmp, .avif, .heic, .dcm or .ppm files, in a folder for each class or "
            "all in one"
        )
    names = sorted(found.images, key=as_text)
    images = _new_set(root.resolve().name or "images", root, names)
    images.distinct()  # which refuses two files that show the same name
    read = read_layout(images.names, str(root), said.folders)
    hints = [] if said.folders else level_hints(root.resolve(), read)
    return replace(
        images,
        labels=read.labels,
        splits=read.splits,
        groups=read.groups,
        remarks=read.remarks + found.remarks() + hints,
        links_stay_inside=not said.follow_symlinks,
    )


def _from_manifest(path: Path, follow_symlinks: bool) -> ImageSet:
    read = read_manifest(path, follow_symlinks=follow_symlinks)
    rows = read.rows
    images = _new_set(path.stem, path.parent, [row.path for row in rows])
    return replace(
        images,
        names=[row.name for row in rows],
        labels=[row.label for row in rows],
        splits=[row.split for row in rows],
        groups=[row.group for row in rows],
        metadata={name: [row.others[at] for row in rows] for at, name in enumerate(read.others)},
        remarks=read.remarks,
        links_stay_inside=not follow_symlinks,
    )


def _from_list(images: list[Any]) -> ImageSet:
    if not images:
        raise FeatcacheError("the list of images is empty")
    if all(isinstance(image, np.ndarray) for image in images):
        return _array_set([checked_array(image[np.newaxis])[0] for image in images])
    if not all(isinstance(image, str | os.PathLike) for image in images):
        kinds = ", ".join(sorted({type(image).__name__ for image in images}))
        raise FeatcacheError(f"expected a list of paths or a list of uint8 arrays, got {kinds}")
    paths = [str(expanded(image).absolute()) for image in images]
    missing = [path for path in paths if not os.path.lexists(path)]
    if len(missing) == len(paths):
        raise FeatcacheError(f"{len(missing)} of {len(paths)} paths: " + not_there(missing[0]))
    root = os.path.commonpath([Path(path).parent for path in paths])
    name = Path(root).name or "images"
    found = _new_set(name, Path(root), [os.path.relpath(path, root) for path in paths])
    count = f"{len(missing)} of {len(paths)} paths lead to no file, such as {missing[:1]}"
    return replace(found, remarks=[f"{count}: listed as failed"] * bool(missing))


def _new_set(name: str, root: Path, paths: list[str]) -> ImageSet:
    none = [""] * len(paths)
    return ImageSet(
        name=as_text(name),
        root=root,
        names=[as_text(path) for path in paths],
        labels=none,
        splits=none,
        groups=none,
        remarks=[],
        paths=paths,
    )


def _each_page(images: ImageSet) -> ImageSet:
    """Pages in place of files of several; those of one file are a group, unless they are in one."""
    if images.arrays is not None or images.pages:
        return images
    counts = find_page_counts(images.files(), images.fence())
    each = [(at, page) for at, count in enumerate(counts) for page in range(count)]
    names = images.names
    return replace(
        images._take([at for at, _ in each]),
        names=[page_name(names[at], page) if counts[at] > 1 else names[at] for at, page in each],
        groups=[images.groups[at] or (names[at] if counts[at] > 1 else "") for at, _ in each],
        pages=[page if counts[at] > 1 else None for at, page in each],
    )


def _array_set(arrays: Sequence[Pixels]) -> ImageSet:
    # Eight digits always: more images later must not rename those that are cached.
    names = [f"{index:08d}" for index in range(len(arrays))]
    return replace(_new_set("arrays", Path(), names), root=None, paths=[], arrays=arrays)


def _check_lengths(names: list[str]) -> None:
    for name in names:
        if len(name) > LONGEST_PATH // 4 and len(name.encode()) > LONGEST_PATH:
            raise FeatcacheError(f"the path {name[:80]!r}... has more than {LONGEST_PATH} bytes")
