"""What the folders of a data set mean: labels, splits and groups read off relative paths.

One reading that is plain is taken, and said where it may surprise. Where folders could mean two
things nothing is taken: the error has the options for both.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from featcache.errors import FeatcacheError, some

#: The splits that features have.
SPLITS = ("train", "validation", "test")
#: The words that name a split, as they stand in folders and tables, and the split.
SPLIT_WORDS = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
    "eval": "test",
    "evaluation": "test",
}
#: Such words that need no explanation.
_PLAIN = {"train", "training", "validation", "valid", "val", "test", "testing"}
#: What stands beside such a word in a folder's name without changing what it means.
_FILLERS = {
    "set", "data", "dataset", "split", "seg", "images", "image", "imgs", "img", "pics", "photos",
    "pictures", "samples", "folder", "dir", "the", "my", "jpg", "jpeg", "png",
}  # fmt: skip
#: What a level of folders can be, as `folders` says it; "-" is nothing.
WORDS = ("class", "split", "group", "-")
#: Folders that mean nothing: where labels are of no interest.
NONE = "-"
_SHOWN = 3

Parts = list[list[str]]


@dataclass(slots=True)
class Layout:
    """Labels, splits and groups, one each an image, "" = none; and what there is to say."""

    labels: list[str]
    splits: list[str]
    groups: list[str]
    remarks: list[str] = field(default_factory=list)


def split_of(name: str) -> str:
    """The split that a folder's name means ("training_set", "seg_train", "val2017"), or ""."""
    words = re.findall(r"[^\W\d_]+", name.lower())
    told = [re.sub(r"(?<=\w)(set|data)$", "", word) for word in words]
    told = [word for word in told if word not in _FILLERS]
    return SPLIT_WORDS.get(told[0], "") if len(told) == 1 else ""


def split_word(text: str) -> str:
    """A split in the words that features have; a text that is none comes back as it is."""
    text = text.strip()
    return SPLIT_WORDS.get(text.lower()) or split_of(text) or text


def read_layout(names: Sequence[str], root: str, folders: str | None = None) -> Layout:
    """What the folders in some relative paths mean.

    `folders` says it: a word for each level from the top, such as "split/class"; None: they are
    read as their names suggest. Raises `FeatcacheError` where they could mean two things.
    """
    parts = [name.split("/")[:-1] for name in names]
    if folders is not None:
        levels = _levels(folders)
        if levels != ["split", "class"]:
            return _as_said(parts, levels)
    return _Reading(root, parts, is_told=folders is not None).layout()


def _levels(folders: str) -> list[str]:
    levels = folders.lower().split("/")
    known = all(level in WORDS for level in levels)
    if not known or any(levels.count(word) > 1 for word in WORDS[:3]):
        raise FeatcacheError(
            f"--folders {folders!r}: expected a word for each level of folders from the top, "
            f"{', '.join(WORDS)} (nothing), each but the last once: class, split/class, "
            f"group/class, class/group, -/class"
        )
    return levels


def _as_said(parts: Parts, levels: list[str]) -> Layout:
    def column(word: str) -> list[str]:
        at = levels.index(word) if word in levels else None
        return [path[at] if at is not None and len(path) > at else "" for path in parts]

    splits = column("split")
    _check_splits(set(splits) - {""})
    found = Layout(column("class"), [split_of(split) for split in splits], column("group"))
    if "class" in levels:
        _say_unlabelled(found)
    return found


def _check_splits(names: set[str]) -> None:
    if unknown := sorted(name for name in names if not split_of(name)):
        raise FeatcacheError(
            f"--splits-from-folders: {named(unknown)} names no split (train, validation, test): "
            f"leave out what is none ({_ignoring(unknown)}), or say it in a manifest "
            f"(path,label,split)"
        )


@dataclass(slots=True)
class _Reading:
    """Folders, read level by level from the top: `rest` is what of each path is not read yet."""

    root: str
    rest: Parts
    is_told: bool
    read: list[str] = field(default_factory=list)
    splits: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def layout(self) -> Layout:
        self.splits = [""] * len(self.rest)
        self._strip_wrapper()
        if self.is_told or self._has_splits():
            self._take_splits()
        self._strip_later_splits()
        if not self.is_told:
            self._check_one_level()
        labels = [path[0] if path else "" for path in self.rest]
        found = Layout(labels, self.splits, [""] * len(labels), self.remarks)
        if any(labels):
            _say_unlabelled(found)
        return found

    def _strip_wrapper(self) -> None:
        """Take away folders that hold all the others, and say so."""
        depth = _wrapper_depth(self.rest)
        if not depth:
            return
        wrapper = "/".join(max(self.rest, key=len)[:depth])
        if any(0 < len(path) <= depth for path in self.rest):
            raise self._ambiguous(
                f"{wrapper!r} holds images and folders of images",
                {
                    f"--folders {'-/' * depth}class": f"classes {named(_tops(self.rest, depth))}",
                    "--folders class": f"one class, {wrapper.split('/')[0]!r}",
                },
            )
        self.rest = [path[depth:] for path in self.rest]
        self.read += ["-"] * depth
        self.remarks.append(
            f"all images lie in {wrapper!r}, which is taken for no class: its folders are read "
            f"({named(_tops(self.rest))}); --folders class takes {wrapper.split('/')[0]!r} for one"
        )

    def _has_splits(self) -> bool:
        """Whether the top folders are splits; raises where they could be classes as well."""
        tops = _tops(self.rest)
        splits = {top for top in tops if split_of(top)}
        deep = {path[0] for path in self.rest if len(path) > 1}
        if splits and splits == tops and deep and not self._trains_flat(splits - deep):
            return True
        if len(splits) == len(tops) and splits:
            raise self._ambiguous(
                f"{named(splits)} look like splits, but {named(splits - deep)} without classes",
                {"--splits-from-folders": "splits, images without labels",
                 "--folders class": f"classes {named(tops)}"},
            )  # fmt: skip
        roles = {split_of(top) for top in splits}
        if splits & deep or len(roles) > 1 or (splits and roles != {"train"}):
            others = tops - splits
            raise self._ambiguous(
                f"{named(splits)} look like splits, {named(others)} like none",
                {f"--splits-from-folders {_ignoring(others)}": self._as_splits(splits),
                 "--folders class": f"classes {named(tops)}"},
            )  # fmt: skip
        self._check_hidden_splits(tops)
        return False

    @staticmethod
    def _trains_flat(flat: set[str]) -> bool:
        """Whether there are training images without a class: then folders mean something else."""
        return any(split_of(top) == "train" for top in flat)

    def _as_splits(self, splits: set[str]) -> str:
        below = {path[1] for path in self.rest if len(path) > 1 and path[0] in splits}
        words = f"splits {named({split_of(top) for top in splits})}"
        return f"{words}, classes {named(below)}" if below else f"{words}, no labels"

    def _check_hidden_splits(self, tops: set[str]) -> None:
        """Folders such as cats_train and cats_test: a class and a split in one name."""
        found: dict[str, set[str]] = {}
        for top in tops:
            words = re.findall(r"[^\W\d_]+", top.lower())
            roles = [SPLIT_WORDS[word] for word in words if word in SPLIT_WORDS]
            if len(roles) == 1:
                found.setdefault(" ".join(w for w in words if w not in SPLIT_WORDS), set()).add(top)
        for alike in found.values():
            if len(alike) > 1:
                raise self._ambiguous(
                    f"{named(alike)} look like splits of one thing",
                    {"a CSV manifest": "path,label,split: a line an image",
                     "--folders class": f"classes {named(tops)}"},
                )  # fmt: skip

    def _take_splits(self) -> None:
        tops = _tops(self.rest)
        if not tops:
            raise FeatcacheError(f"--splits-from-folders: {self.root!r} has no folders of images")
        _check_splits(tops)
        self._say_splits(tops)
        self.splits = [split_of(path[0]) if path else "" for path in self.rest]
        below: dict[str, Parts] = {top: [] for top in tops}
        for path in self.rest:
            if path:
                below[path[0]].append(path[1:])
        # seg_train/seg_train/cat: each split has its own wrapper, which is no class of another one.
        classes = set().union(*(t for t in map(_tops, below.values()) if len(t) > 1))
        depth = {
            top: 1 + (0 if _tops(paths) & classes else _wrapper_depth(paths, top))
            for top, paths in below.items()
        }
        self.rest = [path[depth[path[0]] :] if path else [] for path in self.rest]
        self.read.append("split")
        for top, paths in sorted(below.items()):
            if not any(len(path) >= depth[top] for path in paths):
                number = "1 image is" if len(paths) == 1 else f"{len(paths)} images are"
                self.remarks.append(
                    f"{top!r} holds no class folders: its {number} of the {split_of(top)} split, "
                    f"without a label"
                )

    def _say_splits(self, tops: set[str]) -> None:
        """Names that are not plainly those of splits."""
        unusual = sorted(top for top in tops if top.lower() not in _PLAIN)
        if unusual:
            read = ", ".join(f"{top!r} as {split_of(top)}" for top in unusual[:_SHOWN])
            self.remarks.append(f"read as splits: {read} (--folders class: as classes)")

    def _strip_later_splits(self) -> None:
        """cat/train/1.jpg: the splits lie below the classes."""
        second = {path[1] for path in self.rest if len(path) > 1}
        is_split = len({split_of(name) for name in second}) > 1 and all(map(split_of, second))
        if any(self.splits) or not is_split or any(len(path) == 1 for path in self.rest):
            return
        self.remarks.append(f"the folders {named(second)} below the classes are splits")
        self.splits = [split_of(path[1]) if len(path) > 1 else "" for path in self.rest]
        self.rest = [path[:1] for path in self.rest]

    def _check_one_level(self) -> None:
        """Refuse class folders that hold nothing but folders: which of the two is the class?"""
        tops = _tops(self.rest)
        if len(tops) < 2 or any(len(path) == 1 for path in self.rest):
            return
        below: dict[str, set[str]] = {top: set() for top in tops}
        for path in self.rest:
            if path:
                below[path[0]].add(path[1])
        if max(map(len, below.values())) < 2:
            return
        names = set().union(*below.values())
        shared = {name for name in names if sum(name in each for each in below.values()) > 1}
        start = "".join(f"{word}/" for word in self.read)
        what = f"{named(tops)} hold the same folders {named(shared)}" if shared else (
            f"{named(tops)} hold folders, {named(names)}, and no images")  # fmt: skip
        raise self._ambiguous(
            what,
            {
                f"--folders {start}class": f"classes {named(tops)}",
                f"--folders {start}-/class": f"classes {named(names)}",
                f"--folders {start}class/group": f"classes {named(tops)}, groups {named(names)} "
                f"which are never split",
                f"--folders {start}group/class": f"groups {named(tops)}, classes {named(names)}",
            },
        )

    def _ambiguous(self, what: str, answers: dict[str, str]) -> FeatcacheError:
        lines = [f"{options}: {meaning}" for options, meaning in answers.items()]
        return FeatcacheError(
            f"the folders of {self.root!r} could mean several things: {what}. "
            f"Say which, with the same command and one of these:",
            lines,
            'In Python: folders="split/class", ignore=["NAME"]',
        )


def _wrapper_depth(parts: Parts, name: str = "") -> int:
    """How many levels of folders hold all images, above a level with several folders.

    0 where the images lie in one folder in the end: that is a class. A wrapper of the name that
    the folder above has (seg_test/seg_test) is one wherever the images lie.
    """
    depth = 0
    while len(tops := _tops(parts, depth)) == 1:
        (top,) = tops
        if split_of(top) and top != name:
            return depth
        depth += 1
        if top == name and len(_tops(parts, depth)) != 1:
            return depth
    return depth if tops else 0


def _tops(parts: Iterable[list[str]], level: int = 0) -> set[str]:
    """The names of the folders at a level."""
    return {path[level] for path in parts if len(path) > level}


def _say_unlabelled(found: Layout) -> None:
    """Images without a class in a split that has classes, or where there are no splits."""
    labelled = {split for split, label in zip(found.splits, found.labels, strict=True) if label}
    pairs = zip(found.splits, found.labels, strict=True)
    if count := sum(not label and split in labelled for split, label in pairs):
        found.remarks.append(
            f"{count} of {len(found.labels)} images lie beside the class folders and have no label"
        )


def _ignoring(names: Iterable[str]) -> str:
    return " ".join(f"--ignore {_word(name)}" for name in sorted(names)[:_SHOWN])


def _word(name: str) -> str:
    return name if re.fullmatch(r"[\w.+-]+", name) else repr(name)


def named(names: Iterable[str]) -> str:
    """Some names for a sentence, sorted."""
    return some(sorted(names))
