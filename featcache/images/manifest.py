"""Reading a manifest: path, label, split, group and other columns in any order; path is a must.

Others are kept as what else is known of the images. Files that cannot be where the manifest says
fail as images, each by itself; where none is there, the manifest is what is wrong.
"""

from __future__ import annotations

import difflib
import os
import re
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

from featcache.errors import some
from featcache.images.csv_cells import unguarded
from featcache.images.file_bytes import leads_inside
from featcache.images.folder import IMAGES, LONGEST_PATH
from featcache.images.layout import SPLITS, split_word
from featcache.images.tables import Table, complain, read_table, several_labels

_COLUMNS = ("path", "label", "split", "group")
#: Bytes of the longest text that is kept as metadata.
LONGEST_CELL = 1000
#: Images of one folder from which it is listed instead of asked for each.
_MANY = 64


@dataclass(frozen=True, slots=True)
class ManifestRow:
    """One line of a manifest.

    `written` is the path in it; `path` is the one to open, in which no ".." follows a folder, that
    could be a link; `name` is it, relative to the manifest's folder. `others` are the cells of the
    other columns.
    """

    line: int
    written: str
    path: str
    name: str
    label: str
    split: str
    group: str
    others: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Manifest:
    """The rows of a manifest, the names of its other columns, and remarks."""

    rows: list[ManifestRow]
    others: list[str]
    remarks: list[str] = field(default_factory=list)


def read_manifest(path: Path, *, follow_symlinks: bool) -> Manifest:
    """Read a manifest.

    Raises `FeatcacheError` that names the lines where something is wrong.
    """
    table = read_table(path, lambda text: bool(text) and os.path.lexists(path.parent / text))
    rows = _rows(path.parent, table)
    rows, mended = _mended(path, rows)
    several, doubts = several_labels([(row.line, row.label) for row in rows])
    complain(path, "several labels in one cell: featcache knows one label an image", several)
    _check(path, rows)
    missing = _check_missing(path, rows)
    if not follow_symlinks:
        _check_links(path, rows)
    rows, others, kept = _kept(path, rows, [name for name in table.columns if name not in _COLUMNS])
    return Manifest(rows, others, [*table.remarks, *mended, *doubts, *missing, *kept])


def _kept(
    path: Path, rows: list[ManifestRow], others: list[str]
) -> tuple[list[ManifestRow], list[str], list[str]]:
    """The rows with those of their other columns that can be kept, their names, and remarks."""
    long = [
        at
        for at in range(len(others))
        if any(
            len(row.others[at].encode()) > LONGEST_CELL or "\0" in row.others[at] for row in rows
        )
    ]
    remarks = []
    if long:
        left = [others[at] for at in long]
        remarks.append(
            f"{path.name}: not kept, with cells above {LONGEST_CELL} bytes: {some(left, 10)}"
        )
        places = [at for at in range(len(others)) if at not in long]
        rows = [replace(row, others=tuple(row.others[at] for at in places)) for row in rows]
        others = [others[at] for at in places]
    if others:
        remarks.append(f"{path.name}: kept as what else is known of the images: {some(others, 10)}")
    return rows, others, remarks


def _rows(folder: Path, table: Table) -> list[ManifestRow]:
    inside = str(folder.absolute())
    columns = table.columns
    places = [columns.index(name) if name in columns else None for name in _COLUMNS]
    others = [at for at, name in enumerate(columns) if name not in _COLUMNS]
    rows = []
    for line, row in table.rows:
        written, label, split, group = ("" if at is None else row[at] for at in places)
        path = _resolved(folder, written)
        rows.append(
            ManifestRow(
                line=line,
                written=written,
                path=path,
                name=_name(inside, path),
                label=unguarded(label.strip()),
                split=split_word(split),
                group=unguarded(group.strip()),
                others=tuple(unguarded(row[at].strip()) for at in others),
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
    complain(path, "the path is empty", [(row.line, "") for row in rows if not row.path.strip()])
    complain(
        path,
        f"the path has more than {LONGEST_PATH} bytes, or a NUL in it",
        [
            (row.line, repr(row.path[:60]))
            for row in rows
            if len(os.fsencode(row.path)) > LONGEST_PATH or "\0" in row.path
        ],
    )
    complain(
        path,
        f"split is not one of {', '.join(sorted(SPLITS))}",
        [(row.line, repr(row.split)) for row in rows if row.split not in ("", *SPLITS)],
    )
    first: dict[str, int] = {}
    complain(
        path,
        "the path is listed twice: one line an image, one label an image",
        [
            (row.line, f"{row.name!r}, first on line {first[row.name]}")
            for row in rows
            if first.setdefault(row.name, row.line) != row.line
        ],
    )


def _mended(path: Path, rows: list[ManifestRow]) -> tuple[list[ManifestRow], list[str]]:
    """Rows whose path leads to a file once spaces around it go, or backslashes become slashes."""
    odd = [row for row in rows if "\\" in row.written or row.written.strip() != row.written]
    missing = {row.line: row for row in _missing(path, odd)} if odd else {}
    tried: dict[int, ManifestRow] = {}
    for line, row in missing.items():
        text = row.written.strip()
        for written in dict.fromkeys((text, text.replace("\\", "/"))):
            resolved = _resolved(path.parent, written)
            if written and "\0" not in written and os.path.lexists(path.parent / written):
                name = _name(str(path.parent.absolute()), resolved)
                tried[line] = replace(row, written=written, path=resolved, name=name)
                break
    if not tried:
        return rows, []
    slashes = sum("\\" in missing[line].written for line in tried)
    words = [f"backslashes as slashes in {slashes}"] * bool(slashes)
    words += [f"without the spaces around them {len(tried) - slashes}"] * (len(tried) > slashes)
    remark = f"{path.name}: of {len(rows)} paths are read {' and '.join(words)}"
    return [tried.get(row.line, row) for row in rows], [remark]


def _check_missing(path: Path, rows: list[ManifestRow]) -> list[str]:
    """Raise where no image is there; otherwise say how many are not."""
    missing = _missing(path, rows)
    if len(missing) == len(rows):
        hint = _hint(path.parent, missing[0].written)
        complain(
            path,
            f"no such file (paths are relative to {str(path.parent)!r}{hint})",
            [(row.line, repr(row.written)) for row in missing],
        )
    if not missing:
        return []
    first = missing[0]
    return [
        f"{path.name}: {len(missing)} of {len(rows)} paths lead to no file, such as line "
        f"{first.line} {first.written!r}: listed as failed"
    ]


def _hint(folder: Path, written: str) -> str:
    """What may be wrong with a path that leads nowhere."""
    text = written.strip()
    if re.match(r"[A-Za-z]:[\\/]", text):
        return "; a drive of Windows leads nowhere here: write what follows the folder"
    if "://" in text:
        return "; an address is not fetched: load the files first"
    if os.path.lexists(text):
        return "; they are there from the current folder: put the manifest there"
    place = folder / text.replace("\\", "/")
    ending = next((each for each in sorted(IMAGES) if os.path.lexists(f"{place}.{each}")), "")
    if ending:
        return f"; with an ending it would be there: {text + '.' + ending!r}"
    there = {name.lower(): name for name in _listed(str(place.parent))}
    near = difflib.get_close_matches(place.name.lower(), there, 1)
    return f"; did you mean {there[near[0]]!r}?" if near else ""


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
        if name not in listed.get(folder, ()) and not _is_there(place):
            missing.append(row)
    return missing


def _is_there(place: str) -> bool:
    return "\0" not in place and os.path.lexists(place)


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
    complain(
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
