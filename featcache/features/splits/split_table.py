"""Splits as a CSV file: path and split, with the label and group that `extract` would want."""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path

import numpy as np

from featcache.errors import FeatcacheError
from featcache.features.features import Features
from featcache.features.splits.partition import SPLITS, canonical
from featcache.files.small_files import MOST_OF_A_TABLE, read_small
from featcache.files.write import whole_text
from featcache.images.csv_cells import csv_line, guarded

#: Lines named in a complaint.
_SHOWN = 5


def write_splits(path: Path, features: Features, splits: np.ndarray) -> None:
    """Write one line an image: path, split, and label and group where there are any.

    Beside the images it is a manifest: `featcache extract FILE` takes the splits over without
    extracting. The file appears when it is complete, and its folder is made. Raises
    `StorageFailure`.
    """
    if path.suffix.lower() != ".csv":
        raise FeatcacheError(f"--splits {path}: expected a name that ends in .csv")
    extra = [
        (name, column)
        for name, column in (("label", features.labels), ("group", features.groups))
        if np.any(column != "")
    ]
    with whole_text(path) as file:
        file.write(csv_line(["path", "split", *[name for name, _ in extra]]))
        for row in np.flatnonzero(features.views == 0).tolist():
            cells = [guarded(str(column[row])) for _, column in extra]
            file.write(csv_line([_path_cell(str(features.names[row])), splits[row], *cells]))


def read_splits(path: Path, features: Features) -> tuple[np.ndarray, list[str]]:
    """The split of each row as a CSV file with the columns path and split has it, and remarks.

    "" where the file does not name the image. Raises `FeatcacheError` for a file that is no such
    table, an unknown split, an image listed twice, or where it names no image of the features.
    """
    table = _read(path)
    splits = np.array([table.get(name, "") for name in features.names.tolist()], dtype="<U10")
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


def _read(path: Path) -> dict[str, str]:
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
    rows = [(n, os.path.normpath(line[at]), canonical(line[where])) for n, line in cells]
    _complain(path, f"the split is not one of {', '.join(SPLITS)}", [
        number for number, _, split in rows if split not in (*SPLITS, "")
    ])  # fmt: skip
    first: dict[str, int] = {}
    _complain(path, "the path is listed twice", [
        number for number, name, _ in rows if first.setdefault(name, number) != number
    ])  # fmt: skip
    return {name: split for _, name, split in rows}


def _complain(path: Path, problem: str, numbers: list[int]) -> None:
    if numbers:
        shown = ", ".join(map(str, numbers[:_SHOWN])) + (", ..." if numbers[_SHOWN:] else "")
        raise FeatcacheError(f"{path}: {problem}: line {shown}")


def _path_cell(name: str) -> str:
    """A path that no spreadsheet takes for a formula, and that means the same file."""
    return f"./{name}" if guarded(name) != name else name
