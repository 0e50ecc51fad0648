"""The pages of a TIFF, found by its chain of directories alone, before any reader is let loose.

Pages are the directories that are images of their own: reduced copies (pyramids, thumbnails) and
masks are none.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from featcache.errors import BadImage

#: More directories than any microscope writes into a file of 256 MB.
MOST_DIRECTORIES = 100_000

_NEW_SUBFILE, _OLD_SUBFILE = 254, 255
_REDUCED, _MASK = 1, 4
_SHORT, _LONG = 3, 4


@dataclass(frozen=True, slots=True)
class Directory:
    """Where a directory lies, and whether it holds a reduced copy, or a mask."""

    offset: int
    is_reduced: bool
    is_mask: bool


@dataclass(frozen=True, slots=True)
class _Form:
    """How numbers lie in classic TIFF and in BigTIFF, as formats of `struct`."""

    first: tuple[str, int]  # the offset of the first directory, and where it stands
    count: str
    entry: str
    value: int  # where the value stands in an entry
    following: str


_FORMS = {
    b"II*\0": _Form(("<I", 4), "<H", "<HHI4s", 8, "<I"),
    b"MM\0*": _Form((">I", 4), ">H", ">HHI4s", 8, ">I"),
    b"II+\0": _Form(("<Q", 8), "<Q", "<HHQ8s", 12, "<Q"),
    b"MM\0+": _Form((">Q", 8), ">Q", ">HHQ8s", 12, ">Q"),
}


def find_pages(raw: bytes) -> list[Directory]:
    """The pages of a TIFF in their order; the first directory counts, whatever it is.

    A chain that is broken ends where it breaks. Raises `BadImage` where it has no beginning, goes
    in a circle, or never ends.
    """
    form = _FORMS[raw[:4]]
    pages: list[Directory] = []
    seen: set[int] = set()
    offset = _number(raw, form.first[0], form.first[1])
    while offset:
        if offset in seen:
            raise BadImage("damaged", "its pages go in a circle")
        if len(seen) >= MOST_DIRECTORIES:
            raise BadImage("too-many-pages", f"it has more than {MOST_DIRECTORIES:,} pages")
        seen.add(offset)
        try:
            directory, offset = _directory(raw, form, offset)
        except struct.error:
            break
        if not pages or not (directory.is_reduced or directory.is_mask):
            pages.append(directory)
    if not pages:
        raise BadImage("damaged", "it is cut off: its header leads to no page")
    return pages


def _directory(raw: bytes, form: _Form, offset: int) -> tuple[Directory, int]:
    """The directory at an offset, and the offset of the next one."""
    (entries,) = struct.unpack_from(form.count, raw, offset)
    start, size = offset + struct.calcsize(form.count), struct.calcsize(form.entry)
    if start + entries * size > len(raw):
        raise struct.error("cut off")
    flags = 0
    for at in range(start, start + entries * size, size):
        tag, kind = struct.unpack_from(form.entry[:3], raw, at)
        if tag > _OLD_SUBFILE:
            break  # they are sorted
        if tag == _NEW_SUBFILE and kind in (_SHORT, _LONG):
            flags |= _number(raw, form.entry[0] + "HI"[kind == _LONG], at + form.value)
        if tag == _OLD_SUBFILE and kind == _SHORT:
            flags |= _REDUCED * (_number(raw, form.entry[0] + "H", at + form.value) == 2)
    directory = Directory(offset, bool(flags & _REDUCED), bool(flags & _MASK))
    end = start + entries * size
    return directory, _number(raw, form.following, end)


def _number(raw: bytes, form: str, at: int) -> int:
    """One number; 0 beyond the end."""
    size = struct.calcsize(form)
    return int(struct.unpack_from(form, raw, at)[0]) if at + size <= len(raw) else 0
