"""ImageBytes: one image as it was read, and what arrays may be images."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from featcache.errors import FeatcacheError
from featcache.files.small_files import FileStamp
from featcache.images.pages import PageOf

Pixels = np.ndarray[Any, np.dtype[np.uint8]]


@dataclass(frozen=True, slots=True)
class ImageBytes:
    """One image as it was read: the same buffer is hashed and decoded.

    Attributes
    ----------
    key: SHA-256 in hex, of the file's bytes, or of ``uint8 HxWxC`` newline and the pixels; of a
        page, see `page_key`.
    raw: the file's bytes; None for an array.
    array: (H, W, C) uint8 pixels with C = 1 or 3; None for a file.
    stamp: the file's stamp while it was read; None for an array.
    page: the page of the file that this is; None = the file.
    """

    key: str
    raw: bytes | None
    array: Pixels | None
    stamp: FileStamp | None
    page: int | None = None

    @property
    def content(self) -> bytes | Pixels | PageOf:
        """What `decode` takes: the file's bytes, a page of them, or the pixels."""
        if self.raw is not None and self.page is not None:
            return PageOf(self.raw, self.page)
        content = self.array if self.raw is None else self.raw
        if content is None:
            raise FeatcacheError("an image is bytes or an array; this is neither")
        return content


def checked_array(images: np.ndarray[Any, Any]) -> Pixels:
    """Images that are uint8 (N, H, W, C) or (N, H, W); raises `FeatcacheError` for others."""
    problem = ""
    if images.dtype != np.uint8:
        problem = f"are {images.dtype}, not uint8 in 0..255"
    elif images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[3] not in (1, 3)):
        problem = f"have the shape {images.shape}"
    elif images.ndim == 3 and images.shape[2] in (1, 3, 4):
        # Taken for (N, H, W), one RGB image would become H grey images, three pixels wide.
        problem = f"have the shape {images.shape}, which looks like one image: give images[None]"
    elif 0 in images.shape:
        problem = f"have the shape {images.shape}: there is no pixel"
    if problem:
        raise FeatcacheError(f"the arrays {problem}; expected uint8 (N, H, W, 3|1) or (N, H, W)")
    return images


def bytes_of_array(pixels: Pixels) -> ImageBytes:
    """An array as the image that it is, with the key of its pixels."""
    pixels = np.ascontiguousarray(pixels if pixels.ndim == 3 else pixels[..., np.newaxis])
    digest = hashlib.sha256(f"uint8 {'x'.join(map(str, pixels.shape))}\n".encode("ascii"))
    digest.update(pixels.data)
    return ImageBytes(digest.hexdigest(), None, pixels, None)
