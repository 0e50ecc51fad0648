"""Large images: converted in strips of rows, and one image at a time.

Whole images in wide types would cost twenty bytes a pixel and more, in every thread at once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from featcache.errors import BadImage

Pixels = np.ndarray[Any, Any]

#: Decoded bytes for each pixel of the limit: an image of 8 bits and four channels may use it up.
BYTES_A_PIXEL = 4
#: Images that need more bytes than this while they are decoded pass one at a time.
LARGE = 256 * 2**20

_STRIP = 1 << 20  # pixels
_one_at_a_time = threading.Lock()


def check_bytes(height: int, width: int, bytes_a_pixel: int, max_pixels: int) -> None:
    """Raise `BadImage` where deep pixels would decode to more bytes than the limit allows."""
    size, most = height * width * bytes_a_pixel, BYTES_A_PIXEL * max_pixels
    if size > most:
        raise BadImage(
            "too-many-pixels",
            f"{width}x{height} pixels of {bytes_a_pixel} bytes are {size:,} bytes; at most "
            f"{most:,} are decoded, {BYTES_A_PIXEL} for each pixel of --max-pixels",
        )


@contextmanager
def passage(height: int, width: int, bytes_a_pixel: int) -> Iterator[None]:
    """Wait for other large images, if this one is large: beside it its RGB pixels are made."""
    if height * width * (bytes_a_pixel + 3) <= LARGE:
        yield
        return
    with _one_at_a_time:
        yield


def in_strips(height: int, width: int, convert: Callable[[int, int], Pixels]) -> Pixels:
    """(height, width, 3) uint8 pixels, of which `convert` gives the rows from one to another."""
    step = max(1, _STRIP // width)
    if height <= step:
        return convert(0, height)
    pixels = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, step):
        bottom = min(top + step, height)
        pixels[top:bottom] = convert(top, bottom)
    return pixels
