"""Files of every format that featcache reads, broken: bytes at random, or sense behind right sums.

A format takes a file apart into its text or JSON, and puts it together again with its checksums.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import re
import struct
import zlib
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crafting import BLOCK, header_of, with_header, with_metadata
from hypothesis import strategies as st

from featcache.files.small_files import ZEROS, sealed

#: What may stand in the place of any value of a JSON text.
VALUES: list[Any] = [
    None, True, -1, 0, 2**63, 10**400, 1.5, float("nan"), float("inf"), "", "x", "1", "\udcff",
    "../canary/documents", "/", "\x1b[31m", "\u202e", "a\nb", "/a\0b", "0" * 64, "x" * 100_000, [],
    {}, [[]], [1, 2, 3], {"x": {}}, ["a"] * 10_000,
]  # fmt: skip
NESTED = b"[" * 100_000
OWN_DIGEST = re.compile(rb'"digest": "[^"]*"')


@dataclass(frozen=True)
class Format:
    """A kind of file: where one lies in the world, the commands that read it, how it is resealed.

    `reseal` gives the file's bytes after `change` of its JSON, with every checksum made right.
    """

    name: str
    place: str
    readers: tuple[tuple[str, ...], ...]
    reseal: Callable[[bytes, Callable[[Any], Any]], bytes]


@st.composite
def flips(draw: st.DrawFn, content: bytes) -> bytes:
    """The bytes with a few changed, cut, repeated or added."""
    broken = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, max(len(broken) - 1, 0)))
        junk = draw(st.binary(max_size=8))
        how = draw(st.sampled_from(["over", "over", "insert", "cut", "empty", "nest"]))
        if how == "over":
            broken[place : place + len(junk)] = junk
        elif how in {"insert", "nest"}:
            broken[place:place] = junk if how == "insert" else NESTED
        else:
            del broken[place if how == "cut" else 0 :]
    return bytes(broken)


@st.composite
def changes(draw: st.DrawFn) -> Callable[[Any], Any]:
    """A change of one place of a JSON value: another value, or nothing there, or one more."""
    steps = draw(st.lists(st.integers(0, 10_000), min_size=1, max_size=6))
    value = draw(st.sampled_from(VALUES))
    how = draw(st.sampled_from(["put", "put", "put", "drop", "add"]))

    def change(given: Any) -> Any:
        return _changed(deepcopy(given), steps, how, value)

    return change


def _changed(given: Any, steps: list[int], how: str, value: Any) -> Any:
    """Walk down as many steps as there are, and change what is there."""
    if not isinstance(given, (dict, list)) or not given:
        return value
    keys = list(given) if isinstance(given, dict) else list(range(len(given)))
    key = keys[steps[0] % len(keys)]
    inner = given[key]
    if len(steps) > 1 and isinstance(inner, (dict, list)) and inner:
        given[key] = _changed(inner, steps[1:], how, value)
    elif how == "drop":
        del given[key]
    elif how == "add" and isinstance(given, list):
        given.append(value)
    else:
        given["extra" if how == "add" else key] = value
    return given


def _dumped(value: Any) -> bytes:
    return json.dumps(value).encode("ascii")


def _with_digest(content: bytes) -> bytes:
    """With the digest inside made right, where there is still a place for one."""
    try:
        return sealed(OWN_DIGEST.sub(b'"digest": "' + ZEROS.encode() + b'"', content, count=1))
    except ValueError:
        return content


def reseal_json(content: bytes, change: Callable[[Any], Any]) -> bytes:
    """A JSON file, with its digest where it has one."""
    return _with_digest(_dumped(change(json.loads(content))))


def reseal_note(content: bytes, change: Callable[[Any], Any]) -> bytes:
    """Notes and proofs of the home: JSON behind its SHA-256."""
    text = _dumped(change(json.loads(content.split(b"\n", 1)[1])))
    return hashlib.sha256(text).hexdigest().encode() + b"\n" + text


def reseal_lines(content: bytes, change: Callable[[Any], Any]) -> bytes:
    """JSON lines."""
    lines = change([json.loads(line) for line in content.splitlines()])
    listed = lines if isinstance(lines, list) else [lines]
    return b"\n".join(_dumped(line) for line in listed) + b"\n"


def reseal_scan(content: bytes, change: Callable[[Any], Any]) -> bytes:
    """JSON lines in gzip, which has a CRC."""
    return gzip.compress(reseal_lines(gzip.decompress(content), change))


def reseal_csv(content: bytes, change: Callable[[Any], Any]) -> bytes:
    """Rows of cells."""
    rows = change(list(csv.reader(io.StringIO(content.decode()))))
    text = io.StringIO()
    rows = rows if isinstance(rows, list) else [[rows]]
    csv.writer(text).writerows(row if isinstance(row, list) else [row] for row in rows)
    return text.getvalue().encode("utf-8", "surrogateescape")


def reseal_head(content: bytes, change: Callable[[Any], Any]) -> bytes:
    """A safetensors file: its table of arrays, and the JSON text in its metadata."""
    (length,) = struct.unpack("<Q", content[:8])
    table = json.loads(content[8 : 8 + length])
    inner = {name: _parsed(text) for name, text in table["__metadata__"].items()}
    table = change(table | {"__metadata__": inner})
    metadata = table.get("__metadata__") if isinstance(table, dict) else None
    if isinstance(metadata, dict):
        table["__metadata__"] = {name: _text(value) for name, value in metadata.items()}
        _reseal_checkpoint(table["__metadata__"])
    header = _dumped(table)
    return _with_digest(struct.pack("<Q", len(header)) + header + content[8 + length :])


def _parsed(text: str) -> Any:
    return json.loads(text) if text.startswith("{") else text


def _text(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, dict) else value


def _reseal_checkpoint(metadata: dict[str, Any]) -> None:
    """The sum over a checkpoint's state; that over its arrays stays wrong with it."""
    if "state_crc32" in metadata and isinstance(metadata.get("state"), str):
        metadata["state_crc32"] = f"{zlib.crc32(metadata['state'].encode()):08x}"


def reseal_header(content: bytes, change: Callable[[Any], Any]) -> bytes:
    """A features file or part: the JSON of its header."""
    header = change(header_of(content))
    sealed = with_header(content, header)
    return sealed if isinstance(header, dict) else sealed[:BLOCK] + content[BLOCK:]


def reseal_columns(content: bytes, change: Callable[[Any], Any]) -> bytes:
    """A features file or part: a byte of its columns, its texts or its HDF5 structures."""

    def spoil(metadata: bytes) -> bytes:
        spoiled = bytearray(metadata)
        place = int(hashlib.sha256(repr(change([0] * 9)).encode()).hexdigest(), 16)
        spoiled[place % len(spoiled)] ^= 1 + place % 255
        return bytes(spoiled)

    return with_metadata(content, spoil)


CARE = (
    ("info", "photos"),
    ("verify",),
    ("ls",),
    ("repair", "photos"),
    ("gc",),
    ("fit-head", "photos"),
)
LITE = ("--backbone", "efficientnet_lite0", "--size", "32")
MENDED = (
    ("verify",), ("repair", "mended"), ("gc",), ("ls",), ("rm", "mended", "--yes"),
    ("extract", "photos/val", *LITE, "--name", "mended"),
)  # fmt: skip
EXTRACT = (("extract", "photos", *LITE), ("extract", "photos", *LITE, "--dry-run"))
HEAD = (
    ("evaluate", "photos.head", "photos"), ("predict", "photos.head", "photos"),
    ("evaluate", "photos.head", "photos", "--against", "photos.head"),
    ("split", "photos", "--audit", "--head", "photos.head"),
)  # fmt: skip
ENTRY = "work/cache/photos/efficientnet_lite0-*"
TUNE = (("finetune", "photos", *LITE, "--epochs", "1", "--out", "tuning"),)
TUNED = (("extract", "photos", "--backbone", "tuned", "--dry-run"), ("layers", "tuned"))
#: New images go through the network: notes, proofs and graphs are looked at.
COMPUTE = (("predict", "photos.head", "../canary/pictures"),)
FORMATS = (
    Format("head", "work/photos.head", HEAD, reseal_head),
    Format("note", "home/notes/*.note", (*EXTRACT, *COMPUTE), reseal_note),
    Format("kept graph", "home/graphs/*/proof", COMPUTE, reseal_note),
    Format("proof", "home/graphs/*/proof", (*EXTRACT, ("gc",)), reseal_note),
    Format("marker", "work/cache/photos/featcache.json", (*CARE, *EXTRACT), reseal_json),
    Format("weights note", f"{ENTRY}/weights.json", (*CARE, HEAD[1]), reseal_json),
    Format("runs", f"{ENTRY}/runs.jsonl", (*CARE, *EXTRACT), reseal_lines),
    Format("scan", "work/cache/photos/scan.json.gz", (EXTRACT[0], ("gc",)), reseal_scan),
    Format("manifest", "work/manifest.csv", (("extract", "manifest.csv", *LITE),), reseal_csv),
    Format("header", f"{ENTRY}/features.h5", (*CARE, *EXTRACT), reseal_header),
    Format("columns", f"{ENTRY}/features.h5", (*CARE, *EXTRACT), reseal_columns),
    Format("part", "work/cache/mended/*/parts/p-*.h5", MENDED, reseal_header),
    Format("tuned", "work/tuned/finetuned.json", TUNED, reseal_json),
    Format("checkpoint", "work/tuning/checkpoint.safetensors", TUNE, reseal_head),
)
#: Without them a network is built again, or one is asked for: that takes seconds.
DEEP = {"kept graph", "note", "tuned"}


@dataclass(frozen=True)
class Broken:
    """A broken file, and the command that reads it; `resealed` where its checksums are right."""

    format: str
    place: Path
    content: bytes
    argv: tuple[str, ...]
    resealed: bool


@st.composite
def broken_files(
    draw: st.DrawFn,
    root: Path,
    formats: tuple[Format, ...] = FORMATS,
    sums: tuple[bool, ...] = (True, False),
) -> Broken:
    """Of one of the formats whose files lie in a world's template, with right sums or without."""
    form = draw(st.sampled_from(formats))
    path = draw(st.sampled_from(sorted(root.glob(form.place))))
    argv = draw(st.sampled_from(form.readers))
    resealed = draw(st.sampled_from(sums))
    content = path.read_bytes()
    broken = form.reseal(content, draw(changes())) if resealed else draw(flips(content))
    more = ("--json",) if draw(st.booleans()) else ()
    return Broken(form.name, path.relative_to(root), broken, (*argv, *more), resealed)
