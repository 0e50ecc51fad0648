"""One image's bytes to the pixels a network sees.

    bytes --sniff, check--> decoder --turn upright--> RGB of any size --resize--> (height, width, 3)

Safe in threads; libjpeg-turbo, Pillow and OpenCV release the GIL while they work.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import cv2
import numpy as np
import PIL
import simplejpeg

from featcache.errors import BadImage
from featcache.images.dicom import read_dicom
from featcache.images.image_header import check_pixels, sniff
from featcache.images.jpeg import decode_jpeg
from featcache.images.netpbm import read_netpbm
from featcache.images.pages import PageOf
from featcache.images.pillow import read_by_pillow
from featcache.images.resize import resize
from featcache.images.samples import Rgb, chosen_of_rgb, depth_advice
from featcache.images.tiff import check_page, read_tiff
from featcache.recipe import Decoding

Pixels = np.ndarray[Any, Any]

#: Images of more pixels are refused before they are decoded.
MAX_PIXELS = 64_000_000

# What turns an image upright, by its EXIF orientation; 1 is upright already.
_UPRIGHT: dict[int, Callable[[Pixels], Pixels]] = {
    2: lambda pixels: cv2.flip(pixels, 1),
    3: lambda pixels: cv2.rotate(pixels, cv2.ROTATE_180),
    4: lambda pixels: cv2.flip(pixels, 0),
    5: lambda pixels: cv2.transpose(pixels),
    6: lambda pixels: cv2.rotate(pixels, cv2.ROTATE_90_CLOCKWISE),
    7: lambda pixels: cv2.rotate(cv2.transpose(pixels), cv2.ROTATE_180),
    8: lambda pixels: cv2.rotate(pixels, cv2.ROTATE_90_COUNTERCLOCKWISE),
}


@dataclass(frozen=True, slots=True)
class Decoded:
    """One decoded image.

    Attributes
    ----------
    pixels: (height, width, 3) RGB of `Decoding.size` and `Decoding.pixel_type`, C-contiguous.
    source_size: (height, width) before the resize, turned upright where EXIF is applied.
    notes: sentences about what may be wrong; the same for all images that they are true of.
    peak: the largest value where samples of 16 bits were made 8; 0 where there was none.
    bit_depth: by which they were.
    """

    pixels: Pixels
    source_size: tuple[int, int]
    notes: tuple[str, ...]
    peak: int
    bit_depth: str

    @property
    def warning(self) -> str:
        """Everything that may be wrong with the image, in a line; "" where there is nothing."""
        return "; ".join(filter(None, [*self.notes, depth_advice(self.peak, self.bit_depth)]))


Content = bytes | Pixels | PageOf


def decode(image: Content, decoding: Decoding, *, max_pixels: int = MAX_PIXELS) -> Decoded:
    """A file's bytes, a page, or (H, W, 3 | 1) or (H, W) uint8 pixels, as `decoding` says.

    Raises `BadImage`, and nothing else, where the image cannot be used.
    """
    return decode_all(image, [decoding], max_pixels=max_pixels)[0]


def decode_all(
    image: Content, decodings: Sequence[Decoding], *, max_pixels: int = MAX_PIXELS
) -> list[Decoded]:
    """The same for several decodings; those that differ in geometry alone share the work."""
    shared: dict[Decoding, Rgb] = {}
    decoded = []
    for decoding in decodings:
        colours = replace(decoding, size=(1, 1), resize="squash", crop=1.0)
        if colours not in shared:
            shared[colours] = _rgb(image, decoding, max_pixels)
        rgb = shared[colours]
        size = (rgb.pixels.shape[0], rgb.pixels.shape[1])
        resized = resize(rgb.pixels, decoding)
        decoded.append(Decoded(resized, size, rgb.notes, rgb.peak, decoding.bit_depth))
    return decoded


@cache
def decoder_versions() -> str:
    """The decoding libraries and their versions, as noted with each failure."""
    found = [("simplejpeg", simplejpeg.__version__), ("Pillow", PIL.__version__)]
    found.append(("opencv", cv2.__version__))
    for name in ("tifffile", "imagecodecs", "pi-heif", "pydicom", "pylibjpeg"):
        with suppress(PackageNotFoundError):  # an extra
            found.append((name, version(name)))
    return ", ".join(f"{name} {number}" for name, number in found)


def _rgb(image: Content, decoding: Decoding, max_pixels: int) -> Rgb:
    if isinstance(image, np.ndarray):
        check_page(decoding.page, 1)
        return _finished(Rgb(_from_array(image, max_pixels)), "array", decoding)
    raw, page = (image.raw, image.page) if isinstance(image, PageOf) else (image, None)
    kind = sniff(raw)
    try:
        return _finished(_read(raw, kind, page, decoding, max_pixels), kind, decoding)
    except BadImage:
        raise
    except MemoryError as error:
        raise BadImage("out-of-memory", f"there is no memory to decode this {kind}") from error
    except Exception as error:
        # The decoders raise whatever comes to hand on damaged bytes, down to IndexError; none
        # of it may end the run.
        reason = f"{error or type(error).__name__}"[:300]
        raise BadImage("damaged", f"it cannot be decoded as {kind}: {reason}") from error


def _read(raw: bytes, kind: str, page: int | None, decoding: Decoding, max_pixels: int) -> Rgb:
    if kind == "JPEG" and not decoding.page and not page:
        return decode_jpeg(raw, decoding, max_pixels=max_pixels)
    if kind == "TIFF":
        return read_tiff(raw, decoding, page, max_pixels=max_pixels)
    if kind == "DICOM":
        return read_dicom(raw, decoding, page, max_pixels=max_pixels)
    check_page(decoding.page if page is None else page, 1)
    if kind == "NETPBM":
        return read_netpbm(raw, decoding, max_pixels=max_pixels)
    return read_by_pillow(raw, kind, decoding, max_pixels=max_pixels)


def _finished(rgb: Rgb, kind: str, decoding: Decoding) -> Rgb:
    """The channels that are asked for, upright. A TIFF's orientation is no EXIF: always applied."""
    if decoding.channels and kind != "TIFF":  # which has more than three to choose from
        rgb = replace(rgb, pixels=chosen_of_rgb(rgb.pixels, decoding.channels))
    if rgb.orientation == 1 or (decoding.interpolation != "area" and kind != "TIFF"):
        return rgb
    return replace(rgb, pixels=_UPRIGHT[rgb.orientation](rgb.pixels))


def _from_array(image: Pixels, max_pixels: int) -> Pixels:
    pixels = image if image.ndim == 3 else image[..., np.newaxis]
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] not in (1, 3):
        raise BadImage(
            "not-an-image",
            f"an array of {image.dtype} {image.shape}; expected uint8 (H, W, 3|1) or (H, W)",
        )
    check_pixels(pixels.shape[0], pixels.shape[1], max_pixels)
    return np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels.copy()
