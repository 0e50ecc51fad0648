"""TIFF of every kind against the picture that was written, and the rules; the rest is refused."""

from __future__ import annotations

import io
import struct
from itertools import product

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image
from specimens import picture, saved, tiff, turned

from featcache.errors import BadImage
from featcache.images.decoder import decode
from featcache.images.earlier import reads_as_before
from featcache.images.pages import PageOf
from featcache.images.tiff import HIDDEN_STACK, LEFT_OUT, STACK
from featcache.recipe import Decoding

HEIGHT, WIDTH = 40, 56
RGB = picture(HEIGHT, WIDTH)
GREY = RGB[..., 1].copy()
GREY_RGB = np.repeat(GREY[..., np.newaxis], 3, axis=2)
ALPHA = picture(HEIGHT, WIDTH, seed=1)[..., 0].copy()
NEAR_INFRARED = picture(HEIGHT, WIDTH, seed=2)[..., 0].copy()
INKS = np.dstack([255 - RGB, GREY // 4])
PALETTE = np.random.default_rng(3).integers(0, 256, (3, 256)).astype(np.uint16) * 257

COMPRESSIONS = [None, "lzw", "zlib", "packbits", "zstd"]
LAYOUTS = {
    "one strip": {}, "strips": {"rowsperstrip": 7}, "tiles": {"tile": (16, 32)},
    "planes": {"planarconfig": "separate", "rowsperstrip": 7},
    "planes in tiles": {"planarconfig": "separate", "tile": (16, 32)},
}  # fmt: skip


def exact(raw: bytes, **options: object) -> np.ndarray:
    """The pixels without any resize."""
    return decode(raw, Decoding((HEIGHT, WIDTH), **options)).pixels


def over_white(colours: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """What is seen on white paper."""
    share = alpha[..., np.newaxis] / 255
    return np.floor(colours * share + 255 * (1 - share) + 0.5)


def of_inks(inks: np.ndarray) -> np.ndarray:
    """RGB as Pillow makes it of CMYK."""
    return np.asarray(Image.frombytes("CMYK", inks.shape[1::-1], inks.tobytes()).convert("RGB"))


def kinds() -> dict[str, tuple[np.ndarray, dict, np.ndarray, int]]:
    """Name -> 8-bit samples, how they are written, the RGB they mean, and what is tolerated."""
    dimmed = np.rint(RGB * (ALPHA[..., np.newaxis] / 255)).astype(np.uint8)
    on_white, grey_on_white = over_white(RGB, ALPHA), over_white(GREY_RGB, ALPHA)
    return {
        "grey": (GREY, {"photometric": "minisblack"}, GREY_RGB, 0),
        "white is zero": (255 - GREY, {"photometric": "miniswhite"}, GREY_RGB, 0),
        "rgb": (RGB, {"photometric": "rgb"}, RGB, 0),
        "rgb, band": (
            np.dstack([RGB, NEAR_INFRARED]),
            {"photometric": "rgb", "extrasamples": ["unspecified"]}, RGB, 0,
        ),
        "rgb, 2 bands": (
            np.dstack([RGB, NEAR_INFRARED, GREY]),
            {"photometric": "rgb", "extrasamples": ["unspecified"] * 2}, RGB, 0,
        ),
        "rgb, opacity": (
            np.dstack([RGB, ALPHA]), {"photometric": "rgb", "extrasamples": ["unassalpha"]},
            on_white, 1,
        ),
        "rgb, opacity, band": (
            np.dstack([RGB, NEAR_INFRARED, ALPHA]),
            {"photometric": "rgb", "extrasamples": ["unspecified", "unassalpha"]}, on_white, 1,
        ),
        "rgb, premultiplied": (
            np.dstack([dimmed, ALPHA]), {"photometric": "rgb", "extrasamples": ["assocalpha"]},
            on_white, 2,
        ),
        "grey, opacity": (
            np.dstack([GREY, ALPHA]),
            {"photometric": "minisblack", "extrasamples": ["unassalpha"]}, grey_on_white, 1,
        ),
        "cmyk": (INKS, {"photometric": "separated"}, of_inks(INKS), 0),
    }  # fmt: skip


KINDS = kinds()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_the_product_of_kinds_is_read_as_it_was_written(kind: str, compression: str | None) -> None:
    """Depth, byte order, layout, pages, classic and big: the picture; 16 bits equal 8 bits."""
    samples, how, expected, tolerated = KINDS[kind]
    differing = []
    orders = [("<", False), (">", False), (">", True)]
    for (order, is_big), (layout, options) in product(orders, LAYOUTS.items()):
        if "planar" in str(options) and samples.ndim == 2:
            continue
        pages = 2 if is_big else 1
        found = []
        for values in (samples, samples.astype(np.uint16) * 257):
            stacked = values if pages == 1 else np.stack([values, values[::-1]])
            if "planarconfig" in options:
                stacked = np.moveaxis(stacked, -1, -3)
            raw = tiff(
                stacked, compression=compression, byteorder=order, bigtiff=is_big,
                **how, **options,
            )  # fmt: skip
            found.append(exact(raw))
        far = np.abs(found[0] - expected.astype(float)).max()
        if far > tolerated or not np.array_equal(found[0], found[1]):
            differing.append((order, is_big, layout, pages, far))
    assert differing == []


@pytest.mark.parametrize("predictor", [False, True])
@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("order", ["<", ">"])
def test_16_bit_grey_is_rounded_or_stretched(order, compression, predictor) -> None:
    """Every value of 16 bits becomes the nearest of 8, under each depth, with predictors too."""
    if predictor and compression in (None, "packbits"):
        pytest.skip("no predictor there")
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    for photometric, depth in product(("minisblack", "miniswhite"), ("16", "13", "9", "minmax")):
        raw = tiff(
            values, photometric=photometric, compression=compression, predictor=predictor,
            byteorder=order,
        )  # fmt: skip
        white = 65535 if depth in ("16", "minmax") else 2 ** int(depth) - 1
        expected = np.rint(np.minimum(values, white) * (255 / white))
        expected = 255 - expected if photometric == "miniswhite" else expected
        found = decode(raw, Decoding((256, 256), bit_depth=depth)).pixels
        assert np.array_equal(found[..., 0], expected)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "i1", "i2", "i4", "u4"])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("colours", [1, 3])
def test_samples_without_a_fixed_range_are_stretched_or_refused(dtype, order, colours) -> None:
    """Signed, floating-point and 32-bit samples need minmax, grey and RGB, and say so."""
    shape = (HEIGHT, WIDTH) if colours == 1 else (HEIGHT, WIDTH, 3)
    values = np.random.default_rng(0).integers(0, 100, shape).astype(dtype)
    for compression in (None, "zlib", "zstd"):
        raw = tiff(
            values, photometric="minisblack" if colours == 1 else "rgb", byteorder=order,
            compression=compression, predictor=compression == "zlib",
        )  # fmt: skip
        with pytest.raises(BadImage, match="--bit-depth minmax") as caught:
            exact(raw)
        assert caught.value.code == "bit-depth"
        expected = np.rint(values.astype(float) * (255 / 99)).reshape(HEIGHT, WIDTH, colours)
        assert np.array_equal(exact(raw, bit_depth="minmax")[..., :colours], expected)


@pytest.mark.parametrize("bits", [1, 2, 4, 6, 10, 12, 14])
def test_packed_samples_are_lit_by_their_own_bits(bits: int) -> None:
    """1 to 14 bits a sample: the largest value is 255, whichever end is white."""
    values = (np.arange(HEIGHT * WIDTH) % 2**bits).reshape(HEIGHT, WIDTH).astype(np.uint16)
    stored = values.astype(np.uint8) if bits <= 8 else values
    expected = np.floor(values * (255 / (2**bits - 1)) + 0.5)
    for photometric in ("minisblack", "miniswhite"):
        kept = stored.astype(bool) if bits == 1 else stored
        raw = tiff(kept, photometric=photometric, bitspersample=bits)
        found = exact(raw)[..., 0]
        assert np.array_equal(found, 255 - expected if photometric == "miniswhite" else expected)


@pytest.mark.parametrize("compression", ["group3", "group4", "tiff_ccitt", "packbits", "tiff_lzw"])
@pytest.mark.parametrize("photometric", [0, 1])
def test_fax_pages_are_read(compression: str, photometric: int) -> None:
    """Pages of one bit, with each code of a fax, black on white and the other way round."""
    page = Image.fromarray(GREY > 128)
    raw = saved(page, "TIFF", compression=compression, tiffinfo={262: photometric})
    assert np.array_equal(exact(raw), np.asarray(Image.open(io.BytesIO(raw)).convert("RGB")))


def test_palettes_give_their_colours() -> None:
    """Indices of 8 and 16 bits are the palette's colours, in any byte order; its 8-bit form too."""
    deep = np.tile(PALETTE, 256)
    for order, compression in product("<>", COMPRESSIONS):
        how = {"photometric": "palette", "byteorder": order, "compression": compression}
        for index, palette in ((GREY, PALETTE), (GREY.astype(np.uint16) * 257, deep)):
            raw = tiff(index, colormap=palette, **how)
            assert np.array_equal(exact(raw), (palette >> 8).T[index])
    raw = tiff(GREY, photometric="palette", colormap=PALETTE >> 8)
    assert np.array_equal(exact(raw), (PALETTE >> 8).T[GREY])


@pytest.mark.parametrize("compression", ["jpeg", "jpeg2000", "webp"])
@pytest.mark.parametrize("layout", ["strips", "tiles"])
def test_images_inside_are_read(compression: str, layout: str) -> None:
    """JPEG, JPEG 2000 and WebP in strips and tiles: the picture, up to what their loss costs."""
    options = {"strips": {"rowsperstrip": 16}, "tiles": {"tile": (16, 32)}}[layout]
    raw = tiff(RGB, photometric="rgb", compression=compression, **options)
    assert np.abs(exact(raw) - RGB.astype(float)).mean() < 8
    with tifffile.TiffFile(io.BytesIO(raw)) as file:
        assert np.array_equal(exact(raw), file.pages[0].asarray())


def test_jpeg_inside_is_read_as_libtiff_reads_it() -> None:
    """Luma and chroma inside JPEG become the RGB that Pillow's libtiff gives."""
    video = Image.fromarray(RGB).convert("YCbCr")
    raw = saved(video, "TIFF", compression="jpeg", quality=90)
    assert tifffile.TiffFile(io.BytesIO(raw)).pages[0].photometric == 6
    expected = np.asarray(Image.open(io.BytesIO(raw)).convert("RGB"))
    assert np.abs(exact(raw) - expected.astype(float)).max() <= 1


def test_video_colours_are_made_rgb() -> None:
    """YCbCr without subsampling, outside JPEG, is converted; subsampled it is refused."""
    video = np.asarray(Image.fromarray(RGB).convert("YCbCr"))
    plain = tiff(video, photometric="ycbcr", subsampling=(1, 1), compression="lzw")
    assert np.abs(exact(plain) - RGB.astype(float)).max() <= 3


REFUSED = {
    "bands": (
        tiff(np.dstack([RGB, GREY]), photometric="minisblack", planarconfig="contig"),
        "--channels 0,1,2",
    ),
    "lab": (saved(Image.new("LAB", (8, 8)), "TIFF"), "CIE L"),
    "complex": (tiff(GREY.astype(np.complex64), photometric="minisblack"), "complex"),
    "cmyk of floats": (tiff(INKS.astype("f4"), photometric="separated"), "cmyk"),
    "mosaic": (tiff(GREY, photometric="cfa"), "raw mosaic"),
    "jpeg xl": (tiff(RGB, photometric="rgb", compression="jpegxl"), "JPEGXL"),
    "lerc": (tiff(RGB, photometric="rgb", compression="lerc"), "LERC"),
    "png inside": (tiff(RGB, photometric="rgb", compression="png"), "PNG"),
    "volume": (
        tiff(np.stack([GREY] * 16), photometric="minisblack", volumetric=True, tile=(16, 16, 16)),
        "volume",
    ),
    "opacity in floats": (
        tiff(np.dstack([RGB, ALPHA]).astype("f4"), photometric="rgb", extrasamples=["unassalpha"]),
        "opacity",
    ),
    "other inks": (
        tiff(INKS, photometric="separated", extratags=[(332, 3, 1, 2, True)]), "inks",
    ),
    "no word on black": (
        tiff(GREY, photometric="minisblack").replace(b"\x06\x01\x03\0", b"\x0f\x01\x03\0"),
        "PhotometricInterpretation",
    ),
    "lossless jpeg": (
        tiff(RGB, photometric="rgb", compression="jpeg", compressionargs={"lossless": True}),
        "JPEG inside",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("depth", ["16", "minmax"])
def test_what_the_rules_lack_is_refused_by_name(name: str, depth: str) -> None:
    """Each is said to be not supported and never to be damaged."""
    raw, words = REFUSED[name]
    with pytest.raises(BadImage, match=r"not supported|does not say") as caught:
        exact(raw, bit_depth=depth)
    assert caught.value.code in ("not-supported", "bands")
    assert words in caught.value.message


@pytest.mark.parametrize("compression", [*COMPRESSIONS, "lzma", "jpeg", "jpeg2000", "webp"])
def test_a_file_that_is_cut_off_is_never_filled_up(compression: str | None) -> None:
    """Without its last bytes, or with a strip that ends early, a file is damaged, never grey."""
    raw = tiff(RGB, photometric="rgb", compression=compression, rowsperstrip=20)
    with tifffile.TiffFile(io.BytesIO(raw)) as file:
        page = file.pages[0]
        last = page.dataoffsets[-1]
        at = page.tags[279].valueoffset
        size = (page.tags[279].dtype.name == "SHORT" and 2) or 4
        count = page.databytecounts[0]
    shorter = raw[:at] + int(count // 2).to_bytes(size, "little") + raw[at + size :]
    for broken in (raw[: last + 9], shorter):
        with pytest.raises(BadImage) as caught:
            exact(broken)
        assert caught.value.code == "damaged"


def test_missing_parts_are_refused() -> None:
    """Strips that a sparse file leaves out, or does not list, are no pixels of any value."""
    raw = tiff(GREY, photometric="minisblack", rowsperstrip=20)
    with tifffile.TiffFile(io.BytesIO(raw)) as file:
        counts = file.pages[0].tags[279]
    sparse = bytearray(raw)
    sparse[counts.valueoffset : counts.valueoffset + 2] = b"\0\0"
    with pytest.raises(BadImage, match="sparse"):
        exact(bytes(sparse))
    fewer = bytearray(raw)
    fewer[fewer.index(b"\x16\x01") + 8] = 10  # rows a strip: four strips, of which two are listed
    with pytest.raises(BadImage, match="where all of its pixels are"):
        exact(bytes(fewer))


@pytest.mark.parametrize("compression", ["zlib", "zstd", "lzma", "jpeg", "jpeg2000"])
def test_sizes_are_checked_before_anything_is_decoded(compression: str) -> None:
    """A page, a tile or an image inside that claims more pixels than allowed is refused."""
    raw = tiff(RGB, photometric="rgb", compression=compression, tile=(64, 64))
    decode(raw, Decoding((8, 8)), max_pixels=64 * 64)
    with pytest.raises(BadImage) as caught:
        decode(raw, Decoding((8, 8)), max_pixels=64 * 64 * 3 // 4 - 1)
    assert caught.value.code == "too-many-pixels"
    inside = {"jpeg": b"\xff\xc0\0\x11\x08", "jpeg2000": b"\xff\x4f\xff\x51\0\x2f\0\0"}
    if mark := inside.get(compression):
        larger = bytearray(raw)
        larger[larger.index(mark) + len(mark)] = 0x7F
        with pytest.raises(BadImage, match="says"):
            exact(bytes(larger))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("interpolation", ["area", "keras"])
def test_a_page_is_turned_upright(orientation: int, interpolation: str) -> None:
    """A TIFF's orientation belongs to its pixels, of 8 and 16 bits, whatever the interpolation."""
    stored = turned(RGB, orientation)
    for values in (stored, stored.astype(np.uint16) * 257):
        raw = tiff(values, photometric="rgb", extratags=[(274, 3, 1, orientation, True)])
        assert np.array_equal(exact(raw, interpolation=interpolation), RGB)


def stack(count: int = 4, **options: object) -> tuple[bytes, list[np.ndarray]]:
    """A stack of grey pages, and what each of them shows."""
    pages = [np.roll(GREY, 5 * number, axis=1) for number in range(count)]
    return tiff(np.stack(pages), photometric="minisblack", **options), pages


def test_a_stack_is_told_and_its_pages_can_be_asked_for() -> None:
    """Without --page the first page, with a sentence; with it that page; beyond the last none."""
    raw, pages = stack()
    assert decode(raw, Decoding((HEIGHT, WIDTH))).notes == (STACK,)
    for number in (1, 3):
        decoded = decode(raw, Decoding((HEIGHT, WIDTH), page=number))
        assert np.array_equal(decoded.pixels[..., 0], pages[number])
        assert decoded.notes == ()
        each = decode(PageOf(raw, number), Decoding((HEIGHT, WIDTH)))
        assert np.array_equal(each.pixels, decoded.pixels)
        assert each.notes == ()
    with pytest.raises(BadImage, match="4 pages, 0 to 3"):
        exact(raw, page=4)
    with pytest.raises(BadImage, match="1 page, number 0"):
        exact(saved(RGB, "PNG"), page=1)


def test_channels_are_taken_as_they_are_asked_for() -> None:
    """Of bands, of RGB, of pages of one channel each, and of other formats; beyond them none."""
    raw, pages = stack()
    found = exact(raw, channels=(2, 0, 3))
    assert np.array_equal(found, np.dstack([pages[2], pages[0], pages[3]]))
    assert np.array_equal(exact(raw, page=1, channels=(2, 0, 1))[..., 0], pages[3])
    bands = np.dstack([RGB, NEAR_INFRARED])
    for values in (bands, bands.astype(np.uint16) * 257):
        raw = tiff(values, photometric="minisblack", planarconfig="contig")
        assert np.array_equal(exact(raw, channels=(3, 0, 1)), bands[..., [3, 0, 1]])
        assert np.array_equal(exact(raw, channels=(3,)), bands[..., [3, 3, 3]])
    with pytest.raises(BadImage, match="4 channels, 0 to 3"):
        exact(raw, channels=(0, 1, 4))
    for image in (saved(RGB, "PNG"), RGB):
        decoded = decode(image, Decoding((HEIGHT, WIDTH), channels=(0, 2, 1)))
        assert np.array_equal(decoded.pixels, RGB[..., [0, 2, 1]])


def composite(**how: object) -> bytes:
    """Red, green and blue as pages, as microscopes write channels."""
    buffer = io.BytesIO()
    planes = np.moveaxis(RGB, -1, 0).copy()
    tifffile.imwrite(buffer, planes, metadata={"axes": "CYX"}, photometric="minisblack", **how)
    return buffer.getvalue()


def with_garbage_behind() -> bytes:
    """A page whose next one is said to lie beyond the end."""
    raw = bytearray(tiff(RGB, photometric="rgb"))
    (start,) = struct.unpack_from("<I", raw, 4)
    (entries,) = struct.unpack_from("<H", raw, start)
    struct.pack_into("<I", raw, start + 2 + 12 * entries, 0xFFFFFFF0)
    return bytes(raw)


#: Files of other programs that people reported as misread by other readers.
REPORTED = {
    "a spot ink beside CMYK (Pillow 2821)": (
        tiff(np.dstack([INKS, GREY]), photometric="separated", extrasamples=["unspecified"]),
        of_inks(INKS), {},
    ),
    "two alpha channels (Pillow 5979)": (
        tiff(np.dstack([RGB, ALPHA, GREY]), photometric="rgb", extrasamples=["unassalpha"] * 2),
        over_white(RGB, ALPHA), {},
    ),
    "separate planes and a band (Pillow 9484)": (
        tiff(
            np.moveaxis(np.dstack([RGB, GREY]), -1, 0), photometric="rgb",
            planarconfig="separate", extrasamples=["unspecified"],
        ), RGB, {},
    ),
    "an ImageJ composite": (composite(imagej=True), RGB, {"channels": (0, 1, 2)}),
    "an OME-TIFF of channels": (composite(ome=True), RGB[..., ::-1], {"channels": (2, 1, 0)}),
    "ImageJ's floats (bioformats 3901)": (
        tiff(GREY * np.float32(1.6), photometric="minisblack"),
        np.rint((GREY_RGB - float(GREY.min())) * (255 / np.ptp(GREY.astype(float)))),
        {"bit_depth": "minmax"},
    ),
    "signed with 0 as white (image-tiff 129)": (
        tiff((GREY.astype("i2") - 128), photometric="miniswhite"),
        255 - np.rint((GREY_RGB - float(GREY.min())) * (255 / np.ptp(GREY.astype(float)))),
        {"bit_depth": "minmax"},
    ),
    "a value that means no data": (
        tiff(GREY, photometric="minisblack", extratags=[(42113, "s", 0, "0", True)]), GREY_RGB, {},
    ),
    "garbage behind the last page": (with_garbage_behind(), RGB, {}),
}  # fmt: skip


@pytest.mark.parametrize("name", REPORTED)
def test_files_that_others_misread_are_read(name: str) -> None:
    """Reported of other readers, tried here: the picture."""
    raw, expected, options = REPORTED[name]
    assert np.abs(exact(raw, **options) - expected.astype(float)).max() <= 1


def test_bands_that_are_left_out_are_told() -> None:
    """Beside red, green and blue a fourth band brings a sentence; opacity brings none."""
    samples, how, _, _ = KINDS["rgb, band"]
    assert decode(tiff(samples, **how), Decoding((8, 8))).notes == (LEFT_OUT,)
    samples, how, _, _ = KINDS["rgb, opacity"]
    assert decode(tiff(samples, **how), Decoding((8, 8))).notes == ()


def test_pyramids_are_no_stacks() -> None:
    """Reduced copies and masks behind the image are no pages; a later whole page is one."""
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        writer.write(RGB, photometric="rgb", metadata=None)
        writer.write(RGB[::2, ::2], photometric="rgb", subfiletype=1, metadata=None)
        writer.write(GREY > 9, photometric="minisblack", subfiletype=4, metadata=None)
    assert decode(buffer.getvalue(), Decoding((8, 8))).notes == ()
    buffer.seek(0)
    with tifffile.TiffWriter(buffer, append=True) as writer:
        writer.write(RGB[::-1], photometric="rgb", metadata=None)
    assert decode(buffer.getvalue(), Decoding((8, 8))).notes == (STACK,)
    assert np.array_equal(exact(buffer.getvalue(), page=1), RGB[::-1])


def test_a_stack_of_one_directory_is_told() -> None:
    """Pages that only a description knows of are told to be out of reach."""
    pages = np.stack([GREY] * 3)
    raw = tiff(pages, photometric="minisblack", metadata={"axes": "ZYX"}, truncate=True)
    assert decode(raw, Decoding((8, 8))).notes == (HIDDEN_STACK,)


def test_nothing_is_printed_about_odd_files(capfd: pytest.CaptureFixture[str]) -> None:
    """Decoders keep their notices to themselves: damaged, odd and refused files print nothing."""
    for raw, _ in REFUSED.values():
        with pytest.raises(BadImage):
            exact(raw)
    for cut in range(20, 400, 40):
        with pytest.raises(BadImage):
            exact(tiff(RGB, photometric="rgb", compression="lzw")[:cut])
    assert capfd.readouterr() == ("", "")


def by_the_rules_before(raw: bytes) -> np.ndarray | None:
    """The pixels of pipeline 1: Pillow's, and OpenCV's of 16-bit RGB; None where it had none."""
    try:
        with Image.open(io.BytesIO(raw)) as image:
            bits = set(image.tag_v2.get(258, ()))
            image.load()
            if image.mode.startswith("RGB") and bits == {16}:
                deep = cv2.imdecode(np.frombuffer(raw, np.uint8), cv2.IMREAD_UNCHANGED)
                eight = ((deep.astype(np.uint32) + 128) // 257).astype(np.uint8)
                colours = eight[..., 2::-1]
                return over_white(colours, eight[..., 3]) if deep.shape[2] == 4 else colours
            if image.mode.startswith("I;16"):
                grey = (np.asarray(image).astype(np.uint32) + 128) // 257
                return np.repeat(grey[..., np.newaxis], 3, axis=2).astype(np.uint8)
            if image.mode in ("I", "F"):
                return None
            if image.has_transparency_data:
                pixels = np.asarray(image.convert("RGBA"))
                return over_white(pixels[..., :3], pixels[..., 3])
            return np.asarray(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError, AttributeError, cv2.error):
        return None


@pytest.mark.parametrize("kind", [*KINDS, "palette", "one bit", "one bit, white is zero"])
def test_kinds_that_are_read_as_before_have_the_same_pixels(kind: str) -> None:
    """Wherever `reads_as_before` says yes, the reader of before gave exactly today's pixels."""
    same, changed = 0, 0
    orders = [("<", False), (">", False), ("<", True)]
    for (order, is_big), options, compression, deep, predictor in product(
        orders, LAYOUTS.values(), COMPRESSIONS, (False, True), (False, True)
    ):
        if kind in KINDS:
            samples, how, _, _ = KINDS[kind]
            values = samples.astype(np.uint16) * 257 if deep else samples
        elif kind == "palette":
            values, how = GREY, {"photometric": "palette", "colormap": PALETTE}
        else:
            values, how = GREY > 128, {"photometric": "miniswhite" if "zero" in kind else 1}
        if predictor and (compression in (None, "packbits") or values.dtype == bool):
            continue
        if "planarconfig" in options:
            if values.ndim == 2:
                continue
            values = np.moveaxis(values, -1, 0)
        raw = tiff(
            values, byteorder=order, bigtiff=is_big, compression=compression,
            predictor=predictor, **how, **options,
        )  # fmt: skip
        if not reads_as_before(raw):
            changed += 1
            continue
        same += 1
        before = by_the_rules_before(raw)
        # A file that could not be read has no row that could be wrong.
        assert before is None or np.array_equal(exact(raw), before), (order, options, compression)
    assert changed
    new = ("rgb, 2 bands", "rgb, opacity, band", "rgb, premultiplied", "grey, opacity")
    assert bool(same) == (kind not in new)
