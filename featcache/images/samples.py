"""Samples: what a page stores, and the one table of rules by which it becomes RGB of 8 bits.

    TIFF, DICOM, PGM, 16-bit PNG --> Samples --to 8 bits--> meaning --> RGB --> over white

To 8 bits comes first, so the 8-bit and the 16-bit file of one picture give the same pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal

import numpy as np

from featcache.errors import BadImage
from featcache.images.strips import in_strips
from featcache.recipe import Decoding

Pixels = np.ndarray[Any, Any]
Meaning = Literal["grey", "rgb", "palette", "cmyk", "ycbcr"]

#: How many samples of a pixel each meaning takes.
COLOURS: dict[Meaning, int] = {"grey": 1, "rgb": 3, "palette": 1, "cmyk": 4, "ycbcr": 3}
#: 16 bits, whose high byte TensorFlow keeps.
_FULL = 65535


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """One page as it is stored.

    Attributes
    ----------
    colours: (H, W, n) samples of any real type; n is what `COLOURS` says of the meaning.
    meaning: what they say.
    white: the value of a sample that is fully lit; 0 where the type has no fixed range (signed,
        floating-point, more than 16 bits).
    inverted: whether 0 is white, and `white` black.
    alpha: (H, W) unsigned opacity, None = there is none; its own white is `alpha_white`.
    premultiplied: whether the colours are multiplied by it.
    palette: (n, 3) uint8 colours of a palette.
    """

    colours: Pixels
    meaning: Meaning
    white: int
    inverted: bool = False
    alpha: Pixels | None = None
    alpha_white: int = 255
    premultiplied: bool = False
    palette: Pixels | None = None


@dataclass(frozen=True, slots=True)
class Rgb:
    """What a decoder made of an image, of whatever size.

    Attributes
    ----------
    pixels: (H, W, 3) uint8.
    orientation: 1 to 8 as in EXIF, still to be applied.
    notes: sentences about what may be wrong, the same for all images that they are true of.
    peak: the largest value where samples of 16 bits were made 8; 0 where there was none.
    """

    pixels: Pixels
    orientation: int = 1
    notes: tuple[str, ...] = ()
    peak: int = 0


def to_rgb(samples: Samples, decoding: Decoding) -> Rgb:
    """The pixels of a page, by the rules.

    Raises `BadImage` where the samples have no fixed range, or hold what is no number.
    """
    colours = samples.colours
    eight, peak = _eight_bits(samples, decoding)
    alpha = samples.alpha if decoding.interpolation == "area" or samples.premultiplied else None

    def convert(top: int, bottom: int) -> Pixels:
        rows = _MEANINGS[samples.meaning](eight(colours[top:bottom]), samples)
        if alpha is None:
            return rows
        opacity = _opacity(alpha[top:bottom], samples.alpha_white)[..., np.newaxis]
        rows = _divided(rows, opacity) if samples.premultiplied else rows
        return over_white(rows, opacity) if decoding.interpolation == "area" else rows

    return Rgb(in_strips(colours.shape[0], colours.shape[1], convert), peak=peak)


def chosen(samples: Samples, values: Pixels, channels: tuple[int, ...]) -> Samples:
    """The samples that --channels names out of (H, W, S): one is grey, three are RGB."""
    check_channels(channels, values.shape[2])
    meaning: Meaning = "grey" if len(channels) == 1 else "rgb"
    return replace(samples, colours=values[..., list(channels)], meaning=meaning, alpha=None)


def chosen_of_rgb(pixels: Pixels, channels: tuple[int, ...]) -> Pixels:
    """--channels of an image that has been made RGB."""
    check_channels(channels, 3)
    return np.ascontiguousarray(pixels[..., list(channels) * (3 // len(channels))])


def check_channels(channels: tuple[int, ...], count: int) -> None:
    """Raise `BadImage` where an image has not the channels that are asked for."""
    if max(channels) >= count:
        has = "1 channel, number 0" if count == 1 else f"{count} channels, 0 to {count - 1}"
        asked = ",".join(map(str, channels))
        raise BadImage("channels", f"it has {has}: --channels {asked} asks for more")


def depth_advice(peak: int, depth: str) -> str:
    """What the largest value of some 16-bit images says about --bit-depth; "" = nothing."""
    if peak == 0 or depth == "minmax":
        return ""
    needed = max(9, peak.bit_length())
    if needed > int(depth):
        return (
            f"16-bit values reach {peak}, which --bit-depth {depth} cuts off at "
            f"{2 ** int(depth) - 1}: use --bit-depth {needed}"
        )
    if depth != "16" or needed == 16:
        return ""
    dark = ", nearly black" if needed < 14 else ""
    return (
        f"16-bit values end at {peak} of 65535, so images are dark{dark}: "
        f"--bit-depth {needed} holds them all, --bit-depth minmax stretches each image"
    )


def over_white(colours: Pixels, alpha: Pixels) -> Pixels:
    """Transparent pixels show white, not the colours that happen to hide behind them."""
    opaque = alpha.astype(np.uint32)
    return ((colours * opaque + 255 * (255 - opaque) + 127) // 255).astype(np.uint8)


def _eight_bits(samples: Samples, decoding: Decoding) -> tuple[Callable[[Pixels], Pixels], int]:
    """What makes samples 8 bits, lit where they are large; and the largest of 16-bit ones."""
    if samples.meaning == "palette":
        return lambda rows: rows, 0
    if samples.white == 0:
        return _stretching(samples, decoding), 0
    if samples.white == 255:
        return (lambda rows: 255 - rows) if samples.inverted else (lambda rows: rows), 0
    peak = int(samples.colours.max())
    ends = (0, 0)
    if decoding.bit_depth == "minmax" and samples.white > 255:
        ends = (int(samples.colours.min()), peak)
    table = _table(
        samples.white, decoding.bit_depth, ends, samples.inverted, decoding.interpolation
    )
    top = len(table) - 1
    reaches_beyond = peak > top  # a damaged file, or one whose header understates its values
    is_deep = samples.white == _FULL

    def eight(rows: Pixels) -> Pixels:
        return table[np.minimum(rows, top) if reaches_beyond else rows]

    return eight, peak if is_deep else 0


@lru_cache(maxsize=8)
def _table(
    white: int, depth: str, ends: tuple[int, int], inverted: bool, interpolation: str
) -> Pixels:
    """The 8 bits of each value from 0 to `white`."""
    values = np.arange(white + 1, dtype=np.uint32)
    if depth == "minmax" and white > 255:
        table = _stretched(values.clip(*ends), *ends)
    elif white == _FULL and depth == "16" and interpolation == "keras":
        table = values >> 8  # TensorFlow keeps the high byte
    else:
        lit = white if depth in ("16", "minmax") else min(white, 2 ** int(depth) - 1)
        table = (values.clip(0, lit) * 255 + lit // 2) // lit
    table = (255 - table if inverted else table).astype(np.uint8)
    table.flags.writeable = False
    return table


def _stretching(samples: Samples, decoding: Decoding) -> Callable[[Pixels], Pixels]:
    colours = samples.colours
    if decoding.bit_depth != "minmax":
        raise BadImage(
            "bit-depth",
            f"its pixels are {colours.dtype}, which has no fixed range: use --bit-depth minmax to "
            "stretch each image from its least to its greatest value",
        )
    least, most = float(colours.min()), float(colours.max())
    if not (np.isfinite(least) and np.isfinite(most)):
        raise BadImage("not-finite", "some of its pixels are NaN or infinite")

    def eight(rows: Pixels) -> Pixels:
        light = _stretched(rows, least, most).astype(np.uint8)
        return 255 - light if samples.inverted else light

    return eight


def _stretched(values: Pixels, least: float, most: float) -> Pixels:
    """From the least and greatest value of the image to 0 and 255; one value becomes 0."""
    above = values.astype(np.float64) - least
    return np.rint(above * (255.0 / (most - least)) if most > least else above * 0)


def _opacity(alpha: Pixels, white: int) -> Pixels:
    return alpha if white == 255 else _table(white, "16", (0, 0), False, "area")[alpha]


def _divided(colours: Pixels, alpha: Pixels) -> Pixels:
    """Colours that were multiplied by their opacity, as they were."""
    lit = colours.astype(np.uint32) * 255 // np.maximum(alpha, 1)
    return np.where(alpha > 0, np.minimum(lit, 255), colours).astype(np.uint8)


def _grey(rows: Pixels, samples: Samples) -> Pixels:
    return np.repeat(rows, 3, axis=2)


def _same(rows: Pixels, samples: Samples) -> Pixels:
    return np.ascontiguousarray(rows)


def _coloured(rows: Pixels, samples: Samples) -> Pixels:
    if samples.palette is None or int(rows.max(initial=0)) >= len(samples.palette):
        raise BadImage("damaged", "it has values that its palette has no colours for")
    return np.take(samples.palette, rows[..., 0], axis=0)


def _printed(rows: Pixels, samples: Samples) -> Pixels:
    """Inks on paper, as Pillow has it: each takes its share of the light that black leaves."""
    light = (255 - rows).astype(np.uint32)
    product = (255 - light[..., :3]) * light[..., 3:] + 128
    taken = (product + (product >> 8)) >> 8
    return np.maximum(light[..., 3:].astype(np.int64) - taken, 0).astype(np.uint8)


def _video(rows: Pixels, samples: Samples) -> Pixels:
    """Luma and chroma of the full range, by the coefficients of Rec. 601."""
    luma, blue, red = (rows[..., at].astype(np.float32) for at in range(3))
    blue, red = blue - 128, red - 128
    rgb = np.stack(
        [luma + 1.402 * red, luma - 0.344136 * blue - 0.714136 * red, luma + 1.772 * blue], axis=-1
    )
    return np.asarray(np.rint(rgb).clip(0, 255), np.uint8)


_MEANINGS: dict[Meaning, Callable[[Pixels, Samples], Pixels]] = {
    "grey": _grey,
    "rgb": _same,
    "palette": _coloured,
    "cmyk": _printed,
    "ycbcr": _video,
}
