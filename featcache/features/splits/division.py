"""Division: which images train, validate and test, so that nothing leaks; and its CSV file.

The file has path and split, with the label and group that `extract` would want.
"""

from __future__ import annotations

import csv
import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from featcache.errors import FeatcacheError
from featcache.features.cache import images_root
from featcache.features.features import Features
from featcache.features.splits.duplicates import NEAR, Pairs, near_pairs
from featcache.features.splits.partition import Shares, canonical, marks, partition, units
from featcache.files.small_files import MOST_OF_A_TABLE, read_small
from featcache.files.write import whole_text
from featcache.images.csv_cells import csv_line, guarded, unguarded
from featcache.images.layout import SPLITS

#: Images named in a sentence.
_SHOWN = 3

#: Lines named in a complaint.
_LINES_SHOWN = 5


@dataclass(frozen=True, eq=False)
class Division:
    """Which split each row belongs to, and what there is to say about it.

    Attributes
    ----------
    splits: (R,) "train", "validation" or "test".
    pairs: near duplicates, as row numbers; they are on one side.
    conflicts: one sentence for each set of images that must stay together and stood on two sides.
    """

    splits: np.ndarray
    pairs: Pairs
    conflicts: list[str]
    remarks: list[str]

    def named_pairs(self, features: Features) -> list[dict[str, Any]]:
        """The near duplicates by name, the most similar first."""
        order = np.argsort(-self.pairs.similarity, kind="stable")
        names = features.names[self.pairs.rows[order]].tolist()
        values = self.pairs.similarity[order].tolist()
        return [
            {"image": one, "other": two, "similarity": value}
            for (one, two), value in zip(names, values, strict=True)
        ]


def divide(
    features: Features,
    shares: Shares,
    *,
    seed: int = 0,
    near: float | None = NEAR,
    former: np.ndarray | None = None,
) -> Division:
    """Split the images by the hash of their bytes, the shares being those of each class.

    Copies, near duplicates (cosine of at least `near`; None: do not look) and images of a group
    are never split. Where `former` has a split ("" = new image), it stays, and new images join
    those they belong to, or fill up what their class lacks of its shares; where images that belong
    together stood on two sides, all of them train: an image that has trained a head must not judge
    the next one.

    Raises `FeatcacheError` where there are too few images for the shares.
    """
    pairs = twins(features, near)
    unit = units(features.keys, features.groups, twins=pairs.rows)
    _, unit = np.unique(unit, return_inverse=True)
    conflicts: list[str] = []
    stays = None
    if former is not None:
        stays, conflicts = _continued(features, unit, former)
    splits = _partitioned(features, unit, shares, seed, stays)
    _check(features, splits, shares)
    return Division(splits, pairs, conflicts, _remarks(features, splits, unit, pairs))


def shares_of_splits(features: Features, splits: np.ndarray) -> Shares:
    """The shares of a split that was made, in hundredths, to go on with; a fifth where none tests.

    Not to the last digit: the shares of a split that grows in many steps would drift.
    """
    images = splits[(features.views == 0) & (splits != "")]
    counts = [int((images == name).sum()) for name in ("test", "validation")]
    test, validation = (
        round(share, 2) or share for share in np.divide(counts, max(len(images), 1))
    )
    return Shares(float(test), float(validation)) if 0 < test + validation < 1 else Shares()


def twins(
    features: Features,
    near: float | None,
    among: np.ndarray | None = None,
    *,
    looks: int | None = None,
) -> Pairs:
    """Near duplicates with different bytes among the plain images (of the rows `among`).

    Raises `FeatcacheError` where there are millions, or more than `looks` pairs to look at.
    """
    features.check_any()
    if near is None:
        return Pairs(np.empty((0, 2), np.int64), np.empty(0, np.float32))
    plain = np.flatnonzero(features.views == 0) if among is None else among
    first = plain[np.sort(np.unique(features.keys[plain], return_index=True)[1])]
    return near_pairs(features.vectors_of(first), near, among=first, looks=looks)


def _partitioned(
    features: Features, unit: np.ndarray, shares: Shares, seed: int, stays: np.ndarray | None
) -> np.ndarray:
    """The split of each row, every image counting once, however many views there are of it."""
    image = np.unique(features.names, return_index=True)[1]
    rows = features[image]
    of_unit = np.empty(int(unit.max()) + 1, dtype="<U10")
    of_unit[unit[image]] = partition(
        rows.labels,
        unit[image],
        marks(rows.keys, rows.groups),
        shares,
        seed,
        None if stays is None else stays[image],
    )
    splits: np.ndarray = of_unit[unit]
    return splits


def _continued(
    features: Features, unit: np.ndarray, former: np.ndarray
) -> tuple[np.ndarray, list[str]]:
    """The former split of each row's unit, "" where all of it is new; and where it had two."""
    side = np.array([SPLITS.index(split) if split else len(SPLITS) for split in former.tolist()])
    least = np.full(int(unit.max()) + 1, len(SPLITS))
    np.minimum.at(least, unit, side)
    parted = np.unique(unit[(former != "") & (side != least[unit])])
    sentences = [_conflict(features, np.flatnonzero(unit == one), former) for one in parted]
    return np.array([*SPLITS, ""], dtype="<U10")[least[unit]], sentences


def _conflict(features: Features, rows: np.ndarray, former: np.ndarray) -> str:
    rows = rows[features.views[rows] == 0]
    names = [str(features.names[rows[former[rows] == split]][0])
             for split in SPLITS if (former[rows] == split).any()]  # fmt: skip
    sides = [split for split in SPLITS if (former[rows] == split).any()]
    stood = " and ".join(f"{name} ({side})" for name, side in zip(names, sides, strict=True))
    new = features.names[rows[former[rows] == ""]].tolist()
    joined = f", joined by {', '.join(new[:_SHOWN])}" if new else ""
    return f"{len(rows)} images belong together and stood on {len(sides)} sides: {stood}{joined}"


def _check(features: Features, splits: np.ndarray, shares: Shares) -> None:
    for name, share in (("test", shares.test), ("validation", shares.validation)):
        if share and not (splits == name).any():
            raise FeatcacheError(
                f"--{name} {share:g} of {len(set(features.keys.tolist()))} images in "
                f"{len(features.classes)} classes leaves none for the {name} split: give more "
                f"images of each class, or a larger share"
            )


def _remarks(features: Features, splits: np.ndarray, unit: np.ndarray, pairs: Pairs) -> list[str]:
    remarks = []
    if len(pairs):
        remarks.append(f"{len(pairs)} pairs of near duplicates are kept on one side")
    sizes = np.bincount(unit[features.views == 0])
    if sizes.max() > max(0.05 * sizes.sum(), 2) and len(sizes) > 1:
        remarks.append(
            f"{sizes.max()} of {sizes.sum()} images belong together and stay on one side: the "
            f"shares are rough"
        )
    for name in SPLITS:
        there = set(features.labels[splits == name].tolist())
        lacking = [label for label in features.classes if label not in there]
        if lacking and (splits == name).any():
            remarks.append(
                f"the {name} split lacks {len(lacking)} of {len(features.classes)} classes "
                f"({', '.join(lacking[:_SHOWN])}): they have too few images, or groups"
            )
    return remarks


def write_splits(path: Path, features: Features, splits: np.ndarray) -> None:
    """Write one line an image: path, split, label and group where there are any, and metadata.

    It is a manifest: `featcache extract FILE` takes the splits over without extracting. Beside
    other files than the images, the paths lead to these. The file appears when it is complete, and
    its folder is made. Raises `StorageFailure`.
    """
    if path.suffix.lower() != ".csv":
        raise FeatcacheError(f"--splits {path}: expected a name that ends in .csv")
    known = {"label": features.labels, "group": features.groups}
    extra = {name: column for name, column in known.items() if np.any(column != "")}
    extra |= features.metadata
    start = _way_to_images(path, features)
    with whole_text(path) as file:
        file.write(csv_line(["path", "split", *extra]))
        for row in np.flatnonzero(features.views == 0).tolist():
            cells = [guarded(str(column[row])) for column in extra.values()]
            name = _path_cell(start + str(features.names[row]))
            file.write(csv_line([name, splits[row], *cells]))


def _way_to_images(path: Path, features: Features) -> str:
    """What leads from a table's folder to that of the images: "../photos/"; "" within it."""
    root, first = images_root(features.path.parent), str(features.names[:1].tolist()[0])
    here = path.parent.absolute()
    if not root or os.path.lexists(here / first) or not os.path.lexists(Path(root) / first):
        return ""
    way = os.path.relpath(root, os.path.realpath(here))
    return "" if way == "." or first.startswith("/") else f"{way}/"


def read_splits(path: Path, features: Features) -> tuple[np.ndarray, list[str]]:
    """The split of each row as a CSV file with the columns path and split has it, and remarks.

    "" where the file does not name the image. Raises `FeatcacheError` for a file that is no such
    table, an unknown split, an image listed twice, or where it names no image of the features.
    """
    table = _named(path, _read(path), features)
    splits = np.array(
        [table[name][0] if name in table else "" for name in features.names.tolist()], "<U10"
    )
    remarks = []
    if absent := len(table.keys() - set(features.names.tolist())):
        remarks.append(f"{path}: {absent} of its {len(table)} images have no features here")
    if absent == len(table):
        raise FeatcacheError(
            f"{path}: not one of its {len(table)} paths is an image of {features.path.parent.name} "
            f"(expected names such as {features.names[0]!r})"
        )
    if missing := len(set(features.names[splits == ""].tolist())):
        remarks.append(f"{missing} images have no split in {path}")
    return splits, remarks


def read_groups(path: Path, features: Features) -> tuple[np.ndarray, list[str]]:
    """The groups of the rows, those without one out of the file that `read_splits` reads; remarks.

    Raises `FeatcacheError` as `read_splits`.
    """
    table = _named(path, _read(path), features)
    given = [table[name][1] if name in table else "" for name in features.names.tolist()]
    own = features.groups.tolist()
    groups = np.array([mine or theirs for mine, theirs in zip(own, given, strict=True)], str)
    remarks = []
    other = sum(bool(a and b and a != b) for a, b in zip(own, given, strict=True))
    if other:
        remarks.append(f"{path}: {other} rows have other groups there: those of the features stay")
    lacking = len(set(features.names[groups == ""].tolist()))
    if lacking and np.any(groups != ""):
        remarks.append(f"{lacking} images have no group, others have: nothing keeps these together")
    return groups, remarks


_Rows = dict[str, tuple[str, str]]


def _named(path: Path, table: _Rows, features: Features) -> _Rows:
    """A table under the names that the features have: its paths lead from its own folder."""
    known, root = set(features.names.tolist()), images_root(features.path.parent)
    if not root:
        return table
    here = os.path.realpath(path.parent)
    return {
        name if name in known else os.path.relpath(os.path.join(here, name), root): row  # noqa: PTH118
        for name, row in table.items()
    }


def _read(path: Path) -> _Rows:
    """Split and group by path."""
    try:
        # Not read_text: a name may hold a line break, which must come back as it is.
        text = io.StringIO(read_small(path, MOST_OF_A_TABLE).decode("utf-8-sig"), newline="")
        lines = list(csv.reader(text, strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise FeatcacheError(f"{path}: not a CSV file in UTF-8: {error}") from error
    except OSError as error:
        raise FeatcacheError(f"{path}: cannot be read: {error.strerror}") from error
    header = [cell.strip().lower() for cell in lines[0]] if lines else []
    if "path" not in header or "split" not in header:
        raise FeatcacheError(
            f"{path}: the first line must name the columns path and split, it is "
            f"{','.join(header)[:200]!r}"
        )
    cells = [(number, line) for number, line in enumerate(lines[1:], 2) if line]
    _complain(path, f"expected {len(header)} cells", [
        number for number, line in cells if len(line) != len(header)
    ])  # fmt: skip
    at, where = header.index("path"), header.index("split")
    group = header.index("group") if "group" in header else None
    rows = [
        (n, os.path.normpath(line[at]), canonical(line[where]),
         "" if group is None else unguarded(line[group].strip()))
        for n, line in cells
    ]  # fmt: skip
    _complain(path, f"the split is not one of {', '.join(SPLITS)}", [
        number for number, _, split, _ in rows if split not in (*SPLITS, "")
    ])  # fmt: skip
    first: dict[str, int] = {}
    _complain(path, "the path is listed twice", [
        number for number, name, *_ in rows if first.setdefault(name, number) != number
    ])  # fmt: skip
    return {name: (split, group) for _, name, split, group in rows}


def _complain(path: Path, problem: str, numbers: list[int]) -> None:
    if numbers:
        shown = ", ".join(map(str, numbers[:_LINES_SHOWN])) + (
            ", ..." if numbers[_LINES_SHOWN:] else ""
        )
        raise FeatcacheError(f"{path}: {problem}: line {shown}")


def _path_cell(name: str) -> str:
    """A path that no spreadsheet takes for a formula, and that means the same file."""
    return f"./{name}" if guarded(name) != name else name
