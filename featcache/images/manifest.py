"""Reading a CSV manifest: the columns path, label, split, group in any order; path is a must."""

from __future__ import annotations

import csv
import io
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from featcache.errors import FeatcacheError, StorageFailure
from featcache.files.small_files import MOST_OF_A_TABLE, read_small
from featcache.images.csv_cells import unguarded
from featcache.images.file_bytes import leads_inside
from featcache.images.folder import LONGEST_PATH
from featcache.images.layout import SPLIT_WORDS, split_word

_COLUMNS = ("path", "label", "split", "group")
_LINES_SHOWN = 10
#: Images of one folder from which it is listed instead of asked for each.
_MANY = 64


@dataclass(frozen=True, slots=True)
class ManifestRow:
    """One line of a manifest.

    `written` is the path in it; `path` is the one to open, in which no ".." follows a folder, that
    could be a link; `name` is it, relative to the manifest's folder.
    """

    line: int
    written: str
    path: str
    name: str
    label: str
    split: str
    group: str


def read_manifest(path: Path, *, follow_symlinks: bool) -> tuple[list[ManifestRow], list[str]]:
    """The rows of a manifest, and remarks.

    Raises `FeatcacheError` that names the lines where something is wrong.
    """
    lines = csv.reader(io.StringIO(_text(path), newline=""), strict=True)
    try:
        columns, remarks = _header(path, next(lines, []))
        cells = [(lines.line_num, row) for row in lines if row]
    except csv.Error as error:
        raise FeatcacheError(f"{path}: line {lines.line_num} is not CSV: {error}") from error
    if not cells:
        raise FeatcacheError(f"{path}: there is no image in it, only a header")
    _complain(
        path,
        f"expected {len(columns)} cells, as in the header (quote cells that hold a comma)",
        [(line, f"has {len(row)}") for line, row in cells if len(row) != len(columns)],
    )
    rows = _rows(path.parent, columns, cells)
    _check(path, rows)
    if not follow_symlinks:
        _check_links(path, rows)
    return rows, remarks


def _text(path: Path) -> str:
    try:
        return read_small(path, MOST_OF_A_TABLE).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise FeatcacheError(
            f"{path}: line {line} is not UTF-8: save the manifest as UTF-8 "
            '("CSV UTF-8" in spreadsheets)'
        ) from error
    except OSError as error:
        raise StorageFailure(f"{path}: could not be read: {error.strerror}") from error


def _header(path: Path, cells: list[str]) -> tuple[list[str], list[str]]:
    columns = [cell.strip().lower() for cell in cells]
    if "path" not in columns:
        raise FeatcacheError(
            f"{path}: the first line must name the columns, with `path` among them (path,label,"
            f"split,group); it is {','.join(cells)[:200]!r}"
        )
    if twice := sorted(name for name, count in Counter(columns).items() if count > 1):
        raise FeatcacheError(f"{path}: column named twice: {_some(twice)}")
    unknown = [column for column in columns if column not in _COLUMNS]
    word = "column" if len(unknown) == 1 else "columns"
    return columns, [f"{path.name}: ignored the {word} {_some(unknown)}"] if unknown else []


def _some(columns: list[str]) -> str:
    shown = ", ".join(map(repr, columns[:_LINES_SHOWN]))
    more = len(columns) - _LINES_SHOWN
    return f"{shown} and {more:,} more" if more > 0 else shown


def _rows(
    folder: Path, columns: list[str], cells: list[tuple[int, list[str]]]
) -> list[ManifestRow]:
    inside = str(folder.absolute())
    places = [columns.index(name) if name in columns else None for name in _COLUMNS]
    rows = []
    for line, row in cells:
        written, label, split, group = ("" if at is None else row[at] for at in places)
        path, split = _resolved(folder, written), split.strip()
        rows.append(
            ManifestRow(
                line=line,
                written=written,
                path=path,
                name=_name(inside, path),
                label=unguarded(label.strip()),
                split=split_word(split),
                group=unguarded(group.strip()),
            )
        )
    return rows


def _resolved(folder: Path, path: str) -> str:
    """The path without a ".." behind a folder: to the system, it leads out of where a link leads,
    and so to another file than the text says.
    """
    if ".." not in path or "\0" in path:
        return path
    steps = Path(path).parts
    climbs = [at for at, step in enumerate(steps) if step == ".."]
    if not any(step != ".." for at in climbs for step in steps[:at]):
        return path
    found, root = os.path.realpath(folder / path), os.path.realpath(folder)
    return found if path.startswith("/") else os.path.relpath(found, root)


def _name(inside: str, path: str) -> str:
    """Relative to the manifest's folder where it lies below it, so that the folder may move."""
    name = os.path.normpath(path) if path else ""
    if name.startswith("/") and leads_inside(name, inside):
        return os.path.relpath(name, inside)
    return name


def _check(path: Path, rows: list[ManifestRow]) -> None:
    _complain(path, "the path is empty", [(row.line, "") for row in rows if not row.path.strip()])
    _complain(
        path,
        f"the path has more than {LONGEST_PATH} bytes, or a NUL in it",
        [
            (row.line, repr(row.path[:60]))
            for row in rows
            if len(os.fsencode(row.path)) > LONGEST_PATH or "\0" in row.path
        ],
    )
    allowed = set(SPLIT_WORDS.values()) | {""}
    _complain(
        path,
        f"split is not one of {', '.join(sorted(allowed - {''}))}",
        [(row.line, repr(row.split)) for row in rows if row.split not in allowed],
    )
    first: dict[str, int] = {}
    _complain(
        path,
        "the path is listed twice: one line an image, one label an image",
        [
            (row.line, f"{row.name!r}, first on line {first[row.name]}")
            for row in rows
            if first.setdefault(row.name, row.line) != row.line
        ],
    )
    _complain(
        path,
        f"no such file (paths are relative to {str(path.parent)!r})",
        [(row.line, repr(row.written)) for row in _missing(path, rows)],
    )


def _missing(manifest: Path, rows: list[ManifestRow]) -> list[ManifestRow]:
    """The rows whose image is not there.

    A folder of many of them is listed once: to ask for each by itself takes minutes on a network.
    """
    # As text, for `Path` is slow on lists of hundreds of thousands.
    places = [
        row.written if row.written.startswith("/") else f"{manifest.parent}/{row.written}"
        for row in rows
    ]
    counts = Counter(place.rpartition("/")[0] for place in places)
    listed = {folder: _listed(folder) for folder, count in counts.items() if count >= _MANY}
    missing = []
    for place, row in zip(places, rows, strict=True):
        folder, _, name = place.rpartition("/")
        if name not in listed.get(folder, ()) and not os.path.lexists(place):
            missing.append(row)
    return missing


def _listed(folder: str) -> set[str]:
    try:
        with os.scandir(folder or "/") as entries:
            return {entry.name for entry in entries}
    except OSError:
        return set()  # then each image is asked for by itself


def _check_links(path: Path, rows: list[ManifestRow]) -> None:
    """Links to files are looked at when read; a folder on the way there must be checked here."""
    root = os.path.realpath(path.parent)
    relative = [row for row in rows if not _leads_up(_name(str(path.parent), row.written))]
    folders = {row.name.rpartition("/")[0] for row in relative}
    leaving = {
        folder
        for folder in folders
        if not leads_inside(os.path.realpath(path.parent / folder), root)
    }
    _complain(
        path,
        "the path goes through a link out of the manifest's folder: --follow-symlinks allows it",
        [
            (row.line, repr(row.written))
            for row in relative
            if row.name.rpartition("/")[0] in leaving
        ],
    )


def _leads_up(name: str) -> bool:
    return name.startswith(("/", "../"))


def _complain(path: Path, problem: str, lines: list[tuple[int, str]]) -> None:
    """Raise one error for all lines with the same problem, naming the first ten."""
    if not lines:
        return
    shown = "; ".join(f"line {line} {detail}".rstrip() for line, detail in lines[:_LINES_SHOWN])
    more = f"; and {len(lines) - _LINES_SHOWN} more" if len(lines) > _LINES_SHOWN else ""
    raise FeatcacheError(f"{path}: {problem}: {shown}{more}")
