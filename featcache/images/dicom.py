"""DICOM: one frame as samples, through pydicom, under the rules of every other page.

What is white: the window where the file has one, else all of the bits that are stored.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from featcache.errors import BadImage
from featcache.images.image_header import check_pixels
from featcache.images.samples import Meaning, Rgb, Samples, to_rgb
from featcache.images.strips import check_bytes, passage
from featcache.images.tiff import check_page
from featcache.recipe import Decoding

Pixels = np.ndarray[Any, Any]

NEEDS_DICOM = (
    'DICOM is not supported without an extra: pip install "featcache[dicom]", or convert it to PNG'
)
FRAMES = (
    "it has several frames, of which the first was read: --page N reads another one, --pages each "
    "makes a row of every frame"
)
#: Transfer syntaxes that are read: no deflated ones, which are as large as they like, no video.
_SYNTAXES = {
    "1.2.840.10008.1.2": "implicit", "1.2.840.10008.1.2.1": "explicit",
    "1.2.840.10008.1.2.2": "big-endian", "1.2.840.10008.1.2.5": "RLE",
    "1.2.840.10008.1.2.4.50": "JPEG", "1.2.840.10008.1.2.4.90": "JPEG 2000 lossless",
    "1.2.840.10008.1.2.4.91": "JPEG 2000", "1.2.840.10008.1.2.4.201": "HTJ2K lossless",
    "1.2.840.10008.1.2.4.202": "HTJ2K lossless", "1.2.840.10008.1.2.4.203": "HTJ2K",
}  # fmt: skip
#: The narrowest window: a step from black to white.
_TINY = 1e-9
_GREY = {"MONOCHROME1", "MONOCHROME2"}
_COLOUR = {"RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT"}  # pydicom makes them RGB


def count_frames(raw: bytes) -> int:
    """How many frames a file has; raises `BadImage` where it cannot be read."""
    return _frames(_header(raw, is_whole=False))


def read_dicom(raw: bytes, decoding: Decoding, page: int | None, *, max_pixels: int) -> Rgb:
    """The pixels of a frame, None = the one that the recipe says.

    Raises `BadImage`, and whatever pydicom raises on damaged bytes.
    """
    data = _header(raw, is_whole=True)
    number, frames = decoding.page if page is None else page, _frames(data)
    check_page(number, frames)
    height, width, samples = int(data.Rows), int(data.Columns), int(data.SamplesPerPixel)
    deep = -(-int(data.BitsAllocated) // 8)
    check_pixels(height, width, max_pixels)
    check_bytes(height, width, samples * deep, max_pixels)
    with passage(height, width, samples * deep):
        rgb = to_rgb(_samples(data, number, decoding), decoding)
    notes = (FRAMES,) if frames > 1 and page is None and decoding.page == 0 else ()
    return replace(rgb, notes=notes)


def _header(raw: bytes, *, is_whole: bool) -> Any:
    try:
        from pydicom import dcmread
    except ImportError as error:
        raise BadImage("needs-extra", NEEDS_DICOM) from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of values against the standard, which is no news
        data = dcmread(io.BytesIO(raw), stop_before_pixels=not is_whole)
    syntax = data.file_meta.get("TransferSyntaxUID", "")
    if syntax not in _SYNTAXES:
        named = getattr(syntax, "name", "") or "no transfer syntax"
        raise BadImage(
            "not-supported", f"DICOM stored as {named!r} is not supported: convert it to PNG"
        )
    if "Rows" not in data:
        raise BadImage("not-supported", "DICOM without an image (a report, a plan) is not read")
    return data


def _frames(data: Any) -> int:
    return int(data.get("NumberOfFrames") or 1)


def _samples(data: Any, number: int, decoding: Decoding) -> Samples:
    from pydicom.pixels import apply_color_lut, pixel_array

    kind = str(data.PhotometricInterpretation)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        values = np.asarray(pixel_array(data, index=number))
        if kind == "PALETTE COLOR":
            values = np.asarray(apply_color_lut(values, data))
            return _plain(values, "rgb", 65535 if values.dtype == np.uint16 else 255)
    if kind in _COLOUR:
        return _plain(values, "rgb", 2 ** int(data.BitsStored) - 1)
    if kind not in _GREY:
        raise BadImage("not-supported", f"DICOM of {kind} is not supported: convert it to PNG")
    values, white = _greys(data, values, decoding)
    inverted = kind == "MONOCHROME1" or data.get("PresentationLUTShape") == "INVERSE"
    return replace(_plain(values[..., np.newaxis], "grey", white), inverted=inverted)


def _plain(values: Pixels, meaning: Meaning, white: int) -> Samples:
    return Samples(colours=values, meaning=meaning, white=white)


def _greys(data: Any, values: Pixels, decoding: Decoding) -> tuple[Pixels, int]:
    """Grey values of a known white: through the window of the file, unless --bit-depth is given.

    Signed values without a window are raised, so that the least that can be stored is black.
    """
    from pydicom.pixels import apply_modality_lut, apply_voi

    stored = int(data.BitsStored)
    if decoding.bit_depth == "16" and ("WindowWidth" in data or "VOILUTSequence" in data):
        values = np.asarray(apply_modality_lut(values, data))
        if "VOILUTSequence" in data:
            return _whole(apply_voi(values, data), int(data.VOILUTSequence[0].LUTDescriptor[2]))
        return np.rint(_windowed(data, values.astype(np.float64)) * 255).astype(np.uint8), 255
    if "ModalityLUTSequence" in data:
        shown = apply_modality_lut(values, data)
        return _whole(shown, int(data.ModalityLUTSequence[0].LUTDescriptor[2]))
    if values.dtype.kind == "f" or stored > 16:
        return values, 0
    if values.dtype.kind == "i":
        values = values.astype(np.int32) + 2 ** (stored - 1)
    values, white = _whole(values, stored)
    falls = float(data.get("RescaleSlope") or 1) < 0
    return (white - values if falls else values), white


def _whole(values: Pixels, bits: int) -> tuple[Pixels, int]:
    """Whole numbers of so many bits, and their white."""
    white = 2**bits - 1
    return np.asarray(values).clip(0, white).astype(np.uint16 if bits > 8 else np.uint8), white


def _windowed(data: Any, values: Pixels) -> Pixels:
    """0 (black) to 1 by the first window of the file, as PS3.3 C.11.2 has it."""
    center, width = (
        float(value[0] if isinstance(value, Sequence) else value)
        for value in (data.WindowCenter, data.WindowWidth)
    )
    function = str(data.get("VOILUTFunction") or "LINEAR")
    if function == "SIGMOID":
        return np.asarray(1 / (1 + np.exp(-4 * (values - center) / max(width, _TINY))))
    if function == "LINEAR":
        center, width = center - 0.5, width - 1
    return ((values - center) / max(width, _TINY) + 0.5).clip(0, 1)
