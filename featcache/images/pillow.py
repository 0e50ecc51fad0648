"""PNG, GIF, BMP, TIFF and WebP to RGB pixels of 8 bits: through Pillow, whatever the mode.

ICC profiles are ignored; of an animation or a book of pages the first is taken.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any, BinaryIO

import cv2
import numpy as np
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)
from PIL.Image import Image
from PIL.ImageFile import ImageFile

from featcache.errors import BadImage
from featcache.images.image_header import check_pixels, exif_orientation, webp_size
from featcache.images.strips import check_bytes, in_strips, passage
from featcache.recipe import Decoding

Pixels = np.ndarray[Any, Any]

# The classes themselves, not `Image.open`: no other parser can be reached, and our own limit on
# pixels holds without touching Pillow's global one.
_READERS: dict[str, Callable[[BinaryIO], ImageFile]] = {
    "PNG": PngImagePlugin.PngImageFile,
    "GIF": GifImagePlugin.GifImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "TIFF": TiffImagePlugin.TiffImageFile,
    "WEBP": WebPImagePlugin.WebPImageFile,
    "JPEG": JpegImagePlugin.JpegImageFile,  # only where libjpeg-turbo needs help (see `jpeg.py`)
}
#: Bytes of a pixel as Pillow holds it, where it is not four.
_BYTES = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2}
_NEW_SUBFILE, _BITS_PER_SAMPLE, _DNG_VERSION = 254, 258, 50706
_LEAST_SHARE = 8  # 16-bit data that stays below 1/8 of the range is likely 12-bit or less


def to_rgb(
    raw: bytes, kind: str, decoding: Decoding, *, max_pixels: int
) -> tuple[Pixels, int, str]:
    """(H, W, 3) uint8 pixels, the EXIF orientation still to be applied, and a warning or "".

    Raises `BadImage`, and whatever Pillow raises on damaged bytes.
    """
    if kind == "WEBP":
        check_pixels(*webp_size(raw), max_pixels)
    if kind == "TIFF" and raw[8:10] == b"CR":
        raise _camera_raw()
    with _READERS[kind](io.BytesIO(raw)) as image:
        check_pixels(image.height, image.width, max_pixels)
        if isinstance(image, TiffImagePlugin.TiffImageFile):
            _refuse_camera_raw(image)
        deep = _is_deep(raw, image)
        depth = 2 * (4 if "A" in image.mode else 3) if deep else _BYTES.get(image.mode, 4)
        check_bytes(image.height, image.width, depth, max_pixels)
        with passage(image.height, image.width, depth):
            pixels, warning = _pixels(image, raw if deep else None, decoding)
        return pixels, exif_orientation(image.info.get("exif", b"")), warning


def _pixels(image: ImageFile, deep: bytes | None, decoding: Decoding) -> tuple[Pixels, str]:
    frame = image.tile[0][1] if isinstance(image, GifImagePlugin.GifImageFile) else None
    image.load()
    if deep is not None:
        image.close()  # found whole; its 8 bits are not used
        return _from_16_bits(_deep_pixels(deep), decoding)
    # A GIF's first frame may be smaller than its canvas; around it there is nothing.
    return _convert(image.crop(frame) if frame else image, decoding)


def _refuse_camera_raw(image: TiffImagePlugin.TiffImageFile) -> None:
    """Camera raw files are TIFF files whose first page is a thumbnail: not what anybody means."""
    if _DNG_VERSION in image.tag_v2 or image.tag_v2.get(_NEW_SUBFILE, 0) & 1:
        raise _camera_raw()


def _camera_raw() -> BadImage:
    return BadImage(
        "not-supported",
        "a camera's raw file (or a TIFF that begins with a thumbnail) is not supported: convert it "
        "to PNG or JPEG",
    )


def _is_deep(raw: bytes, image: Image) -> bool:
    """Whether there are 16 bits a channel where Pillow would keep eight."""
    if isinstance(image, PngImagePlugin.PngImageFile):
        return raw[24] == 16 and not image.mode.startswith("I")
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        return image.mode.startswith("RGB") and set(image.tag_v2.get(_BITS_PER_SAMPLE, ())) == {16}
    return False


def _convert(image: Image, decoding: Decoding) -> tuple[Pixels, str]:
    if image.mode.startswith("I;16"):
        return _from_16_bits(np.asarray(image).astype(np.uint16)[..., np.newaxis], decoding)
    if image.mode in ("I", "F"):
        return _from_32_bits(np.asarray(image), decoding), ""
    is_over_white = decoding.interpolation == "area" and image.has_transparency_data

    def convert(top: int, bottom: int) -> Pixels:
        is_whole = bottom - top == image.height
        rows = image if is_whole else image.crop((0, top, image.width, bottom))
        if not is_over_white:
            return np.asarray(rows.convert("RGB"))
        pixels = np.asarray(rows.convert("RGBA"))
        return _over_white(pixels[..., :3], pixels[..., 3:])

    return in_strips(image.height, image.width, convert), ""


def _deep_pixels(raw: bytes) -> Pixels:
    """(H, W, 3 or 4) uint16, blue first; Pillow has already found the file whole."""
    pixels = cv2.imdecode(np.frombuffer(raw, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.dtype != np.uint16 or pixels.ndim != 3:
        raise BadImage(
            "not-supported", "16-bit colour is stored in a way that is not read: convert it to PNG"
        )
    return np.asarray(pixels)


def _from_16_bits(pixels: Pixels, decoding: Decoding) -> tuple[Pixels, str]:
    """Of (H, W, 1) grey or (H, W, 3 or 4) blue, green, red and alpha."""
    colours = pixels[..., :3]
    least, most = int(colours.min()), int(colours.max())

    def convert(top: int, bottom: int) -> Pixels:
        rows = pixels[top:bottom]
        eight = _to_8_bits(rows[..., 2::-1] if rows.shape[2] > 1 else rows, decoding, least, most)
        if eight.shape[2] == 1:
            eight = np.repeat(eight, 3, axis=2)
        if rows.shape[2] == 4 and decoding.interpolation == "area":
            return _over_white(eight, _rounded(rows[..., 3:], 257))
        return eight

    return in_strips(pixels.shape[0], pixels.shape[1], convert), _depth_warning(most, decoding)


def _to_8_bits(pixels: Pixels, decoding: Decoding, least: int, most: int) -> Pixels:
    if decoding.bit_depth == "minmax":
        return _stretched(pixels, least, most)
    if decoding.bit_depth == "12":
        return _rounded(np.minimum(pixels, 4095).astype(np.uint32) * 255, 4095)
    if decoding.interpolation == "keras":
        return (pixels >> 8).astype(np.uint8)  # TensorFlow keeps the high byte
    return _rounded(pixels, 257)


def _depth_warning(most: int, decoding: Decoding) -> str:
    if decoding.bit_depth != "16" or not 0 < most < 65536 // _LEAST_SHARE:
        return ""
    return (
        f"its 16-bit values end at {most} of 65535, so it is nearly black: use --bit-depth 12 "
        "for 12-bit data, or --bit-depth minmax"
    )


def _from_32_bits(pixels: Pixels, decoding: Decoding) -> Pixels:
    if decoding.bit_depth != "minmax":
        raise BadImage(
            "bit-depth",
            f"its pixels are {pixels.dtype}, which has no fixed range: use --bit-depth minmax to "
            "stretch each image from its least to its greatest value",
        )
    if not np.isfinite(pixels).all():
        raise BadImage("not-finite", "some of its pixels are NaN or infinite")
    least, most = float(pixels.min()), float(pixels.max())

    def convert(top: int, bottom: int) -> Pixels:
        eight = _stretched(pixels[top:bottom], least, most)
        return np.repeat(eight[..., np.newaxis], 3, axis=2)

    return in_strips(pixels.shape[0], pixels.shape[1], convert)


def _stretched(pixels: Pixels, least: float, most: float) -> Pixels:
    """From the least and greatest value of the image to 0 and 255; one value becomes 0."""
    values = pixels.astype(np.float64) - least
    return np.rint(values * (255.0 / (most - least)) if most > least else values).astype(np.uint8)


def _rounded(values: Pixels, divisor: int) -> Pixels:
    return ((values.astype(np.uint32) + divisor // 2) // divisor).astype(np.uint8)


def _over_white(colours: Pixels, alpha: Pixels) -> Pixels:
    """Transparent pixels show white, not the colours that happen to hide behind them."""
    opaque = alpha.astype(np.uint32)
    return _rounded(colours * opaque + 255 * (255 - opaque), 255)
