"""ImageSet: where images are, what they are called, their labels.

    find_images(folder | manifest.csv | file | paths | arrays) -> ImageSet -> read(i) -> ImageBytes

The order is that of the names' UTF-8 bytes, whatever the file system lists first.
"""

from __future__ import annotations

import difflib
import hashlib
import itertools
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from featcache.errors import BadImage, FeatcacheError, one_of
from featcache.files.home import expanded
from featcache.files.small_files import FileStamp
from featcache.images.file_bytes import read_file, stamp_file
from featcache.images.folder import LONGEST_PATH, SPLIT_WORDS, found_instead, layout, walk
from featcache.images.manifest import read_manifest
from featcache.images.pages import PAGES, LastFile, PageOf, find_page_counts, page_key, page_name

__all__ = ["BadImage", "FileStamp", "ImageBytes", "ImageSet", "find_images", "label_conflicts"]

Pixels = np.ndarray[Any, np.dtype[np.uint8]]


@dataclass(frozen=True, slots=True)
class ImageBytes:
    """One image as it was read: the same buffer is hashed and decoded.

    Attributes
    ----------
    key: SHA-256 in hex, of the file's bytes, or of ``uint8 HxWxC`` newline and the pixels; of a
        page, see `page_key`.
    raw: the file's bytes; None for an array.
    array: (H, W, C) uint8 pixels with C = 1 or 3; None for a file.
    stamp: the file's stamp while it was read; None for an array.
    page: the page of the file that this is; None = the file.
    """

    key: str
    raw: bytes | None
    array: Pixels | None
    stamp: FileStamp | None
    page: int | None = None

    @property
    def content(self) -> bytes | Pixels | PageOf:
        """What `decode` takes: the file's bytes, a page of them, or the pixels."""
        if self.raw is not None and self.page is not None:
            return PageOf(self.raw, self.page)
        content = self.array if self.raw is None else self.raw
        if content is None:
            raise FeatcacheError("an image is bytes or an array; this is neither")
        return content


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSet:
    """Images by name, in the order of their names.

    Attributes
    ----------
    name: what the data set is called.
    root: the folder that names are relative to; None for arrays.
    names: relative paths with "/"; bytes that are not UTF-8 are backslash-escaped.
    labels, splits, groups: one each an image, "" = none; splits are "train", "validation", "test".
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
    paths: list[str] = field(default_factory=list, repr=False)
    arrays: Sequence[Pixels] | None = field(default=None, repr=False)
    links_stay_inside: bool = False
    pages: list[int | None] = field(default_factory=list, repr=False)
    last: LastFile = field(default_factory=LastFile, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.names)

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
            return _from_array(self.arrays[index])
        if self.pages and (page := self.pages[index]) is not None:
            raw, digest, found = self.last.read(self._path(index), self._fence())
            return ImageBytes(page_key(digest, page), raw, None, found, page)
        raw, stamp = read_file(self._path(index), self._fence())
        return ImageBytes(hashlib.sha256(raw).hexdigest(), raw, None, stamp)

    def stat(self, index: int) -> FileStamp | None:
        """The file's stamp; None for arrays and for what `read` would refuse."""
        if self.arrays is not None:
            return None
        return stamp_file(self._path(index), self._fence())

    def files(self) -> list[str]:
        """The paths of the images; none for arrays."""
        return [self._path(index) for index in range(len(self.paths))]

    def _path(self, index: int) -> str:
        path = self.paths[index]
        return path if path.startswith("/") else f"{self.root}/{path}"

    def _fence(self) -> str | None:
        return str(self.root) if self.links_stay_inside else None


def find_images(
    images: str | Path | Pixels | Iterable[Any],
    *,
    name: str | None = None,
    labels: Iterable[Any] | None = None,
    splits: Iterable[Any] | None = None,
    groups: Iterable[Any] | None = None,
    follow_symlinks: bool = False,
    pages: str = "first",
) -> ImageSet:
    """The images of a folder, a CSV manifest, one file, a list of paths, or uint8 arrays.

    `labels`, `splits`, `groups` are one each an image, in the order given (for a folder: of the
    sorted names), and replace what the folder or the manifest says. The result is sorted by name.
    With pages="each" every page of a TIFF or DICOM file of several is an image of its own.

    Raises `FeatcacheError` where nothing is there, or it is not what is described above.
    """
    found = _find(images, follow_symlinks)
    count = len(found)
    found = replace(
        found,
        name=name or found.name,
        labels=found.labels if labels is None else _one_each("labels", labels, count),
        splits=found.splits if splits is None else _splits(splits, count),
        groups=found.groups if groups is None else _one_each("groups", groups, count),
    )
    return _sorted(found if one_of("--pages", pages, PAGES) == "first" else _each_page(found))


def label_conflicts(images: ImageSet, keys: Sequence[str]) -> list[str]:
    """A sentence for each image content (`keys`, one an image) that has more than one label."""
    first: dict[str, int] = {}
    sentences = []
    for index, key in enumerate(keys):
        other = first.setdefault(key, index)
        if images.labels[other] != images.labels[index]:
            sentences.append(
                f"{images.names[other]!r} ({images.labels[other]!r}) and {images.names[index]!r} "
                f"({images.labels[index]!r}) are the same image with two labels"
            )
    return sentences


def _find(images: Any, follow_symlinks: bool) -> ImageSet:
    if isinstance(images, np.ndarray) and images.dtype.kind not in "OUS":
        return _array_set(list(_checked_array(images)))
    if not isinstance(images, str | os.PathLike):
        return _from_list(list(images))
    if images == "":  # a path of nothing would be the current folder
        raise FeatcacheError(
            "the images are an empty name: expected a folder, a CSV manifest or an image; in a "
            "script, a variable may be empty"
        )
    path = expanded(images)
    if path.is_dir():
        return _from_folder(path, follow_symlinks)
    if not os.path.lexists(path):
        raise FeatcacheError(_not_there(path))
    if path.suffix.lower() == ".csv":
        return _from_manifest(path, follow_symlinks)
    return _new_set(path.stem, path.parent, [path.name])


def _from_folder(root: Path, follow_symlinks: bool) -> ImageSet:
    found = walk(str(root), follow_symlinks=follow_symlinks)
    if not found.images:
        raise FeatcacheError(
            f"{str(root)!r} holds no images: {found_instead(found)}; expected .jpg, .png, .tif, "
            ".webp, .gif, .bmp, .avif, .heic, .dcm or .ppm files, in a folder for each class or "
            "all in one"
        )
    images = _new_set(root.resolve().name or "images", root, found.images)
    images = _sorted(images)
    labels, splits, remarks = layout(images.names)
    return replace(
        images,
        labels=labels,
        splits=splits,
        remarks=remarks + found.remarks(),
        links_stay_inside=not follow_symlinks,
    )


def _from_manifest(path: Path, follow_symlinks: bool) -> ImageSet:
    rows, remarks = read_manifest(path, follow_symlinks=follow_symlinks)
    images = _new_set(path.stem, path.parent, [row.path for row in rows])
    return replace(
        images,
        names=[row.name for row in rows],
        labels=[row.label for row in rows],
        splits=[row.split for row in rows],
        groups=[row.group for row in rows],
        remarks=remarks,
        links_stay_inside=not follow_symlinks,
    )


def _from_list(images: list[Any]) -> ImageSet:
    if not images:
        raise FeatcacheError("the list of images is empty")
    if all(isinstance(image, np.ndarray) for image in images):
        return _array_set([_checked_array(image[np.newaxis])[0] for image in images])
    if not all(isinstance(image, str | os.PathLike) for image in images):
        kinds = ", ".join(sorted({type(image).__name__ for image in images}))
        raise FeatcacheError(f"expected a list of paths or a list of uint8 arrays, got {kinds}")
    paths = [str(expanded(image).absolute()) for image in images]
    if missing := [path for path in paths if not os.path.lexists(path)]:
        raise FeatcacheError(f"{len(missing)} of {len(paths)} paths: " + _not_there(missing[0]))
    root = os.path.commonpath([Path(path).parent for path in paths])
    name = Path(root).name or "images"
    return _new_set(name, Path(root), [os.path.relpath(path, root) for path in paths])


def _new_set(name: str, root: Path, paths: list[str]) -> ImageSet:
    none = [""] * len(paths)
    return ImageSet(
        name=_display(name),
        root=root,
        names=[_display(path) for path in paths],
        labels=none,
        splits=none,
        groups=none,
        remarks=[],
        paths=paths,
    )


def _each_page(images: ImageSet) -> ImageSet:
    """Pages in place of files of several; those of one file are a group, unless they are in one."""
    if images.arrays is not None:
        return images
    counts = find_page_counts(images.files(), images._fence())
    each = [(at, page) for at, count in enumerate(counts) for page in range(count)]
    names = images.names
    return replace(
        images,
        names=[page_name(names[at], page) if counts[at] > 1 else names[at] for at, page in each],
        labels=[images.labels[at] for at, _ in each],
        splits=[images.splits[at] for at, _ in each],
        groups=[images.groups[at] or (names[at] if counts[at] > 1 else "") for at, _ in each],
        paths=[images.paths[at] for at, _ in each],
        pages=[page if counts[at] > 1 else None for at, page in each],
    )


def _array_set(arrays: Sequence[Pixels]) -> ImageSet:
    # Eight digits always: more images later must not rename those that are cached.
    names = [f"{index:08d}" for index in range(len(arrays))]
    return replace(_new_set("arrays", Path(), names), root=None, paths=[], arrays=arrays)


def _display(path: str) -> str:
    """The name as text that UTF-8 can hold: a stray byte ff becomes the four characters \\xff."""
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        return os.fsencode(path).decode("utf-8", "backslashreplace")
    return path


def _sorted(images: ImageSet) -> ImageSet:
    """In the order of names: code points order as their UTF-8 bytes do."""
    order = sorted(range(len(images)), key=images.names.__getitem__)
    names = [images.names[index] for index in order]
    _check_names(names)
    if order == list(range(len(order))):
        return images
    return replace(
        images,
        names=names,
        labels=[images.labels[index] for index in order],
        splits=[images.splits[index] for index in order],
        groups=[images.groups[index] for index in order],
        paths=[images.paths[index] for index in order],
        pages=[images.pages[index] for index in order] if images.pages else [],
    )


def _check_names(names: list[str]) -> None:
    for name, following in itertools.pairwise(names):
        if name == following:
            raise FeatcacheError(
                f"two images are called {name!r}: each needs a name of its own (bytes that are not "
                "UTF-8 are shown as \\x..)"
            )
    for name in names:
        if len(name) > LONGEST_PATH // 4 and len(name.encode()) > LONGEST_PATH:
            raise FeatcacheError(f"the path {name[:80]!r}... has more than {LONGEST_PATH} bytes")


def _checked_array(images: np.ndarray[Any, Any]) -> Pixels:
    problem = ""
    if images.dtype != np.uint8:
        problem = f"are {images.dtype}, not uint8 in 0..255"
    elif images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[3] not in (1, 3)):
        problem = f"have the shape {images.shape}"
    elif images.ndim == 3 and images.shape[2] in (1, 3, 4):
        # Taken for (N, H, W), one RGB image would become H grey images, three pixels wide.
        problem = f"have the shape {images.shape}, which looks like one image: give images[None]"
    elif 0 in images.shape:
        problem = f"have the shape {images.shape}: there is no pixel"
    if problem:
        raise FeatcacheError(f"the arrays {problem}; expected uint8 (N, H, W, 3|1) or (N, H, W)")
    return images


def _from_array(pixels: Pixels) -> ImageBytes:
    pixels = np.ascontiguousarray(pixels if pixels.ndim == 3 else pixels[..., np.newaxis])
    digest = hashlib.sha256(f"uint8 {'x'.join(map(str, pixels.shape))}\n".encode("ascii"))
    digest.update(pixels.data)
    return ImageBytes(digest.hexdigest(), None, pixels, None)


def _one_each(option: str, values: Iterable[Any], count: int) -> list[str]:
    """Class names or numbers as text; None is ""."""
    given = [values] if isinstance(values, str) else list(values)
    if len(given) != count:
        raise FeatcacheError(f"{option}: {len(given)} given for {count} images: give one an image")
    for value in given:
        if value is not None and not isinstance(value, str | int | np.integer):
            raise FeatcacheError(
                f"{option}: featcache knows one label an image, a class name or number; got "
                f"{value!r:.80} ({type(value).__name__})"
            )
    return ["" if value is None else _display(str(value)) for value in given]


def _splits(values: Iterable[Any], count: int) -> list[str]:
    words = _one_each("splits", values, count)
    if unknown := sorted({word for word in words if word and word.lower() not in SPLIT_WORDS}):
        raise FeatcacheError(
            f"splits: {', '.join(map(repr, unknown[:10]))} not known: train, validation or test"
        )
    return [SPLIT_WORDS.get(word.lower(), "") for word in words]


def _not_there(path: str | Path) -> str:
    """The sentence for a path that does not exist, with the nearest name that does."""
    path = Path(path)
    there = next((above for above in path.parents if above.is_dir()), Path())
    missing = path.relative_to(there).parts[0]
    near = difflib.get_close_matches(missing, [entry.name for entry in there.iterdir()], n=1)
    hint = f"; did you mean {str(there / near[0])!r}?" if near else f" in {str(there.resolve())!r}"
    return f"{str(path)!r} is not there: no {missing!r}{hint}"
