"""The codecs of TIFF that are read, and what a segment must be before one of them sees it.

Decoders allocate what a segment's own header says, and some fill what is missing: so sizes are
compared with the page's, and JPEG is decoded strictly first.
"""

from __future__ import annotations

import struct
from math import prod
from typing import Any

import simplejpeg

from featcache.errors import BadImage
from featcache.images.image_header import jpeg_segments, jpeg_size, webp_size
from featcache.images.jpeg import check_scans
from featcache.images.strips import check_bytes
from featcache.images.tiff_header import refused

#: By number; those after the line hold a whole image in every strip or tile.
CODECS = {
    1: "none", 2: "CCITT RLE", 3: "CCITT fax 3", 4: "CCITT fax 4", 5: "LZW", 8: "deflate",
    32773: "PackBits", 32946: "deflate", 34925: "LZMA", 34926: "zstd", 50000: "zstd",
    # ----
    7: "JPEG", 34712: "JPEG 2000", 50001: "WebP",
}  # fmt: skip
_NONE, _JPEG, _JPEG_2000, _WEBP = 1, 7, 34712, 50001
_BASELINE_OR_PROGRESSIVE = {0xC0, 0xC1, 0xC2}
_START_OF_CODESTREAM = b"\xff\x4f\xff\x51"


def check_segments(page: Any, raw: bytes, max_pixels: int) -> None:
    """Raise `BadImage` where a page's strips or tiles are missing, cut off or too large.

    Raises it too where they are made by a codec that is not on the list.
    """
    codec = int(page.compression)
    if codec not in CODECS:
        name = getattr(page.compression, "name", str(codec))
        raise refused(f"TIFF compression {name} is not supported")
    spans = list(zip(page.dataoffsets, page.databytecounts, strict=False))
    if len(spans) < prod(page.chunked):
        raise BadImage("damaged", "its header does not say where all of its pixels are")
    spans = spans[: prod(page.chunked)]
    if any(count == 0 for _, count in spans):
        raise refused("TIFF that leaves out strips or tiles (sparse) is not supported")
    if any(offset + count > len(raw) for offset, count in spans):
        raise BadImage("damaged", "it is cut off: some of its pixels lie beyond its end")
    height, width, samples = _shape(page)
    check_bytes(height, width, samples * page.dtype.itemsize, max_pixels)
    if codec == _NONE and sum(count for _, count in spans) * 8 < _least_bits(page):
        raise BadImage("damaged", "it has fewer bytes of pixels than its size needs")
    check = {_JPEG: _check_jpeg, _JPEG_2000: _check_jpeg_2000, _WEBP: _check_webp}.get(codec)
    if check:
        for offset, count in spans:
            check(raw[offset : offset + count], page, max_pixels)


def _shape(page: Any) -> tuple[int, int, int]:
    """Height, width and samples of the largest segment."""
    samples = int(page.samplesperpixel) if page.planarconfig == 1 else 1
    if page.is_tiled:
        return int(page.tilelength), int(page.tilewidth), samples
    return int(page.rowsperstrip), int(page.imagewidth), samples


def _least_bits(page: Any) -> int:
    pixels = int(page.imagelength) * int(page.imagewidth)
    return pixels * int(page.samplesperpixel) * int(page.bitspersample)


def _check_size(page: Any, height: int, width: int, samples: int, bits: int) -> None:
    most = _shape(page)
    fits = 0 < height <= most[0] and 0 < width <= most[1]
    if not fits or (samples, bits) != (most[2], page.bitspersample):
        raise BadImage(
            "damaged",
            f"a part of it says {width}x{height} pixels of {samples} x {bits} bits, the header "
            f"{most[1]}x{most[0]} of {most[2]} x {page.bitspersample}",
        )


def _check_jpeg(segment: bytes, page: Any, max_pixels: int) -> None:
    tables = page.jpegtables
    whole = tables[:-2] + segment[2:] if tables else segment
    frames = [(kind, part) for kind, part in jpeg_segments(whole) if 0xC0 <= kind <= 0xCF]
    frames = [(kind, part) for kind, part in frames if kind not in (0xC4, 0xC8, 0xCC)]
    if not frames or len(frames[0][1]) < 6:
        raise BadImage("damaged", "a part of it is no JPEG")
    kind, part = frames[0]
    if kind not in _BASELINE_OR_PROGRESSIVE or part[0] != 8:
        raise refused("TIFF with lossless, arithmetic or 12-bit JPEG inside is not supported")
    height, width = jpeg_size(whole)
    _check_size(page, height, width, part[5], part[0])
    check_scans(whole, height * width, max_pixels)
    # Its decoder would fill what is missing with grey, and say nothing.
    space = {1: "GRAY", 3: "RGB", 4: "CMYK"}.get(part[5], "GRAY")
    simplejpeg.decode_jpeg(whole, space, strict=True)


def _check_jpeg_2000(segment: bytes, page: Any, max_pixels: int) -> None:
    at = segment.find(_START_OF_CODESTREAM)
    if at < 0 or len(segment) < at + 43:
        raise BadImage("damaged", "a part of it is no JPEG 2000")
    right, bottom, left, top = struct.unpack_from(">4I", segment, at + 8)
    samples, depth = struct.unpack_from(">HB", segment, at + 40)
    _check_size(page, bottom - top, right - left, samples, (depth & 0x7F) + 1)


def _check_webp(segment: bytes, page: Any, max_pixels: int) -> None:
    height, width = webp_size(segment)
    _check_size(page, height, width, _shape(page)[2], 8)
