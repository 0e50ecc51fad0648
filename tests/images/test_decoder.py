"""The default decoding: alpha over white, EXIF applied, every mode and depth to RGB."""

from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
from PIL import Image
from specimens import chunk, exif, picture, png, saved, turned

from featcache.errors import BadImage
from featcache.images.decoder import decode
from featcache.recipe import Decoding


def same_size(raw: bytes, **options: str) -> np.ndarray:
    """The pixels without any resize."""
    with Image.open(io.BytesIO(raw)) as image:
        size = image.size[::-1]
    return decode(raw, Decoding(size, **options)).pixels


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "JPEG"])
def test_all_orientations_show_one_picture(kind: str, orientation: int) -> None:
    """An image is turned upright as its EXIF says, in every format, before it is resized."""
    upright = picture(64, 48)
    stored = turned(upright, orientation)
    options = {
        "PNG": {"exif": exif(orientation)},
        "WEBP": {"exif": exif(orientation), "lossless": True},
        "TIFF": {"tiffinfo": {0x0112: orientation}},
        "JPEG": {"exif": exif(orientation, ">"), "quality": 100, "subsampling": "4:4:4"},
    }[kind]
    decoded = decode(saved(stored, kind, **options), Decoding((32, 40)))
    expected = decode(upright, Decoding((32, 40)))
    assert decoded.source_size == (64, 48)
    tolerance = 6 if kind == "JPEG" else 0
    np.testing.assert_allclose(
        decoded.pixels.astype(int), expected.pixels.astype(int), atol=tolerance
    )


def test_broken_exif_leaves_the_image_upright() -> None:
    """EXIF that is cut off or says 9 does not cost the image and does not turn it."""
    plain = decode(saved(picture(), "JPEG"), Decoding((20, 20))).pixels
    for block in (exif(9), exif(6)[:20], b"Exif\0\0II*\0\xff\xff\xff\xff"):
        decoded = decode(saved(picture(), "JPEG", exif=block), Decoding((20, 20)))
        np.testing.assert_array_equal(decoded.pixels, plain)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_transparent_pixels_are_white(kind: str) -> None:
    """The colours that hide behind full transparency are not seen; half is halfway to white."""
    image = Image.new("RGBA", (3, 1))
    image.putdata([(10, 20, 30, 255), (10, 20, 30, 0), (0, 100, 200, 128)])
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    pixels = same_size(saved(image, kind, **options))
    assert pixels[0, 0].tolist() == [10, 20, 30]
    assert pixels[0, 1].tolist() == [255, 255, 255]
    assert pixels[0, 2].tolist() == [127, 177, 227]


def test_other_ways_to_be_transparent_are_white_too() -> None:
    """Grey with alpha, a palette's tRNS, grey's tRNS, a GIF's index, 16 bits: all over white."""
    grey_alpha = Image.new("LA", (2, 1), (90, 0))
    palette = Image.new("P", (2, 1), 3)
    palette.putpalette([1, 2, 3] * 16)
    grey = Image.new("L", (2, 1), 77)
    deep = np.zeros((1, 2, 4), np.uint16)
    for raw in (
        saved(grey_alpha, "PNG"),
        saved(palette, "PNG", transparency=3),
        saved(palette, "GIF", transparency=3),
        saved(grey, "PNG", transparency=77),
        png(deep, 6),
        png(deep[..., :2], 4),
    ):
        assert same_size(raw).tolist() == [[[255] * 3] * 2]


def test_grey_and_single_bit_images_have_equal_channels() -> None:
    """Grey JPEG, grey PNG and 1-bit PNG give three equal channels from 0 to 255."""
    grey = Image.fromarray(picture()).convert("L")
    for raw in (saved(grey, "JPEG"), saved(grey, "PNG"), saved(grey.convert("1"), "PNG")):
        pixels = same_size(raw)
        assert (pixels[..., :1] == pixels).all()
        assert pixels.max() > 200


def test_cmyk_is_not_inverted() -> None:
    """A CMYK JPEG looks like the RGB it was made of."""
    image = Image.fromarray(picture())
    pixels = same_size(saved(image.convert("CMYK"), "JPEG", quality=95))
    np.testing.assert_allclose(pixels.astype(int), picture().astype(int), atol=30)
    assert abs(pixels.astype(float).mean() - picture().mean()) < 2


@pytest.mark.parametrize(
    ("depth", "expected"),
    [("16", [0, 1, 1, 255]), ("12", [0, 12, 16, 255]), ("minmax", [0, 1, 1, 255])],
)
@pytest.mark.parametrize("kind", ["grey png", "rgb png", "grey tiff", "rgb tiff"])
def test_16_bits_keep_both_ends_of_the_range(kind: str, depth: str, expected: list[int]) -> None:
    """0 stays 0, 65535 becomes 255, and between them values are rounded as the option says."""
    grey = np.array([[0, 200, 257, 65535]], np.uint16)[..., np.newaxis]
    colour = np.repeat(grey, 3, axis=2)
    raw = {
        "grey png": lambda: png(grey, 0),
        "rgb png": lambda: png(colour, 2),
        "grey tiff": lambda: saved(grey[..., 0], "TIFF"),
        "rgb tiff": lambda: cv2.imencode(".tiff", colour)[1].tobytes(),
    }[kind]()
    assert same_size(raw, bit_depth=depth)[0, :, 1].tolist() == expected


def test_16_bit_colours_keep_their_order() -> None:
    """Red, green and blue of 16-bit PNG and TIFF are not swapped."""
    deep = np.array([[[65535, 25700, 0]]], np.uint16)
    for raw in (png(deep, 2), cv2.imencode(".tiff", deep[..., ::-1])[1].tobytes()):
        assert same_size(raw)[0, 0].tolist() == [255, 100, 0]


def test_12_bit_data_in_16_bits_is_warned_of() -> None:
    """Values that need fewer bits bring a sentence that names the depth which holds them all."""
    one = np.ones((4, 4, 1), np.uint16)
    for bits in range(9, 16):
        raw = png(one * (2**bits - 1), 0)
        assert f"--bit-depth {bits} holds" in decode(raw, Decoding((4, 4))).warning
        right = decode(raw, Decoding((4, 4), bit_depth=str(bits)))
        assert (right.warning, right.pixels.max()) == ("", 255)
    assert decode(png(one * 32768, 0), Decoding((4, 4))).warning == ""
    assert decode(png(one * 0, 0), Decoding((4, 4))).warning == ""


def test_a_depth_that_cuts_values_off_is_told() -> None:
    """13-bit data under --bit-depth 12 brings a sentence that names 13; minmax cuts nothing."""
    raw = png(np.full((4, 4, 1), 8191, np.uint16), 0)
    cut = decode(raw, Decoding((4, 4), bit_depth="12"))
    assert cut.pixels.max() == 255
    assert "cuts off" in cut.warning
    assert "--bit-depth 13" in cut.warning
    assert decode(raw, Decoding((4, 4), bit_depth="minmax")).warning == ""


def test_float_and_32_bit_pixels_need_minmax() -> None:
    """Pixels without a fixed range are refused, unless each image is to be stretched."""
    values = np.array([[-1.0, 0.0], [0.5, 1.0]], np.float32)
    for raw in (saved(values, "TIFF"), saved((values * 4).astype(np.int32), "TIFF")):
        with pytest.raises(BadImage, match="--bit-depth minmax") as caught:
            decode(raw, Decoding((2, 2)))
        assert caught.value.code == "bit-depth"
        pixels = decode(raw, Decoding((2, 2), bit_depth="minmax")).pixels
        assert pixels[..., 0].tolist() == [[0, 128], [191, 255]]
    with pytest.raises(BadImage, match="NaN"):
        decode(saved(values * np.nan, "TIFF"), Decoding((2, 2), bit_depth="minmax"))


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF", "MPO"])
def test_the_first_frame_counts(kind: str) -> None:
    """Of an animation, a multi-page TIFF or a stereo photograph the first image is taken."""
    red, blue = Image.new("RGB", (16, 16), "red"), Image.new("RGB", (16, 16), "blue")
    pixels = same_size(saved(red, kind, save_all=True, append_images=[blue]))
    np.testing.assert_allclose(pixels.mean(axis=(0, 1)), [255, 0, 0], atol=2)


def test_an_icc_profile_changes_nothing() -> None:
    """Colour profiles are ignored, wide gamut or broken."""
    plain = same_size(saved(picture(), "PNG"))
    profiled = same_size(saved(picture(), "PNG", icc_profile=b"not a profile" * 50))
    np.testing.assert_array_equal(plain, profiled)
    np.testing.assert_array_equal(plain, same_size(saved(picture(), "BMP")))


def test_a_small_gif_frame_on_a_large_canvas_is_the_image() -> None:
    """The first frame's own rectangle is decoded, not the empty canvas around it."""
    raw = bytearray(saved(Image.fromarray(picture(20, 30)).convert("P"), "GIF"))
    raw[6:10] = (200).to_bytes(2, "little") * 2
    assert decode(bytes(raw), Decoding((20, 30))).source_size == (20, 30)


def test_text_in_a_png_changes_nothing() -> None:
    """A comment beside the pixels is not looked at."""
    small = png(picture(), 2, extra=chunk(b"tEXt", b"Comment\0" + b"GIF89a"))
    np.testing.assert_array_equal(same_size(small), picture())


def test_arrays_are_decoded_like_files() -> None:
    """Pixels given as an array equal the same pixels from a PNG; grey arrays too."""
    decoding = Decoding((30, 30))
    expected = decode(saved(picture(), "PNG"), decoding).pixels
    np.testing.assert_array_equal(decode(picture(), decoding).pixels, expected)
    grey = picture()[..., 0]
    for array in (grey, grey[..., np.newaxis]):
        np.testing.assert_array_equal(
            decode(array, decoding).pixels, decode(saved(grey, "PNG"), decoding).pixels
        )
    with pytest.raises(BadImage, match="expected uint8"):
        decode(picture().astype(np.float32), decoding)
