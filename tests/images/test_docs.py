"""docs/images.md: its code prints what the page shows, and its words are those of the program."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

from featcache.images.folder import READABLE
from featcache.images.tiff_codecs import CODECS

PAGE = (Path(__file__).parents[2] / "docs" / "images.md").read_text()


def test_the_code_of_the_page_prints_what_it_shows(tmp_path, monkeypatch):
    """Every block that is marked to be run gives the lines below it."""
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"<!-- run -->\n```python\n(.*?)```\n```\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) == 1
    for code, shown in blocks:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, "docs/images.md", "exec"), {})
        assert printed.getvalue() == shown


def test_every_codec_and_format_is_named():
    """What the program reads, the page lists."""
    for codec in {name.split(" fax")[0].split(" RLE")[0] for name in CODECS.values()}:
        assert codec in PAGE, codec
    kinds = {"jpg": "JPEG", "tif": "TIFF", "dcm": "DICOM", "pnm": "PPM", "dicom": "DICOM"}
    for ending in READABLE - {"jpeg", "jpe", "jfif", "tiff"}:
        assert kinds.get(ending, ending.upper()).upper() in PAGE.upper(), ending
