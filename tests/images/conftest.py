"""Small real image files, made on the fly."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image


def jpeg_bytes(shade: int = 0) -> bytes:
    """A JPEG of a few hundred bytes; other shades, other bytes (the last ones, at the least)."""
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (shade % 256, 50, 99)).save(buffer, "JPEG")
    return buffer.getvalue() + b"%d" % shade


@pytest.fixture
def plant(tmp_path: Path) -> Callable[..., Path]:
    """Write images at relative paths (and make their folders); gives back the root."""

    def write(*paths: str) -> Path:
        root = tmp_path / "photos"
        for shade, path in enumerate(paths):
            file = root / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(jpeg_bytes(shade))
        return root

    return write
