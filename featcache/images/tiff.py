"""TIFF: one page as samples, through tifffile and imagecodecs.

    bytes --directories--> page --header, by the rules--> sizes, segments checked --> samples

From the hashed bytes alone: tifffile's `imread` and series open companion files, pages do not.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from featcache.errors import BadImage
from featcache.images.image_header import check_pixels
from featcache.images.samples import (
    COLOURS,
    Rgb,
    Samples,
    check_channels,
    chosen,
    chosen_of_rgb,
    to_rgb,
)
from featcache.images.strips import check_bytes, passage
from featcache.images.tiff_codecs import check_segments
from featcache.images.tiff_header import UNSPECIFIED, TiffHeader, camera_raw, read_header
from featcache.images.tiff_pages import Directory, find_pages
from featcache.recipe import Decoding

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPage

Pixels = np.ndarray[Any, Any]

STACK = (
    "it has several pages (a stack), of which the first was read: --page N reads another one, "
    "--pages each makes a row of every page"
)
HIDDEN_STACK = (
    "it is a stack whose further pages are not listed in the file: the first was read; save it as "
    "plain TIFF to use the others"
)
LEFT_OUT = (
    "it has more bands than its colours: the others were left out (--channels chooses by number)"
)
_ORIENTATION = 274

# What is odd about a file, tifffile logs; where it matters we say so ourselves.
logging.getLogger("tifffile").addHandler(logging.NullHandler())


def read_tiff(raw: bytes, decoding: Decoding, page: int | None, *, max_pixels: int) -> Rgb:
    """The pixels of a page, None = the one that the recipe says.

    Raises `BadImage`, and whatever tifffile raises on damaged bytes.
    """
    if raw[8:10] == b"CR":
        raise camera_raw()
    channels = decoding.channels
    with open_tiff(raw) as (file, pages):
        planes = _planes(file, pages, decoding, page)
        first, header = planes[0], read_header(planes[0], is_chosen=bool(channels))
        for each in planes:
            _check(each, raw, first, max_pixels)
        depth = len(planes) * first.samplesperpixel * first.dtype.itemsize
        with passage(first.imagelength, first.imagewidth, depth):
            values = [_values(each) for each in planes]
            if len(planes) > 1:
                channels = tuple(range(len(planes)))
            rgb = _rgb(
                first, header, np.dstack(values) if values[1:] else values[0], channels, decoding
            )
    notes = [] if channels else _notes(first, header, len(pages), decoding, page)
    return replace(rgb, notes=tuple(notes), orientation=_orientation(first))


@contextmanager
def open_tiff(raw: bytes) -> Iterator[tuple[TiffFile, list[Directory]]]:
    """The file, and its pages; raises `BadImage` where there are none."""
    # Half a second, which only those pay who have such files.
    from tifffile import TiffFile

    pages = find_pages(raw)
    with TiffFile(io.BytesIO(raw)) as file:
        yield file, pages


def page_of(file: TiffFile, pages: list[Directory], number: int) -> TiffPage:
    """One page, by its place among the pages; raises `BadImage` where there are not so many."""
    from tifffile import TiffPage

    check_page(number, len(pages))
    if number == 0:  # which is read already
        return file.pages.first
    file.filehandle.seek(pages[number].offset)
    return TiffPage(file, number)


def check_page(number: int, count: int) -> None:
    """Raise `BadImage` where an image has not the page that is asked for."""
    if number >= count:
        has = "1 page, number 0" if count == 1 else f"{count} pages, 0 to {count - 1}"
        raise BadImage("page", f"it has {has}; --page asks for number {number}")


def _planes(
    file: TiffFile, pages: list[Directory], decoding: Decoding, page: int | None
) -> list[TiffPage]:
    """The page; or the pages that --channels names, where a page is one channel."""
    number = decoding.page if page is None else page
    first = page_of(file, pages, number)
    is_channel = first.samplesperpixel == 1 and int(first.photometric) <= 1 and len(pages) > 1
    if not (decoding.channels and is_channel and page is None):
        return [first]
    check_channels(decoding.channels, len(pages) - number)
    return [page_of(file, pages, number + channel) for channel in decoding.channels]


def _check(page: TiffPage, raw: bytes, first: TiffPage, max_pixels: int) -> None:
    """Raise `BadImage` before anything is decoded that could be too large, or lacks its pixels."""
    height, width = int(page.imagelength), int(page.imagewidth)
    check_pixels(height, width, max_pixels)
    check_bytes(height, width, page.samplesperpixel * page.dtype.itemsize, max_pixels)
    check_segments(page, raw, max_pixels)
    if (page.shape, page.dtype, page.photometric) != (first.shape, first.dtype, first.photometric):
        raise BadImage("not-supported", "the pages of --channels are of different kinds or sizes")


def _values(page: TiffPage) -> Pixels:
    """(H, W, S) of a page, whose planes may lie one after the other."""
    whole: Pixels = page.asarray(squeeze=False, maxworkers=1)
    planes, depth, height, width, samples = whole.shape
    found = (depth, height, width, planes * samples)
    if found != (1, page.imagelength, page.imagewidth, page.samplesperpixel):
        raise BadImage("damaged", f"its pixels come out as {whole.shape}, not as its header says")
    values = whole[:, 0, :, :, 0].transpose(1, 2, 0) if planes > 1 else whole[0, 0]
    return values.view(np.uint8) if values.dtype == bool else values


def _rgb(
    page: TiffPage,
    header: TiffHeader,
    values: Pixels,
    channels: tuple[int, ...],
    decoding: Decoding,
) -> Rgb:
    samples = Samples(
        colours=values[..., : COLOURS[header.meaning]],
        meaning=header.meaning,
        white=header.white,
        inverted=header.inverted,
        alpha=None if header.alpha is None else values[..., header.alpha],
        alpha_white=header.white,
        premultiplied=header.is_premultiplied,
        palette=_palette(page) if header.meaning == "palette" else None,
    )
    if channels and header.meaning in ("grey", "rgb"):
        return to_rgb(chosen(samples, values, channels), decoding)
    rgb = to_rgb(samples, decoding)
    return replace(rgb, pixels=chosen_of_rgb(rgb.pixels, channels)) if channels else rgb


def _palette(page: TiffPage) -> Pixels:
    """(n, 3) uint8 colours; some writers leave them at 8 bits, where 16 are meant."""
    colours = np.asarray(page.colormap)
    if colours.ndim != 2 or colours.shape[0] != 3:
        raise BadImage("damaged", "its palette is not one of red, green and blue")
    colours = colours >> 8 if colours.max() > 255 else colours
    return colours.T.astype(np.uint8)


def _notes(
    page: TiffPage, header: TiffHeader, count: int, decoding: Decoding, number: int | None
) -> list[str]:
    notes = [STACK] if count > 1 and number is None and decoding.page == 0 else []
    if count == 1 and _hides_pages(page):
        notes.append(HIDDEN_STACK)
    return [*notes, LEFT_OUT] if UNSPECIFIED in header.extras else notes


def _hides_pages(page: TiffPage) -> bool:
    """Whether ImageJ, tifffile or MetaMorph wrote a stack with one directory for all its pages."""
    text = str(page.description)
    is_imagej = text.startswith("ImageJ=") and "\nimages=" in text and "\nimages=1\n" not in text
    return is_imagej or '"truncated": true' in text or bool(page.is_stk)


def _orientation(page: TiffPage) -> int:
    said = page.tags.valueof(_ORIENTATION, 1)
    return said if isinstance(said, int) and 1 <= said <= 8 else 1
