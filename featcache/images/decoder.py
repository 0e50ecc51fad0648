"""One image's bytes to the pixels a network sees.

    bytes --sniff, check--> decoder --turn upright--> RGB of any size --resize--> (height, width, 3)

Safe in threads; libjpeg-turbo, Pillow and OpenCV release the GIL while they work.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import PIL
import simplejpeg

from featcache.errors import BadImage
from featcache.images.image_header import check_pixels, sniff
from featcache.images.jpeg import decode_jpeg
from featcache.images.pillow import to_rgb
from featcache.images.resize import resize
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
    warning: a sentence about what may be wrong with the image; "" where there is nothing.
    """

    pixels: Pixels
    source_size: tuple[int, int]
    warning: str


def decode(image: bytes | Pixels, decoding: Decoding, *, max_pixels: int = MAX_PIXELS) -> Decoded:
    """A file's bytes, or (H, W, 3 | 1) or (H, W) uint8 pixels, as `decoding` says.

    Raises `BadImage`, and nothing else, where the image cannot be used.
    """
    return decode_all(image, [decoding], max_pixels=max_pixels)[0]


def decode_all(
    image: bytes | Pixels, decodings: Sequence[Decoding], *, max_pixels: int = MAX_PIXELS
) -> list[Decoded]:
    """The same for several decodings; those that differ in geometry alone share the work."""
    shared: dict[Decoding, tuple[Pixels, str]] = {}
    decoded = []
    for decoding in decodings:
        colours = replace(decoding, size=(1, 1), resize="squash", crop=1.0)
        if colours not in shared:
            shared[colours] = _rgb(image, decoding, max_pixels)
        pixels, warning = shared[colours]
        resized = resize(pixels, decoding)
        decoded.append(Decoded(resized, (pixels.shape[0], pixels.shape[1]), warning))
    return decoded


def decoder_versions() -> str:
    """The decoding libraries and their versions, as noted with each failure."""
    return (
        f"simplejpeg {simplejpeg.__version__}, Pillow {PIL.__version__}, opencv {cv2.__version__}"
    )


def _rgb(image: bytes | Pixels, decoding: Decoding, max_pixels: int) -> tuple[Pixels, str]:
    if isinstance(image, np.ndarray):
        return _from_array(image, max_pixels), ""
    kind = sniff(image)
    try:
        if kind == "JPEG":
            pixels, orientation, warning = decode_jpeg(image, decoding, max_pixels=max_pixels)
        else:
            pixels, orientation, warning = to_rgb(image, kind, decoding, max_pixels=max_pixels)
    except BadImage:
        raise
    except MemoryError as error:
        raise BadImage("out-of-memory", f"there is no memory to decode this {kind}") from error
    except Exception as error:
        # The decoders raise whatever comes to hand on damaged bytes, down to IndexError; none
        # of it may end the run.
        reason = f"{error or type(error).__name__}"[:300]
        raise BadImage("damaged", f"it cannot be decoded as {kind}: {reason}") from error
    if decoding.interpolation == "area" and orientation != 1:
        pixels = _UPRIGHT[orientation](pixels)
    return pixels, warning


def _from_array(image: Pixels, max_pixels: int) -> Pixels:
    pixels = image if image.ndim == 3 else image[..., np.newaxis]
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] not in (1, 3):
        raise BadImage(
            "not-an-image",
            f"an array of {image.dtype} {image.shape}; expected uint8 (H, W, 3|1) or (H, W)",
        )
    check_pixels(pixels.shape[0], pixels.shape[1], max_pixels)
    return np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels.copy()
