"""`interpolation="keras"` gives the pixels of `keras.utils.image_dataset_from_directory`."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from specimens import exif, picture, png, saved, with_adobe

from featcache.images.decoder import decode
from featcache.recipe import Decoding

tf = pytest.importorskip("tensorflow")

SIZES = [(24, 24), (50, 31), (100, 130), (60, 80)]
SHAPES = [(61, 83), (83, 61), (40, 40), (401, 117), (19, 300), (300, 19), (7, 5), (900, 1300)]
DEEP = np.random.default_rng(3).integers(0, 65536, (50, 40, 4), dtype=np.uint16)


def _alpha(mode: str) -> Image.Image:
    image = Image.fromarray(picture()).convert(mode)
    image.putalpha(Image.fromarray(picture(seed=5)[..., 0]))
    return image


PALETTE = Image.fromarray(picture()).convert("P")
GREY = Image.fromarray(picture()).convert("L")
CMYK = saved(Image.fromarray(picture()).convert("CMYK"), "JPEG")
SPECIMENS = {
    "jpeg 4:2:0": saved(picture(61, 83), "JPEG", subsampling="4:2:0"),
    "jpeg 4:2:2": saved(picture(61, 83), "JPEG", subsampling="4:2:2"),
    "jpeg 4:4:4": saved(picture(61, 83), "JPEG", subsampling="4:4:4"),
    "jpeg grey": saved(GREY, "JPEG"),
    "jpeg progressive": saved(picture(), "JPEG", progressive=True),
    "jpeg large": saved(picture(700, 500), "JPEG"),
    "jpeg with exif": saved(picture(), "JPEG", exif=exif(6)),
    "jpeg cmyk": CMYK,
    "jpeg ycck": with_adobe(CMYK, 2),
    "jpeg cmyk without adobe": CMYK.replace(b"Adobe", b"adobe"),
    "png rgb": saved(picture(), "PNG"),
    "png rgba": saved(_alpha("RGBA"), "PNG"),
    "png palette": saved(PALETTE, "PNG"),
    "png palette transparent": saved(PALETTE, "PNG", transparency=3),
    "png grey": saved(GREY, "PNG"),
    "png grey alpha": saved(_alpha("LA"), "PNG"),
    "png 1 bit": saved(GREY.convert("1"), "PNG"),
    "png 16 bit grey": png(DEEP[..., :1], 0),
    "png 16 bit rgb": png(DEEP[..., :3], 2),
    "png 16 bit grey alpha": png(DEEP[..., :2], 4),
    "png 16 bit rgba": png(DEEP, 6),
    "gif": saved(PALETTE, "GIF"),
    "gif transparent": saved(PALETTE, "GIF", transparency=7),
    "gif animated": saved(PALETTE, "GIF", save_all=True, append_images=[GREY.convert("P")]),
    "bmp": saved(picture(), "BMP"),
}


def _tensorflow(raw: bytes) -> np.ndarray:
    return tf.io.decode_image(raw, channels=3, expand_animations=False)


@pytest.mark.parametrize("name", SPECIMENS)
def test_the_decoded_pixels_are_tensorflows(name: str) -> None:
    """Unresized, every pixel of every format equals TensorFlow's exactly."""
    expected = _tensorflow(SPECIMENS[name]).numpy()
    decoding = Decoding(expected.shape[:2], "squash", "keras")
    decoded = decode(SPECIMENS[name], decoding)
    np.testing.assert_array_equal(decoded.pixels, expected.astype(np.float32))
    assert decoded.source_size == expected.shape[:2]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ["jpeg 4:2:0", "jpeg large", "png 16 bit rgb", "gif"])
def test_the_resized_pixels_are_tensorflows(name: str, size: tuple[int, int]) -> None:
    """Shrinking and growing give `tf.image.resize` without antialiasing, unrounded."""
    expected = tf.image.resize(_tensorflow(SPECIMENS[name]), size).numpy()
    pixels = decode(SPECIMENS[name], Decoding(size, "squash", "keras")).pixels
    assert pixels.dtype == np.float32
    np.testing.assert_allclose(pixels, expected, atol=2e-3)


@pytest.mark.parametrize("option", ["crop", "pad", "squash"])
@pytest.mark.parametrize("size", [(24, 24), (50, 31), (96, 160)])
def test_a_folder_gives_keras_batches(tmp_path, option: str, size: tuple[int, int]) -> None:
    """The real `image_dataset_from_directory` gives the same arrays, cropped, padded, squashed."""
    keras = pytest.importorskip("keras")
    raws = [saved(picture(*shape, seed=shape[0]), "JPEG", quality=90) for shape in SHAPES]
    for number, raw in enumerate(raws):
        (tmp_path / f"{number}.jpg").write_bytes(raw)
    batches = keras.utils.image_dataset_from_directory(
        tmp_path,
        labels=None,
        image_size=size,
        shuffle=False,
        crop_to_aspect_ratio=option == "crop",
        pad_to_aspect_ratio=option == "pad",
        verbose=False,
    )
    for raw, expected in zip(raws, next(iter(batches)).numpy(), strict=True):
        pixels = decode(raw, Decoding(size, option, "keras")).pixels
        assert pixels.flags.c_contiguous
        np.testing.assert_allclose(pixels, expected, atol=2e-3)
