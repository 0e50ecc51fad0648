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

from featcache.decode.bad_image import BadImage
from featcache.decode.image_header import check_pixels, exif_orientation, webp_size
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
        frame = image.tile[0][1] if kind == "GIF" else None
        deep = _is_deep(raw, image)
        image.load()
        # A GIF's first frame may be smaller than its canvas; around it there is nothing.
        shown: Image = image.crop(frame) if frame else image
        pixels, warning = _convert(shown, raw if deep else None, decoding)
        return pixels, exif_orientation(image.info.get("exif", b"")), warning


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


def _convert(image: Image, deep: bytes | None, decoding: Decoding) -> tuple[Pixels, str]:
    if deep is not None:
        return _from_16_bits(_deep_pixels(deep), decoding)
    if image.mode.startswith("I;16"):
        return _from_16_bits(np.asarray(image).astype(np.uint16)[..., np.newaxis], decoding)
    if image.mode in ("I", "F"):
        return _from_32_bits(np.asarray(image), decoding), ""
    if decoding.interpolation == "area" and image.has_transparency_data:
        pixels = np.asarray(image.convert("RGBA"))
        return _over_white(pixels[..., :3], pixels[..., 3:]), ""
    return np.asarray(image.convert("RGB")), ""


def _deep_pixels(raw: bytes) -> Pixels:
    """(H, W, 3 or 4) uint16; Pillow has already found the file whole."""
    pixels = cv2.imdecode(np.frombuffer(raw, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.dtype != np.uint16 or pixels.ndim != 3:
        raise BadImage(
            "not-supported", "16-bit colour is stored in a way that is not read: convert it to PNG"
        )
    return np.asarray(pixels[..., [2, 1, 0, 3][: pixels.shape[2]]])


def _from_16_bits(pixels: Pixels, decoding: Decoding) -> tuple[Pixels, str]:
    colours = pixels[..., :3]
    eight, warning = _to_8_bits(colours, decoding), _depth_warning(colours, decoding)
    if eight.shape[2] == 1:
        eight = np.repeat(eight, 3, axis=2)
    if pixels.shape[2] == 4 and decoding.interpolation == "area":
        alpha = _rounded(pixels[..., 3:], 257)
        eight = _over_white(eight, alpha)
    return eight, warning


def _to_8_bits(pixels: Pixels, decoding: Decoding) -> Pixels:
    if decoding.bit_depth == "minmax":
        return _stretched(pixels)
    if decoding.bit_depth == "12":
        return _rounded(np.minimum(pixels, 4095).astype(np.uint32) * 255, 4095)
    if decoding.interpolation == "keras":
        return (pixels >> 8).astype(np.uint8)  # TensorFlow keeps the high byte
    return _rounded(pixels, 257)


def _depth_warning(pixels: Pixels, decoding: Decoding) -> str:
    most = int(pixels.max())
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
    return np.repeat(_stretched(pixels)[..., np.newaxis], 3, axis=2)


def _stretched(pixels: Pixels) -> Pixels:
    """From the least and greatest value of this image to 0 and 255; one value becomes 0."""
    values = pixels.astype(np.float64)
    values -= values.min()
    most = values.max()
    return np.rint(values * (255.0 / most) if most else values).astype(np.uint8)


def _rounded(values: Pixels, divisor: int) -> Pixels:
    return ((values.astype(np.uint32) + divisor // 2) // divisor).astype(np.uint8)


def _over_white(colours: Pixels, alpha: Pixels) -> Pixels:
    """Transparent pixels show white, not the colours that happen to hide behind them."""
    opaque = alpha.astype(np.uint32)
    return _rounded(colours * opaque + 255 * (255 - opaque), 255)
