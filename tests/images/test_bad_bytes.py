"""Bytes that are no good image: each gives a `BadImage` with a reason, and nothing else."""

from __future__ import annotations

import io
import struct
import time
import zlib
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile
from specimens import PNG_SIGNATURE, chunk, picture, png, png_header, saved, segment, tiff

from featcache.errors import BadImage
from featcache.images.decoder import decode, decoder_versions
from featcache.images.image_header import jpeg_scans
from featcache.recipe import Decoding

JPEG = saved(picture(), "JPEG")
PROGRESSIVE = saved(picture(), "JPEG", progressive=True)
PNG = saved(picture(), "PNG")
DECODING = Decoding((32, 32))


def _flipped_in_idat() -> bytes:
    raw = bytearray(PNG)
    raw[raw.index(b"IDAT") + 4 + 30] ^= 1
    return bytes(raw)


def _many_scans(count: int) -> bytes:
    """The last scan of a progressive JPEG, over and over."""
    start = PROGRESSIVE.rindex(b"\xff\xda")
    scan, end = PROGRESSIVE[start:-2], PROGRESSIVE[-2:]
    return PROGRESSIVE[:start] + scan * count + end


def _thumbnail_first() -> bytes:
    return saved(picture(), "TIFF", tiffinfo={254: 1})


def _circle() -> bytes:
    """A TIFF whose one directory is followed by itself."""
    raw = bytearray(saved(picture(), "TIFF"))
    (start,) = struct.unpack_from("<I", raw, 4)
    (entries,) = struct.unpack_from("<H", raw, start)
    struct.pack_into("<I", raw, start + 2 + 12 * entries, start)
    return bytes(raw)


BOX = b"\0\0\0\x18ftyp"
REFUSED = {
    "nothing": (b"", "not-an-image"),
    "one byte": (b"\xff", "not-an-image"),
    "html": (b"<html><body>404", "not-an-image"),
    "text": (b"not an image\n" * 50, "not-an-image"),
    "jpeg cut in half": (JPEG[: len(JPEG) // 2], "damaged"),
    "jpeg minus 2 bytes": (JPEG[:-2], "damaged"),
    "jpeg header only": (JPEG[:20], "damaged"),
    "progressive cut": (PROGRESSIVE[: len(PROGRESSIVE) // 2], "damaged"),
    "png cut": (PNG[: len(PNG) // 2], "damaged"),
    "png bad checksum": (_flipped_in_idat(), "damaged"),
    "png without data": (PNG[:33], "damaged"),
    "gif cut": (saved(picture(), "GIF")[:900], "damaged"),
    "bmp cut": (saved(picture(), "BMP")[:900], "damaged"),
    "webp cut": (saved(picture(), "WEBP")[:200], "damaged"),
    "tiff cut": (saved(picture(), "TIFF")[:900], "damaged"),
    "png 60000 x 60000": (png_header(60_000, 60_000), "too-many-pixels"),
    "png 12000 x 12000": (png_header(12_000, 12_000), "too-many-pixels"),
    "png 0 x 5": (png_header(0, 5), "damaged"),
    "jpeg 10,000 scans": (_many_scans(10_000), "too-many-scans"),
    "heic cut": (BOX + b"heic", "damaged"),
    "avif cut": (BOX + b"avif", "damaged"),
    "video": (BOX + b"mp42", "not-supported"),
    "dicom cut": (bytes(128) + b"DICM" + bytes(20), "not-supported"),
    "ppm cut": (b"P6 80 60 255\n" + bytes(900), "damaged"),
    "ppm without a size": (b"P6 80\n", "damaged"),
    "pgm text cut": (b"P2 4 4 255\n1 2 3", "damaged"),
    "pgm of values above its largest": (b"P5 1 1 9\n\x0a", "damaged"),
    "pam": (b"P7\nWIDTH 4\n", "not-supported"),
    "tiff of no page": (b"II*\0" + bytes(40), "damaged"),
    "tiff whose pages go in a circle": (_circle(), "damaged"),
    "svg": (b'<svg xmlns="x"/>', "not-supported"),
    "svg with prologue": (b'\xef\xbb\xbf  <?xml version="1.0"?><svg/>', "not-supported"),
    "fits": (b"SIMPLE  =                    T", "not-supported"),
    "psd": (b"8BPS\0\1" + bytes(50), "not-supported"),
    "eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n", "not-supported"),
    "pdf": (b"%PDF-1.7\n", "not-supported"),
    "ico": (b"\0\0\1\0\1\0" + bytes(50), "not-supported"),
    "jpeg 2000": (b"\0\0\0\x0cjP  \r\n\x87\n", "not-supported"),
    "jpeg xl": (b"\0\0\0\x0cJXL \r\n\x87\n", "not-supported"),
    "raw camera tiff": (_thumbnail_first(), "not-supported"),
    "canon raw": (b"II*\0\x10\0\0\0CR\2\0" + bytes(90), "not-supported"),
}


@pytest.mark.parametrize("interpolation", ["area", "keras"])
@pytest.mark.parametrize("name", REFUSED)
def test_bad_bytes_are_refused_with_a_reason(name: str, interpolation: str) -> None:
    """Each bad file costs itself: a short code, a sentence, no other exception, no wait."""
    raw, code = REFUSED[name]
    start = time.perf_counter()
    with pytest.raises(BadImage) as caught:
        decode(raw, Decoding((32, 32), interpolation=interpolation))
    assert caught.value.code == code
    assert len(caught.value.message) > 20
    assert len(caught.value.code) <= 32
    assert time.perf_counter() - start < 2


def test_the_advice_is_to_convert() -> None:
    """An unsupported format is named, with what to do."""
    with pytest.raises(BadImage, match="JPEG XL is not supported: convert it to PNG or JPEG"):
        decode(b"\xff\x0a" + bytes(20), DECODING)


def test_untidy_jpegs_are_accepted_and_cut_ones_are_not() -> None:
    """Junk after the end is silent, junk before a marker is a warning, a missing end an error."""
    plain = decode(JPEG, DECODING)
    trailing = decode(JPEG + b"junk" * 100, DECODING)
    untidy = JPEG[:-2] + b"\x12\x34" * 20 + JPEG[-2:]
    accepted = decode(untidy, DECODING)
    assert (plain.warning, trailing.warning) == ("", "")
    assert "extraneous bytes" in accepted.warning
    np.testing.assert_array_equal(trailing.pixels, plain.pixels)
    np.testing.assert_array_equal(accepted.pixels, plain.pixels)
    early = JPEG.index(b"\xff\xdb")
    both = JPEG[:early] + b"\x12\x34\x56" + JPEG[early:]
    assert "extraneous bytes" in decode(both, DECODING).warning
    with pytest.raises(BadImage):
        decode(both[: len(both) // 2], DECODING)


def test_truncated_images_are_never_filled_with_grey() -> None:
    """Pillow's global switch for truncated files is off, and stays off."""
    decode(PNG, DECODING)
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False


def test_a_flipped_bit_in_a_scan_gives_pixels_or_a_reason() -> None:
    """Damage that JPEG itself cannot see decodes; what it sees is refused: never a crash."""
    raw = bytearray(JPEG)
    seen = set()
    for at in range(len(JPEG) - 400, len(JPEG) - 2, 7):
        raw[at] ^= 4
        try:
            seen.add(decode(bytes(raw), DECODING).pixels.shape)
        except BadImage as bad:
            seen.add(bad.code)
        raw[at] ^= 4
    assert seen <= {(32, 32, 3), "damaged"}


def test_a_text_bomb_is_refused() -> None:
    """A PNG whose compressed text would fill 64 MB is refused by Pillow's own limit."""
    bomb = zlib.compress(bytes(64 * 2**20), 9)
    raw = png(picture(), 2, extra=chunk(b"zTXt", b"Comment\0\0" + bomb))
    assert len(raw) < 200_000
    with pytest.raises(BadImage):
        decode(raw, DECODING)


def test_a_webp_canvas_is_checked_before_it_is_allocated() -> None:
    """An animated WebP that claims 16384 x 16384 is refused from its header."""
    size = (16_383).to_bytes(3, "little") * 2
    body = b"WEBPVP8X" + struct.pack("<I", 10) + bytes([2, 0, 0, 0]) + size
    raw = b"RIFF" + struct.pack("<I", len(body)) + body
    with pytest.raises(BadImage, match="16384x16384"):
        decode(raw, DECODING)


@pytest.mark.parametrize("options", [{"lossless": True}, {"quality": 80}, {"exif": b"Exif\0\0"}])
def test_webp_sizes_are_read_from_all_three_headers(options: dict[str, object]) -> None:
    """Lossless, lossy and extended WebP: the limit on pixels is exact for each."""
    raw = saved(picture(33, 47), "WEBP", **options)
    assert decode(raw, DECODING, max_pixels=33 * 47).source_size == (33, 47)
    with pytest.raises(BadImage, match="47x33"):
        decode(raw, DECODING, max_pixels=33 * 47 - 1)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP"])
def test_the_limit_on_pixels_holds_for_each_format(kind: str) -> None:
    """`max_pixels` itself is allowed, one more is not."""
    raw = saved(picture(33, 47), kind)
    decode(raw, DECODING, max_pixels=33 * 47)
    with pytest.raises(BadImage) as caught:
        decode(raw, DECODING, max_pixels=33 * 47 - 1)
    assert caught.value.code == "too-many-pixels"


def test_scans_are_counted_and_video_is_not() -> None:
    """Real scans count, up to the end of the image; bytes like them in other places do not."""
    assert jpeg_scans(JPEG) == 1
    assert jpeg_scans(_many_scans(20)) == jpeg_scans(PROGRESSIVE) + 19
    video = JPEG + b"\xff\xda" * 10_000
    assert jpeg_scans(video) == 1
    assert decode(video, DECODING).warning == ""
    thumbnail = JPEG[:2] + segment(0xE1, b"\xff\xda\0\0" * 2000) + JPEG[2:]
    assert jpeg_scans(thumbnail) == 1
    assert decode(thumbnail, DECODING).warning == ""


def test_many_scans_of_a_large_image_are_refused_sooner() -> None:
    """What is limited is work: scans times pixels."""
    raw = _many_scans(200)
    with pytest.raises(BadImage, match="scans"):
        decode(raw, DECODING, max_pixels=60 * 80 * 2)
    with pytest.raises(BadImage, match="progression"):
        decode(raw, DECODING, max_pixels=60 * 80 * 5)


def test_unusual_subsampling_goes_to_pillow() -> None:
    """A JPEG whose sampling factors libjpeg-turbo's interface refuses is decoded all the same."""
    raw = bytearray(saved(picture(64, 64), "JPEG", subsampling="4:2:0"))
    frame = raw.index(b"\xff\xc0")
    assert raw[frame + 11] == 0x22
    raw[frame + 14] = 0x12  # chroma blue taller than chroma red: legal, and unknown to the API
    assert decode(bytes(raw), DECODING).pixels.shape == (32, 32, 3)


def test_scans_of_unusual_subsampling_are_limited_too() -> None:
    """What goes to Pillow is refused for its scans or its pixels before it is decoded."""
    raw = bytearray(_many_scans(200))
    frame = raw.index(b"\xff\xc2")
    raw[frame + 11], raw[frame + 14] = 0x22, 0x12
    for limit, words in ((60 * 80 * 2, "200|scans"), (60 * 80 - 1, "pixels")):
        with pytest.raises(BadImage, match=words) as caught:
            decode(bytes(raw), DECODING, max_pixels=limit)
        assert caught.value.code in ("too-many-scans", "too-many-pixels")


def test_versions_name_all_decoders() -> None:
    """A failure is filed with what decoded it, extras too."""
    versions = decoder_versions()
    assert [part.split(" ")[0] for part in versions.split(", ")] == [
        "simplejpeg", "Pillow", "opencv", "tifffile", "imagecodecs", "pi-heif", "pydicom",
        "pylibjpeg",
    ]  # fmt: skip


SEEDS = [
    JPEG,
    PROGRESSIVE,
    PNG,
    saved(Image.fromarray(picture()).convert("CMYK"), "JPEG"),
    saved(picture(), "GIF"),
    saved(picture(), "BMP"),
    saved(picture(), "TIFF"),
    saved(picture(), "TIFF", compression="tiff_lzw"),
    saved(picture(), "WEBP"),
    saved(picture(), "WEBP", lossless=True),
    png(picture().astype(np.uint16) * 257, 2),
    PNG_SIGNATURE + bytes(60),
    tiff(picture(), photometric="rgb", compression="jpeg", tile=(16, 16)),
    tiff(picture(), photometric="rgb", compression="jpeg2000"),
    tiff(picture(), photometric="rgb", compression="zstd", rowsperstrip=7),
    tiff(picture().astype(np.uint16) * 257, photometric="rgb", compression="lzw", predictor=True),
    tiff(picture()[..., 0] > 99, photometric="miniswhite"),
    b"P6 80 60 255\n" + picture().tobytes(),
    saved(picture(), "AVIF"),
]


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    seed=st.sampled_from(SEEDS),
    flips=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=12),
    keep=st.floats(0.0, 1.0),
    in_head=st.booleans(),
    interpolation=st.sampled_from(["area", "keras"]),
)
def test_mutated_bytes_raise_nothing_else(seed, flips, keep, in_head, interpolation) -> None:
    """Whatever happens to the bytes, decoding gives pixels of the size asked for, or `BadImage`."""
    raw = bytearray(seed)
    reach = min(len(raw), 200) if in_head else len(raw)
    for where, value in flips:
        raw[int(where * (reach - 1))] = value
    raw = raw[: max(1, int(len(raw) * (keep if len(flips) % 2 else 1)))]
    decoding = Decoding((16, 24), interpolation=interpolation)
    with suppress(BadImage):
        decoded = decode(bytes(raw), decoding, max_pixels=1_000_000)
        assert decoded.pixels.shape == (16, 24, 3)
        assert decoded.pixels.dtype == decoding.pixel_type


def test_a_buffer_of_pillow_stays_closed() -> None:
    """Nothing is left open: the same bytes decode again, with the same pixels."""
    first, second = decode(PNG, DECODING), decode(PNG, DECODING)
    np.testing.assert_array_equal(first.pixels, second.pixels)
    with Image.open(io.BytesIO(PNG)) as image:
        assert image.size == (80, 60)
