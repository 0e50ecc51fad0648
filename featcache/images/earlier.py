"""Which images' pixels are the same under the reading rules of pipeline 1 and under today's.

Pipeline 2 reads TIFF by one table of rules; nothing else has changed. A kind of TIFF is unchanged
only where it is listed here, and tests compare both readers on it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from featcache.errors import BadImage
from featcache.images.image_header import sniff
from featcache.images.tiff import open_tiff, page_of
from featcache.images.tiff_header import OPACITY, UNSPECIFIED, TiffHeader, read_header

#: None, LZW, deflate (two numbers), PackBits; and no predictor, or the horizontal one.
_COMPRESSIONS, _PREDICTORS = {1, 5, 8, 32946, 32773}, {1, 2}
#: (meaning, inverted, bits, kinds of the extra samples) of what both readers make the same of.
_UNCHANGED = {
    ("grey", False, 1, ()), ("grey", True, 1, ()), ("grey", False, 8, ()), ("grey", True, 8, ()),
    ("grey", False, 16, ()), ("palette", False, 8, ()), ("cmyk", False, 8, ()),
    ("rgb", False, 8, ()), ("rgb", False, 8, (OPACITY,)), ("rgb", False, 8, (UNSPECIFIED,)),
    ("rgb", False, 16, ()), ("rgb", False, 16, (OPACITY,)),
}  # fmt: skip
_ORIENTATION, _FILL_ORDER, _CONTIGUOUS = 274, 266, 1


def reads_as_before(content: object) -> bool:
    """Whether pipeline 1 made the same pixels of an image: an array, a file's bytes, or a page.

    Judged by the header alone; what cannot be read counts as changed, so that it is tried again.
    """
    if isinstance(content, np.ndarray):
        return True
    if not isinstance(content, bytes):
        return False  # there were no pages of a file
    try:
        if (kind := sniff(content)) != "TIFF":
            return kind in ("JPEG", "PNG", "GIF", "BMP", "WEBP")
        with open_tiff(content) as (file, pages):
            page = page_of(file, pages, 0)
            return _is_unchanged(page, read_header(page, is_chosen=False))
    except BadImage:
        return False
    except Exception:
        # tifffile raises whatever comes to hand on damaged bytes; decoding will say what is wrong.
        return False


def _is_unchanged(page: Any, header: TiffHeader) -> bool:
    bits = int(page.bitspersample)
    tags = [page.tags.valueof(tag, 1) for tag in (_ORIENTATION, _FILL_ORDER)]
    if (header.meaning, header.inverted, bits, header.extras) not in _UNCHANGED or tags != [1, 1]:
        return False
    if header.white != 2**bits - 1:  # signed, or floating-point
        return False
    if int(page.compression) not in _COMPRESSIONS or int(page.predictor) not in _PREDICTORS:
        return False
    if header.meaning == "palette":
        return int(np.max(page.colormap)) > 255
    return bits <= 8 or header.meaning == "grey" or page.planarconfig == _CONTIGUOUS
