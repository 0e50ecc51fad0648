"""CSV cells that no spreadsheet takes for a formula, and that come back exactly as they were.

A cell that would begin with one of ``= + - @``, a tab or a line break gets an apostrophe in front;
one that already has apostrophes before such a character gets one more. Our readers take one away
again. Every other cell is written as it is: ``'tis`` stays ``'tis``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_FORMULA = re.compile(r"'*[=+\-@\t\r\n]")
_GUARDED = re.compile(r"'+[=+\-@\t\r\n]")
# Beside what must be quoted, what other programs part cells at.
_QUOTED = re.compile(r'[",;\t\r\n]|^\s|\s$')


def guarded(text: str) -> str:
    """The cell that no spreadsheet takes for a formula."""
    return f"'{text}" if _FORMULA.match(text) else text


def unguarded(cell: str) -> str:
    """What `guarded` was given."""
    return cell[1:] if _GUARDED.match(cell) else cell


def csv_line(cells: Iterable[object], end: str = "\n") -> str:
    """A line of CSV; line breaks and commas within cells are quoted."""
    return ",".join(map(_quoted, cells)) + end


def _quoted(cell: object) -> str:
    text = str(cell)
    return '"' + text.replace('"', '""') + '"' if _QUOTED.search(text) else text
