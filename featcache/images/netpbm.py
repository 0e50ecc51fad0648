"""PBM, PGM and PPM: a few numbers as text, then the samples, as text or as bytes."""

from __future__ import annotations

import re

import numpy as np

from featcache.errors import BadImage
from featcache.images.image_header import check_pixels
from featcache.images.samples import Rgb, Samples, to_rgb
from featcache.images.strips import check_bytes, passage
from featcache.recipe import Decoding

# A number of the header, behind white space and comments.
_NUMBER = re.compile(rb"(?:\s|#[^\n]*\n)*(\d{1,9})")
_COMMENT = re.compile(rb"#[^\n]*")
_TEXT, _BITS, _COLOURS = (b"P1", b"P2", b"P3"), (b"P1", b"P4"), (b"P3", b"P6")


def read_netpbm(raw: bytes, decoding: Decoding, *, max_pixels: int) -> Rgb:
    """The pixels of a file of one image (of several, the first).

    Raises `BadImage` where its header is none, or its samples are too few or too large.
    """
    kind, is_bits = raw[:2], raw[:2] in _BITS
    numbers, at = [], 2
    for _ in range(2 if is_bits else 3):
        found = _NUMBER.match(raw, at)
        if found is None:
            raise BadImage("damaged", "its header does not say width, height and largest value")
        numbers.append(int(found[1]))
        at = found.end()
    (width, height), white = numbers[:2], 1 if is_bits else numbers[2]
    check_pixels(height, width, max_pixels)
    if not 1 <= white <= 65535:
        raise BadImage("damaged", f"its header says values up to {white}; expected 1 to 65535")
    samples = 3 if kind in _COLOURS else 1
    deep = 2 if white > 255 else 1
    check_bytes(height, width, samples * deep, max_pixels)
    with passage(height, width, samples * deep):
        shape = (height, width, samples)
        if kind in _TEXT:
            values = _text(raw, at, shape)
        else:
            values = _packed(raw, at, shape) if is_bits else _bytes(raw, at, shape, deep)
        if int(values.max()) > white:
            raise BadImage("damaged", f"it has values above {white}, the largest by its header")
        page = Samples(
            colours=values,
            meaning="rgb" if samples == 3 else "grey",
            white=white,
            inverted=is_bits,
        )
        return to_rgb(page, decoding)


def _bytes(raw: bytes, at: int, shape: tuple[int, int, int], deep: int) -> np.ndarray:
    count = int(np.prod(shape))
    if len(raw) - (at + 1) < count * deep:
        raise _cut()
    values = np.frombuffer(raw, ">u2" if deep == 2 else "u1", count, at + 1)
    return values.astype(np.uint16 if deep == 2 else np.uint8, copy=False).reshape(shape)


def _packed(raw: bytes, at: int, shape: tuple[int, int, int]) -> np.ndarray:
    height, width, _ = shape
    row = -(-width // 8)
    if len(raw) - (at + 1) < height * row:
        raise _cut()
    packed = np.frombuffer(raw, np.uint8, height * row, at + 1).reshape(height, row)
    return np.unpackbits(packed, axis=1, count=width).reshape(shape)


def _text(raw: bytes, at: int, shape: tuple[int, int, int]) -> np.ndarray:
    count, body = int(np.prod(shape)), _COMMENT.sub(b"", raw[at:])
    # Bits may stand without white space between them.
    words = (
        body.split(maxsplit=count) if raw[:2] != b"P1" else list(b"".join(body.split()).decode())
    )
    try:
        values = np.array(words[:count], dtype=np.uint32)
    except (ValueError, OverflowError) as error:
        raise BadImage("damaged", "it has samples that are no numbers") from error
    if len(values) < count:
        raise _cut()
    return values.clip(0, 65535).astype(np.uint16).reshape(shape)


def _cut() -> BadImage:
    return BadImage("damaged", "it is cut off: there are fewer samples than its header says")
