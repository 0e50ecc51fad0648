"""Tables of images as text: CSV, TSV, a list of paths, JSON lines; named columns, cells as text."""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from featcache.errors import FeatcacheError, StorageFailure, some
from featcache.files.small_files import MOST_OF_A_TABLE, read_small
from featcache.images.layout import SPLITS, split_word

#: Endings of what is read as a table.
TABLES = frozenset({"csv", "tsv", "tab", "txt", "lst", "list", "jsonl", "ndjson"})
#: Other files that hold tables or images, and what to do about them.
OTHERS = {
    **dict.fromkeys(("xlsx", "xls", "ods", "numbers"), "save the sheet as CSV UTF-8"),
    **dict.fromkeys(("parquet", "feather", "arrow", "pkl", "pickle"), "save the table as CSV"),
    "json": "write one object a line, and call it .jsonl",
    **dict.fromkeys(("yaml", "yml", "xml"), "write a CSV manifest (path,label,split)"),
    **dict.fromkeys(("zip", "tar", "tgz", "gz", "bz2", "xz", "zst", "7z", "rar"), "unpack it"),
    **dict.fromkeys(("npy", "npz", "h5", "hdf5", "tfrecord", "tfrecords", "lmdb", "mat"),
                    "give the images as files, or in Python as uint8 arrays"),
    "pdf": "save its pages as images",
}  # fmt: skip

#: What else the columns are called, where none has the name itself.
ALIASES = {
    "path": (
        "paths", "image", "images", "file", "files", "filename", "filenames", "file_name",
        "filepath", "file_path", "image_path", "imagepath", "image_file", "image_name", "img",
        "img_path", "img_name", "fname", "image_filename",
    ),
    "label": ("labels", "class", "classes", "category", "class_name", "target"),
    "split": ("splits", "set", "subset", "partition"),
    "group": ("groups", "group_id"),
}  # fmt: skip
_DELIMITERS = ",;\t|"
#: A list of labels, as JSON or Python writes it.
_LIST = re.compile(r"\[.*\]|\{.*\}|\(.*,.*\)", re.DOTALL)
_SHOWN = 10


@dataclass(slots=True)
class Table:
    """Rows of cells with the numbers of their lines, under lower-case names of columns."""

    columns: list[str]
    rows: list[tuple[int, list[str]]]
    remarks: list[str] = field(default_factory=list)


def read_table(path: Path, is_there: Callable[[str], bool]) -> Table:
    """The table in a file; `is_there` says of a text whether it leads to an image.

    Raises `FeatcacheError` that names the lines where something is wrong.
    """
    text, ending = text_of(path), path.suffix.lower().lstrip(".")
    if ending in ("jsonl", "ndjson"):
        table = _json_lines(path, text)
    else:
        table = _delimited(path, text, is_there)
    if not table.rows:
        raise FeatcacheError(f"{path}: there is no image in it, only a header")
    _rename(path, table)
    return table


def text_of(path: Path) -> str:
    """The text of a table: UTF-8, or UTF-16 with its mark, as spreadsheets write it."""
    try:
        content = read_small(path, MOST_OF_A_TABLE)
    except OSError as error:
        raise StorageFailure(f"{path}: could not be read: {error.strerror}") from error
    utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return content.decode("utf-16" if utf16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise FeatcacheError(
            f"{path}: line {line} is not UTF-8: save the manifest as UTF-8 "
            '("CSV UTF-8" in spreadsheets)'
        ) from error


def _delimited(path: Path, text: str, is_there: Callable[[str], bool]) -> Table:
    """Lines of cells under a header, or a plain list of paths."""
    start = 1
    if text[:4].lower() == "sep=":  # Excel's first line
        _, _, text = text.partition("\n")
        start = 2
    first = text.lstrip("\r\n").partition("\n")[0]
    named = [mark for mark in _DELIMITERS if _names_a_path(_header_cells(first, mark))]
    if not named and path.suffix.lower() in (".txt", ".lst", ".list"):
        return _listed(text, is_there)
    delimiter = named[0] if named else ","
    lines = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=delimiter)
    try:
        columns = _columns(path, next(lines, []), is_there)
        rows = [(start - 1 + lines.line_num, row) for row in lines if row]
    except csv.Error as error:
        raise FeatcacheError(f"{path}: line {lines.line_num} is not CSV: {error}") from error
    complain(
        path,
        f"expected {len(columns)} cells, as in the header (quote cells that hold a comma)",
        [(line, f"has {len(row)}") for line, row in rows if len(row) != len(columns)],
    )
    return Table(columns, rows)


def _header_cells(line: str, delimiter: str) -> list[str]:
    try:
        return [cell.strip().lower() for cell in next(csv.reader([line], delimiter=delimiter), [])]
    except csv.Error:
        return []


def _names_a_path(columns: list[str]) -> bool:
    return any(name in columns for name in ("path", *ALIASES["path"]))


def _columns(path: Path, cells: list[str], is_there: Callable[[str], bool]) -> list[str]:
    columns = [cell.strip().lower() for cell in cells]
    if not _names_a_path(columns):
        hint = "; it names an image: put such a line above it" if any(map(is_there, cells)) else ""
        raise FeatcacheError(
            f"{path}: the first line must name the columns, with `path` among them (path,label,"
            f"split,group); it is {','.join(cells)[:200]!r}{hint}"
        )
    if twice := sorted(name for name, count in Counter(columns).items() if count > 1):
        raise FeatcacheError(f"{path}: column named twice: {some(twice, _SHOWN)}")
    return columns


def _rename(path: Path, table: Table) -> None:
    """Give the columns of other names the names that featcache knows, and say so."""
    for name, others in ALIASES.items():
        if name in table.columns:
            continue
        there = [column for column in table.columns if column in others]
        if name == "split":
            there = [column for column in there if _are_splits(table, column)]
        if name == "path" and len(there) > 1:
            raise FeatcacheError(
                f"{path}: {some(there, _SHOWN)} could all be the path: call one of them `path`"
            )
        if len(there) == 1:
            table.columns[table.columns.index(there[0])] = name
            table.remarks.append(f"{path.name}: the column {there[0]!r} is read as the {name}")
        elif there:
            table.remarks.append(
                f"{path.name}: no column is called {name}: is it {some(there, _SHOWN)}?"
            )


def _are_splits(table: Table, column: str) -> bool:
    at = table.columns.index(column)
    return all(split_word(row[at]) in SPLITS for _, row in table.rows if row[at].strip())


def _listed(text: str, is_there: Callable[[str], bool]) -> Table:
    """A path a line, or a path and a label with a tab, a comma or a space between them."""
    lines = [(number, line.strip()) for number, line in enumerate(text.split("\n"), 1)]
    lines = [(number, line) for number, line in lines if line]
    best, most = None, sum(is_there(line) for _, line in lines[:100])
    for mark in "\t, ":
        count = sum(is_there(line.rpartition(mark)[0].strip()) for _, line in lines[:100])
        if count > most:
            best, most = mark, count
    if best is None:
        return Table(["path"], [(number, [line]) for number, line in lines])
    rows = []
    for number, line in lines:
        path, mark, label = line.rpartition(best)
        rows.append((number, [path.strip(), label.strip()] if mark else [line, ""]))
    return Table(["path", "label"], rows)


def _json_lines(path: Path, text: str) -> Table:
    records = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise FeatcacheError(f"{path}: line {number} is no JSON: {error}") from error
        if not isinstance(record, dict):
            raise FeatcacheError(f'{path}: line {number} is no object, such as {{"path": ...}}')
        records.append((number, {str(key).strip().lower(): each for key, each in record.items()}))
    columns = list(dict.fromkeys(name for _, record in records for name in record))
    rows = [(n, [_cell(record.get(name)) for name in columns]) for n, record in records]
    return Table(_columns(path, columns, lambda text: False), rows)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def several_labels(labels: Sequence[tuple[int, str]]) -> tuple[list[tuple[int, str]], list[str]]:
    """Lines whose cell surely holds several labels, and remarks about those that may.

    It does where it is a list, or where the parts are labels elsewhere too: cat;dog beside cat.
    """
    sure, doubtful = [], []
    parts = {label: _parts(label) for label in {label for _, label in labels}}
    seen = Counter(part for each in parts.values() for part in set(each))
    for line, label in labels:
        shares = any(seen[part] > 1 for part in parts[label])
        if _LIST.fullmatch(label.strip()) or (shares and len(parts[label]) > 1):
            sure.append((line, repr(label)))
        elif len(parts[label]) > 1:
            doubtful.append(label)
    remarks = []
    if doubtful:
        remarks.append(
            f"{some(sorted(set(doubtful)), _SHOWN)} are read as one class each: if ; or | parts "
            f"labels, featcache knows one label an image"
        )
    return sure, remarks


def _parts(label: str) -> list[str]:
    """What ; | or a bar between words parts; commas are common in names of classes."""
    return [part for part in (each.strip() for each in re.split(r"[;|]", label)) if part]


def complain(path: Path, problem: str, lines: list[tuple[int, str]]) -> None:
    """Raise one error for all lines with the same problem, naming the first ten."""
    if not lines:
        return
    shown = "; ".join(f"line {line} {detail}".rstrip() for line, detail in lines[:_SHOWN])
    more = f"; and {len(lines) - _SHOWN} more" if len(lines) > _SHOWN else ""
    raise FeatcacheError(f"{path}: {problem}: {shown}{more}")
