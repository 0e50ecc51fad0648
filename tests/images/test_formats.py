"""AVIF, HEIC, DICOM and Netpbm: read by the rules of every other image, or refused by name."""

from __future__ import annotations

import io
import subprocess
import sys

import numpy as np
import pillow_heif
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, RLELossless
from specimens import exif, picture, png, saved, turned

from featcache.errors import BadImage
from featcache.images.decoder import decode
from featcache.images.dicom import FRAMES
from featcache.images.pillow import ANIMATED
from featcache.recipe import Decoding

RGB = picture(48, 64)
GREY = RGB[..., 1].copy()


def exact(raw: bytes, **options: object) -> np.ndarray:
    """The pixels without any resize."""
    return decode(raw, Decoding((48, 64), **options)).pixels


def heic(pixels: np.ndarray, **options: object) -> bytes:
    """A HEIC file as a phone writes it."""
    buffer = io.BytesIO()
    pillow_heif.from_pillow(Image.fromarray(pixels)).save(buffer, quality=-1, chroma=444, **options)
    return buffer.getvalue()


def test_avif_and_heic_show_their_picture() -> None:
    """Files as phones write them, up to what their loss costs."""
    for raw in (saved(RGB, "AVIF", quality=100, subsampling="4:4:4"), heic(RGB)):
        assert np.abs(exact(raw) - RGB.astype(float)).mean() < 3
        assert decode(raw, Decoding((48, 64))).notes == ()


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_avif_and_heic_are_turned_upright(orientation: int) -> None:
    """The way the phone was held is undone once, not twice."""
    stored = turned(RGB, orientation)
    for raw in (
        saved(stored, "AVIF", quality=100, subsampling="4:4:4", exif=exif(orientation)),
        heic(stored, exif=exif(orientation)),
    ):
        assert np.abs(exact(raw) - RGB.astype(float)).mean() < 3


def test_sizes_of_avif_and_heic_are_checked_first() -> None:
    """One pixel above the limit is refused, in both."""
    for raw in (saved(RGB, "AVIF"), heic(RGB)):
        decode(raw, Decoding((8, 8)), max_pixels=48 * 64)
        with pytest.raises(BadImage, match="64x48") as caught:
            decode(raw, Decoding((8, 8)), max_pixels=48 * 64 - 1)
        assert caught.value.code == "too-many-pixels"


def test_animations_are_told() -> None:
    """Of an animated GIF, PNG, WebP or AVIF the first frame is read, and a sentence says so."""
    first, second = Image.fromarray(RGB), Image.fromarray(RGB[::-1])
    for kind in ("GIF", "PNG", "WEBP", "AVIF"):
        still = saved(first, kind)
        moving = saved(first, kind, save_all=True, append_images=[second])
        assert decode(still, Decoding((8, 8))).notes == ()
        assert decode(moving, Decoding((8, 8))).notes == (ANIMATED,)


@pytest.mark.parametrize("white", [1, 7, 255, 1000, 4095, 65535])
@pytest.mark.parametrize("text", [False, True])
@pytest.mark.parametrize("colours", [1, 3])
def test_pgm_and_ppm_are_lit_by_their_largest_value(white: int, text: bool, colours: int) -> None:
    """Grey and colours, as bytes and as text, with comments: `white` is 255, the rest rounded."""
    values = np.random.default_rng(0).integers(0, white + 1, (48, 64, colours))
    values[0, 0] = white
    kind = {(1, True): 2, (3, True): 3, (1, False): 5, (3, False): 6}[colours, text]
    header = f"P{kind}\n# by hand\n64 48\n{white}\n".encode()
    body = values.astype(">u2" if white > 255 else "u1").tobytes()
    if text:
        body = " ".join(map(str, values.ravel())).encode() + b"\n# the end\n"
    expected = np.floor(values * (255 / white) + 0.5)
    assert np.array_equal(exact(header + body)[..., :colours], expected)


def test_bitmaps_of_netpbm_are_black_on_white() -> None:
    """1 is black in PBM, packed or as text, whatever the width."""
    bits = GREY[:, :61] > 128
    expected = np.repeat(np.where(bits, 0, 255)[..., np.newaxis], 3, axis=2)
    packed = b"P4\n61 48\n" + np.packbits(bits, axis=1).tobytes()
    text = b"P1 61 48\n" + b"\n".join(b"".join(b"%d" % bit for bit in row) for row in bits)
    for raw in (packed, text):
        assert np.array_equal(decode(raw, Decoding((48, 61))).pixels, expected)


@pytest.mark.parametrize("colour", [0, 2, 4, 6])
def test_png_of_8_and_of_16_bits_is_one_picture(colour: int) -> None:
    """Grey and RGB, with opacity and without: the same pixels."""
    samples = {0: GREY[..., None], 2: RGB, 4: RGB[..., :2], 6: np.dstack([RGB, GREY])}[colour]
    deep = samples.astype(np.uint16) * 257
    assert np.array_equal(exact(png(samples, colour)), exact(png(deep, colour)))


def dicom(values: np.ndarray, kind: str, *, stored: int = 0, **more: object) -> bytes:
    """A DICOM file of (H, W), (H, W, 3), or with `NumberOfFrames` (N, H, W) pixels."""
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.PhotometricInterpretation = kind
    data.SamplesPerPixel = 3 if values.shape[-1] == 3 else 1
    if data.SamplesPerPixel == 3:
        data.PlanarConfiguration = 0
    shape = values.shape[1:] if "NumberOfFrames" in more else values.shape
    data.Rows, data.Columns = shape[:2]
    data.BitsAllocated = values.dtype.itemsize * 8
    data.BitsStored = stored or data.BitsAllocated
    data.HighBit = data.BitsStored - 1
    data.PixelRepresentation = int(values.dtype.kind == "i")
    for name, value in more.items():
        setattr(data, name, value)
    data["PixelData"] = pydicom.DataElement(0x7FE00010, "OW", values.tobytes())
    syntax = more.get("syntax")
    if syntax:
        del data.syntax
        data.compress(syntax) if syntax == RLELossless else None
        data.file_meta.TransferSyntaxUID = syntax
    buffer = io.BytesIO()
    data.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


IDS = {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7", "SOPInstanceUID": "1.2.3"}


@pytest.mark.parametrize("syntax", [None, RLELossless])
def test_dicom_is_the_picture_whichever_end_is_white(syntax: str | None) -> None:
    """MONOCHROME1 and 2, 8, 12 and 16 bits, and RGB show one picture."""
    more = {**IDS, "syntax": syntax} if syntax else IDS
    grey = np.repeat(GREY[..., np.newaxis], 3, axis=2)
    for values, stored in (
        (GREY, 8), (GREY.astype(np.uint16) * 257, 16),
        (np.rint(GREY * (4095 / 255)).astype(np.uint16), 12),
    ):  # fmt: skip
        white = values.dtype.type(2**stored - 1)
        assert np.array_equal(exact(dicom(values, "MONOCHROME2", stored=stored, **more)), grey)
        inverse = dicom(white - values, "MONOCHROME1", stored=stored, **more)
        assert np.array_equal(exact(inverse), grey)
        shape = {"PresentationLUTShape": "INVERSE", **more}
        assert np.array_equal(
            exact(dicom(white - values, "MONOCHROME2", stored=stored, **shape)), grey
        )
    assert np.array_equal(exact(dicom(RGB, "RGB", **more)), RGB)


def test_dicom_is_seen_through_its_window() -> None:
    """A window in rescaled units says what is black and white; another --bit-depth does without."""
    units = (np.arange(48 * 64).reshape(48, 64) - 1024).astype(np.int16)
    window = {"WindowCenter": 40, "WindowWidth": 400, "RescaleSlope": 1, "RescaleIntercept": -100}
    raw = dicom(units, "MONOCHROME2", stored=12, **window, **IDS)
    share = ((units - 100 - 39.5) / 399 + 0.5).clip(0, 1)
    assert np.array_equal(exact(raw)[..., 0], np.rint(share * 255))
    whole = exact(raw, bit_depth="minmax")[..., 0]
    assert (whole.min(), whole.max(), whole[0, 0]) == (0, 255, 0)
    steep = {"RescaleSlope": -10, "RescaleIntercept": 3000, "WindowCenter": 1725}
    raw = dicom(GREY, "MONOCHROME2", WindowWidth=2551, **steep, **IDS)
    assert np.array_equal(exact(raw)[..., 0], 255 - GREY)
    plain = dicom(units, "MONOCHROME2", stored=12, **IDS)
    assert exact(plain)[0, 0, 0] == round(1024 * 255 / 4095)
    falling = dicom(units, "MONOCHROME2", stored=12, RescaleSlope=-1, RescaleIntercept=0, **IDS)
    assert np.array_equal(exact(falling), 255 - exact(plain))


def test_frames_of_dicom_are_pages() -> None:
    """Of several frames the first is read and told; --page reads another one."""
    frames = np.stack([GREY, GREY[::-1], GREY[:, ::-1]])
    raw = dicom(frames, "MONOCHROME2", NumberOfFrames=3, **IDS)
    assert decode(raw, Decoding((48, 64))).notes == (FRAMES,)
    assert np.array_equal(exact(raw, page=2)[..., 0], GREY[:, ::-1])
    assert decode(raw, Decoding((48, 64), page=1)).notes == ()
    with pytest.raises(BadImage, match="3 pages, 0 to 2"):
        exact(raw, page=3)


def test_dicom_that_is_not_read_is_named() -> None:
    """A deflated file, which may be of any size, and a report are refused by name."""
    with pytest.raises(BadImage, match="Deflated") as caught:
        exact(dicom(GREY, "MONOCHROME2", syntax=DeflatedExplicitVRLittleEndian, **IDS))
    assert caught.value.code == "not-supported"
    with pytest.raises(BadImage, match="64x48") as caught:
        decode(dicom(RGB, "RGB", **IDS), Decoding((8, 8)), max_pixels=48 * 64 - 1)
    assert caught.value.code == "too-many-pixels"


WITHOUT = """
import sys
sys.modules[sys.argv[1]] = None
from featcache.errors import BadImage
from featcache.images.decoder import decode
from featcache.recipe import Decoding
try:
    decode(sys.stdin.buffer.read(), Decoding((8, 8)))
except BadImage as bad:
    print(bad.code, bad)
"""


@pytest.mark.parametrize("package", ["pi_heif", "pydicom"])
def test_a_missing_extra_is_a_sentence_with_the_command(package: str) -> None:
    """Without the package the image is refused, with the line that installs it."""
    raw, extra = {
        "pi_heif": (heic(RGB), "heic"), "pydicom": (dicom(GREY, "MONOCHROME2", **IDS), "dicom"),
    }[package]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, package], input=raw, capture_output=True, check=True
    )
    said = done.stdout.decode()
    assert said.startswith("needs-extra")
    assert f'pip install "featcache[{extra}]"' in said
