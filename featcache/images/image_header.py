"""What the first bytes of an image say, read before any decoder is let loose on the rest."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

from featcache.errors import BadImage

_MAGIC = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"BM", "BMP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
)
# Other formats, by name only: none of their parsers is ever reached.
_OTHERS = (
    (b"8BPS", "Photoshop (PSD)"),
    (b"%PDF", "PDF"),
    (b"%!PS", "PostScript (EPS)"),
    (b"SIMPLE  =", "FITS"),
    (b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\0\x0cJXL ", "JPEG XL"),
    (b"\0\0\1\0", "ICO"),
    (b"P7\n", "PAM"),
    (b"Pf\n", "PFM"),
    (b"PF\n", "PFM"),
    (b"<svg", "SVG"),
    (b"<?xml", "SVG or other XML"),
)
_BRANDS = dict.fromkeys([b"avif", b"avis"], "AVIF") | dict.fromkeys(
    [b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"], "HEIC"
)
_NETPBM = re.compile(rb"P[1-6][\s#]")
#: What is read, in words.
FORMATS = "JPEG, PNG, TIFF, WebP, GIF, BMP, AVIF, HEIC, DICOM, PPM or PGM"
_ORIENTATION = 0x0112
_START_OF_SCAN = 0xDA
# Segments that say a JPEG's size; C4, C8 and CC are tables.
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = {0xC2, 0xC6, 0xCA, 0xCE}
# Within a scan FF is followed by 00 or a restart marker; anything else ends the scan.
_MARKER = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])")


def sniff(raw: bytes) -> str:
    """The format by its first bytes, never by a name, as `FORMATS` has it.

    Raises `BadImage` for every other format.
    """
    for magic, kind in _MAGIC:
        if raw.startswith(magic):
            return kind
    if raw[:4] == b"RIFF" and raw[8:12] == b"WEBP":
        return "WEBP"
    if raw[4:8] == b"ftyp" and (brand := _BRANDS.get(raw[8:12])):
        return brand
    if raw[128:132] == b"DICM":
        return "DICOM"
    if _NETPBM.match(raw):
        return "NETPBM"
    if other := _other_format(raw):
        raise BadImage("not-supported", f"{other} is not supported: convert it to PNG or JPEG")
    raise BadImage(
        "not-an-image",
        f"its first bytes {raw[:8]!r} are not those of a {FORMATS} image",
    )


def _other_format(raw: bytes) -> str:
    if raw[4:8] == b"ftyp":
        return "video"
    start = raw[:64].lstrip(b"\xef\xbb\xbf \t\r\n")
    return next((kind for magic, kind in _OTHERS if start.startswith(magic)), "")


def check_pixels(height: int, width: int, max_pixels: int) -> None:
    """Raise `BadImage` where an image has no pixels, or more than `max_pixels`."""
    if height < 1 or width < 1:
        raise BadImage("damaged", f"its header says {width}x{height} pixels")
    if height * width > max_pixels:
        raise BadImage(
            "too-many-pixels",
            f"{width}x{height} are {height * width:,} pixels; at most {max_pixels:,} are decoded",
        )


def webp_size(raw: bytes) -> tuple[int, int]:
    """(height, width) of a WebP file's canvas; its decoder would allocate that on opening."""
    kind, body = raw[12:16], raw[20:30]
    if len(body) < 10:
        raise BadImage("damaged", "the WebP header is cut off")
    if kind == b"VP8X":
        width = int.from_bytes(body[4:7], "little") + 1
        return int.from_bytes(body[7:10], "little") + 1, width
    if kind == b"VP8L":
        packed = int.from_bytes(body[1:5], "little")
        return (packed >> 14 & 0x3FFF) + 1, (packed & 0x3FFF) + 1
    width, height = struct.unpack_from("<HH", body, 6)
    return height & 0x3FFF, width & 0x3FFF


def exif_orientation(exif: bytes) -> int:
    """The orientation, 1 to 8, in a block of EXIF; 1 where there is none."""
    exif = exif.removeprefix(b"Exif\0\0")
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    try:
        if order is None:
            return 1
        (start,) = struct.unpack_from(order + "I", exif, 4)
        (entries,) = struct.unpack_from(order + "H", exif, start)
        for at in range(start + 2, start + 2 + 12 * entries, 12):
            tag, kind, _, value = struct.unpack_from(order + "HHIH", exif, at)
            if (tag, kind) == (_ORIENTATION, 3):
                return value if 1 <= value <= 8 else 1
    except struct.error:
        # Cameras and editors write broken EXIF; the pixels are sound, so they stay upright.
        return 1
    return 1


def jpeg_segments(raw: bytes) -> Iterator[tuple[int, bytes]]:
    """The marker and content of each segment of a JPEG before its first scan."""
    at = 2
    while at + 4 <= len(raw) and raw[at] == 0xFF:
        marker, length = raw[at + 1], int.from_bytes(raw[at + 2 : at + 4], "big")
        if marker == _START_OF_SCAN:
            return
        if marker == 0xFF:  # a fill byte
            at += 1
            continue
        yield marker, raw[at + 4 : at + 2 + length]
        at += 2 + length


def jpeg_size(raw: bytes) -> tuple[int, int]:
    """(height, width) of a JPEG; raises `BadImage` where no segment before its scans says it."""
    for marker, part in jpeg_segments(raw):
        if marker in _FRAMES and len(part) >= 5:
            return int.from_bytes(part[1:3], "big"), int.from_bytes(part[3:5], "big")
    raise BadImage("damaged", "its header says no size")


def is_progressive(raw: bytes) -> bool:
    """Whether a JPEG comes in scans that refine the whole image."""
    return any(marker in _PROGRESSIVE for marker, _ in jpeg_segments(raw))


def jpeg_orientation(raw: bytes) -> int:
    """The EXIF orientation of a JPEG, 1 to 8; 1 where it says nothing."""
    exif = (part for marker, part in jpeg_segments(raw) if marker == 0xE1)
    return exif_orientation(next((part for part in exif if part.startswith(b"Exif\0\0")), b""))


def has_adobe_marker(raw: bytes) -> bool:
    """Whether a JPEG has Adobe's segment, which says that CMYK is stored inverted."""
    return any(
        marker == 0xEE and len(part) >= 12 and part.startswith(b"Adobe")
        for marker, part in jpeg_segments(raw)
    )


def jpeg_scans(raw: bytes) -> int:
    """How many scans a JPEG has: each is a pass over the whole image, so they are a time bomb."""
    scans, at = 0, 2
    while found := _MARKER.search(raw, at):
        marker = found[1][0]
        at = found.end()
        if marker == 0xD9:
            break
        if marker == _START_OF_SCAN:
            scans += 1
        if marker not in (0x01, 0xD8):
            at += max(2, int.from_bytes(raw[at : at + 2], "big"))
    return scans
