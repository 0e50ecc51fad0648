"""What a TIFF page's header says of its pixels: read by the rules, or refused by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from featcache.errors import BadImage
from featcache.images.samples import COLOURS, Meaning

#: What PhotometricInterpretation says, of what we can make RGB.
_MEANINGS: dict[int, Meaning] = {
    0: "grey", 1: "grey", 2: "rgb", 3: "palette", 5: "cmyk", 6: "ycbcr",
}  # fmt: skip
_OTHERS = {
    4: "a transparency mask", 8: "CIE L*a*b*", 9: "ICC L*a*b*", 10: "ITU L*a*b*",
    32803: "a camera's raw mosaic", 32844: "LogL", 32845: "LogLuv", 34892: "a camera's raw data",
}  # fmt: skip
WHITE_IS_ZERO, PALETTE, JPEG_COLOURS = 0, 3, 6
#: Kinds of the samples beyond the colours; those that are opacity.
UNSPECIFIED, PREMULTIPLIED, OPACITY = 0, 1, 2

_PHOTOMETRIC, _SUBFILE, _INK_SET, _SUBSAMPLING = 262, 254, 332, 530
_COEFFICIENTS, _REFERENCES, _DNG_VERSION, _SAMPLE_FORMAT = 529, 532, 50706, 339
_REC_601 = (299, 1000, 587, 1000, 114, 1000)
_FULL_RANGE = (0, 1, 255, 1, 128, 1, 255, 1, 128, 1, 255, 1)
_JPEG = 7


@dataclass(frozen=True, slots=True)
class TiffHeader:
    """A page's header that has passed the rules.

    Attributes
    ----------
    meaning, inverted, white: as in `Samples`.
    extras: the kind of each sample beyond the colours (`UNSPECIFIED`, ...).
    """

    meaning: Meaning
    inverted: bool
    white: int
    extras: tuple[int, ...]

    @property
    def alpha(self) -> int | None:
        """Which sample is the opacity, None = none."""
        kinds = [kind in (PREMULTIPLIED, OPACITY) for kind in self.extras]
        return COLOURS[self.meaning] + kinds.index(True) if any(kinds) else None

    @property
    def is_premultiplied(self) -> bool:
        """Whether the colours are multiplied by the opacity."""
        alpha = self.alpha
        return alpha is not None and self.extras[alpha - COLOURS[self.meaning]] == PREMULTIPLIED


def read_header(page: Any, *, is_chosen: bool) -> TiffHeader:
    """The header of a `tifffile.TiffPage`; `is_chosen`: --channels says which samples count.

    Raises `BadImage` with what is not supported.
    """
    _refuse_camera_raw(page)
    photometric = int(page.photometric)
    if page.tags.get(_PHOTOMETRIC) is None:
        raise refused("it does not say whether 0 is black (PhotometricInterpretation is missing)")
    if photometric not in _MEANINGS:
        named = _OTHERS.get(photometric, f"photometric interpretation {photometric}")
        raise refused(f"TIFF whose pixels are {named} is not supported")
    meaning = _MEANINGS[photometric]
    white = _white(page, meaning)
    if meaning == "ycbcr":
        meaning = _video(page)
    if meaning == "cmyk" and page.tags.valueof(_INK_SET, 1) != 1:
        raise refused("TIFF of inks other than cyan, magenta, yellow and black is not supported")
    if page.imagedepth != 1 or page.tiledepth != 1:
        raise refused("TIFF whose pixels are a volume (ImageDepth) is not supported")
    extras = _extras(page, meaning, is_chosen=is_chosen)
    return TiffHeader(meaning, photometric == WHITE_IS_ZERO, white, extras)


def refused(reason: str) -> BadImage:
    """Not damaged: of a kind that is not read."""
    return BadImage("not-supported", f"{reason}: convert it to PNG, or to plain TIFF")


def camera_raw() -> BadImage:
    """Camera raw files are TIFF files whose first page is a thumbnail: not what anybody means."""
    return BadImage(
        "not-supported",
        "a camera's raw file (or a TIFF that begins with a thumbnail) is not supported: convert it "
        "to PNG or JPEG",
    )


def _refuse_camera_raw(page: Any) -> None:
    if page.tags.get(_DNG_VERSION) is not None or int(page.subfiletype) & 1:
        raise camera_raw()


def _white(page: Any, meaning: Meaning) -> int:
    """The value of a fully lit sample, 0 where the type has no fixed range."""
    bits, form = page.bitspersample, page.sampleformat
    if not isinstance(bits, int) or page.dtype is None or _is_mixed(page):
        raise refused(
            f"TIFF with samples of {bits} bits in format {form} is not supported: all samples must "
            "be integers or floating-point numbers of one size"
        )
    kind = page.dtype.kind
    if kind not in "buif":
        raise refused("TIFF of complex numbers is not supported")
    if kind in "bu" and bits <= 16:
        return int(2**bits - 1)
    if meaning not in ("grey", "rgb"):
        raise refused(f"TIFF with {meaning} pixels of {page.dtype} is not supported")
    return 0


def _is_mixed(page: Any) -> bool:
    forms = page.tags.valueof(_SAMPLE_FORMAT)
    return isinstance(forms, tuple) and len(set(forms)) > 1


def _video(page: Any) -> Meaning:
    """Luma and chroma: inside JPEG its decoder makes them RGB; else the plain kind alone."""
    if int(page.compression) == _JPEG:
        return "rgb"
    if page.tags.valueof(_SUBSAMPLING) != (1, 1):
        raise refused("TIFF with subsampled chroma outside JPEG is not supported")
    given = (page.tags.valueof(_COEFFICIENTS, _REC_601), page.tags.valueof(_REFERENCES))
    if given[0] != _REC_601 or given[1] not in (None, _FULL_RANGE) or page.bitspersample != 8:
        raise refused("TIFF with luma and chroma other than Rec. 601's of 8 bits is not supported")
    return "ycbcr"


def _extras(page: Any, meaning: Meaning, *, is_chosen: bool) -> tuple[int, ...]:
    count, colours = int(page.samplesperpixel), COLOURS[meaning]
    if count < colours:
        raise BadImage("damaged", f"its header says {count} samples a pixel, of which {meaning}")
    said = tuple(int(kind) for kind in page.extrasamples)
    extras = said if len(said) == count - colours else (UNSPECIFIED,) * (count - colours)
    if meaning == "grey" and UNSPECIFIED in extras and not is_chosen:
        raise BadImage(
            "bands",
            f"it has {count} bands and does not say which are red, green and blue, which is not "
            f"supported without --channels: --channels 0,1,2 takes the first three, --channels 0 "
            f"the first as grey",
        )
    if page.dtype.kind == "f" and extras and not is_chosen and UNSPECIFIED not in extras:
        raise refused("TIFF with opacity in floating-point numbers is not supported")
    return extras
