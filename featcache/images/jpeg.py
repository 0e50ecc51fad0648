"""JPEG to RGB pixels through libjpeg-turbo: strict about damage, lenient about untidiness."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import simplejpeg

from featcache.errors import BadImage
from featcache.images.image_header import (
    check_pixels,
    has_adobe_marker,
    is_progressive,
    jpeg_orientation,
    jpeg_scans,
    jpeg_size,
)
from featcache.images.pillow import read_by_pillow
from featcache.images.samples import Rgb
from featcache.images.strips import in_strips, passage
from featcache.recipe import Decoding

Pixels = np.ndarray[Any, Any]

#: Each scan is a pass over the whole image; encoders write about ten.
MAX_SCANS = 500
# A large image may not use them all: this many passes over the largest image allowed.
_FULL_PASSES = 50

# Untidy but whole, and accepted by every viewer; all other warnings mean that pixels are missing.
_HARMLESS = (
    "extraneous bytes before marker",
    "unknown JFIF revision",
    "Unknown Adobe color transform",
    "Invalid SOS parameters",
)


def decode_jpeg(raw: bytes, decoding: Decoding, *, max_pixels: int) -> Rgb:
    """The pixels of a JPEG.

    Raises `BadImage`, and whatever the decoders raise on damaged bytes.
    """
    try:
        height, width, space, _ = simplejpeg.decode_jpeg_header(raw, strict=False)
    except ValueError as error:
        if "subsampling" not in str(error):
            raise
        size = jpeg_size(raw)
        check_pixels(*size, max_pixels)
        check_scans(raw, size[0] * size[1], max_pixels)
        return _by_pillow(raw, decoding, max_pixels)
    check_pixels(height, width, max_pixels)
    check_scans(raw, height * width, max_pixels)
    # All coefficients of a progressive JPEG are held, two bytes each.
    with passage(height, width, 9 if is_progressive(raw) else 3):
        pixels, notes = _decode(raw, space, decoding, max_pixels=max_pixels)
    return Rgb(pixels, jpeg_orientation(raw), notes)


def _decode(
    raw: bytes, space: str, decoding: Decoding, *, max_pixels: int
) -> tuple[Pixels, tuple[str, ...]]:
    fast = decoding.interpolation == "keras"  # TensorFlow's DCT: its pixels, bit for bit
    try:
        return _colours(raw, space, fast=fast, strict=True), ()
    except ValueError as error:
        if not any(words in str(error) for words in _HARMLESS):
            raise
        # Not strict, libjpeg-turbo would also take a file that is cut; Pillow refuses that.
        pixels = read_by_pillow(raw, "JPEG", decoding, max_pixels=max_pixels).pixels
        notes = (f"its JPEG data is untidy: {error}",)
    try:
        return _colours(raw, space, fast=fast, strict=False), notes
    except ValueError:
        # Untidy before the first scan: its interface refuses that, strict or not.
        return pixels, notes


def check_scans(raw: bytes, pixels: int, max_pixels: int) -> None:
    """Raise `BadImage` where a JPEG makes its decoder pass over too many pixels too often."""
    # The quick count also finds marker-like bytes in thumbnails and appended video.
    if raw.count(b"\xff\xda") <= _FULL_PASSES:
        return
    scans = jpeg_scans(raw)
    if scans > MAX_SCANS or scans * pixels > _FULL_PASSES * max_pixels:
        raise BadImage(
            "too-many-scans",
            f"it has {scans:,} scans, each a pass over the whole image; at most {MAX_SCANS} are "
            "decoded, fewer of a very large image",
        )


def _colours(raw: bytes, space: str, *, fast: bool, strict: bool) -> Pixels:
    if space not in ("CMYK", "YCCK"):
        return np.asarray(simplejpeg.decode_jpeg(raw, "RGB", fastdct=fast, strict=strict))
    inks = np.asarray(simplejpeg.decode_jpeg(raw, "CMYK", fastdct=fast, strict=strict))
    is_light = has_adobe_marker(raw)

    def convert(top: int, bottom: int) -> Pixels:
        light = inks[top:bottom].astype(np.uint16)
        light = light if is_light else 255 - light
        return np.asarray(light[..., :3] * light[..., 3:] // 255, dtype=np.uint8)

    return in_strips(inks.shape[0], inks.shape[1], convert)


def _by_pillow(raw: bytes, decoding: Decoding, max_pixels: int) -> Rgb:
    """libjpeg-turbo's interface knows the usual subsamplings only; its library knows all."""
    rgb = read_by_pillow(raw, "JPEG", decoding, max_pixels=max_pixels)
    if decoding.interpolation == "keras":
        note = "its unusual JPEG subsampling is decoded with another DCT than TensorFlow's"
        return replace(rgb, notes=(note,))
    return rgb
