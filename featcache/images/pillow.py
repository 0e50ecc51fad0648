"""PNG, GIF, BMP, WebP, AVIF and HEIC to RGB pixels of 8 bits: through Pillow, whatever the mode.

ICC profiles are ignored; of an animation the first frame is taken.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any, BinaryIO

import cv2
import numpy as np
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    WebPImagePlugin,
)
from PIL.Image import Image
from PIL.ImageFile import ImageFile

from featcache.errors import BadImage
from featcache.images.image_header import check_pixels, exif_orientation, webp_size
from featcache.images.samples import Rgb, Samples, over_white, to_rgb
from featcache.images.strips import check_bytes, in_strips, passage
from featcache.recipe import Decoding

Pixels = np.ndarray[Any, Any]


def _heif(file: BinaryIO) -> ImageFile:
    """A HEIC file; raises `BadImage` where the extra that reads it is not installed."""
    try:
        from pi_heif.as_plugin import HeifImageFile
    except ImportError as error:
        raise BadImage("needs-extra", NEEDS_HEIC) from error
    opened: ImageFile = HeifImageFile(file)
    return opened


NEEDS_HEIC = (
    'HEIC is not supported without an extra: pip install "featcache[heic]", or convert it to PNG '
    "or JPEG"
)
ANIMATED = "it holds several images (an animation), of which the first was read"

# The classes themselves, not `Image.open`: no other parser can be reached, and our own limit on
# pixels holds without touching Pillow's global one.
_READERS: dict[str, Callable[[BinaryIO], ImageFile]] = {
    "PNG": PngImagePlugin.PngImageFile,
    "GIF": GifImagePlugin.GifImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "WEBP": WebPImagePlugin.WebPImageFile,
    "AVIF": AvifImagePlugin.AvifImageFile,
    "HEIC": _heif,
    "JPEG": JpegImagePlugin.JpegImageFile,  # only where libjpeg-turbo needs help (see `jpeg.py`)
}
#: Bytes of a pixel as Pillow holds it, where it is not four.
_BYTES = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2}


def read_by_pillow(raw: bytes, kind: str, decoding: Decoding, *, max_pixels: int) -> Rgb:
    """The pixels of an image.

    Raises `BadImage`, and whatever Pillow raises on damaged bytes.
    """
    if kind == "WEBP":
        check_pixels(*webp_size(raw), max_pixels)
    with _READERS[kind](io.BytesIO(raw)) as image:
        check_pixels(image.height, image.width, max_pixels)
        deep = kind == "PNG" and raw[24] == 16 and not image.mode.startswith("I")
        depth = 2 * (4 if "A" in image.mode else 3) if deep else _BYTES.get(image.mode, 4)
        check_bytes(image.height, image.width, depth, max_pixels)
        orientation = exif_orientation(image.info.get("exif") or b"")
        notes = (ANIMATED,) if kind != "JPEG" and getattr(image, "is_animated", False) else ()
        with passage(image.height, image.width, depth):
            rgb = _rgb(image, raw if deep else None, decoding)
        return Rgb(rgb.pixels, orientation, notes, rgb.peak)


def _rgb(image: ImageFile, deep: bytes | None, decoding: Decoding) -> Rgb:
    frame = image.tile[0][1] if isinstance(image, GifImagePlugin.GifImageFile) else None
    image.load()
    if deep is not None:
        image.close()  # found whole; its 8 bits are not used
        return to_rgb(_deep_samples(deep), decoding)
    if image.mode.startswith("I;16"):
        values = np.asarray(image).astype(np.uint16)[..., np.newaxis]
        return to_rgb(Samples(colours=values, meaning="grey", white=65535), decoding)
    # A GIF's first frame may be smaller than its canvas; around it there is nothing.
    return Rgb(_convert(image.crop(frame) if frame else image, decoding))


def _convert(image: Image, decoding: Decoding) -> Pixels:
    is_over_white = decoding.interpolation == "area" and image.has_transparency_data

    def convert(top: int, bottom: int) -> Pixels:
        is_whole = bottom - top == image.height
        rows = image if is_whole else image.crop((0, top, image.width, bottom))
        if not is_over_white:
            return np.asarray(rows.convert("RGB"))
        pixels = np.asarray(rows.convert("RGBA"))
        return over_white(pixels[..., :3], pixels[..., 3:])

    return in_strips(image.height, image.width, convert)


def _deep_samples(raw: bytes) -> Samples:
    """16-bit colours of a PNG that Pillow has found whole, where it would keep 8 bits."""
    pixels = cv2.imdecode(np.frombuffer(raw, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.dtype != np.uint16 or pixels.ndim != 3:
        raise BadImage(
            "not-supported", "16-bit colour is stored in a way that is not read: convert it to PNG"
        )
    alpha = pixels[..., 3] if pixels.shape[2] == 4 else None
    return Samples(
        colours=pixels[..., 2::-1], meaning="rgb", white=65535, alpha=alpha, alpha_white=65535
    )
