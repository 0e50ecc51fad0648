"""Geometry and antialiasing of the default interpolation."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import skimage.data
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from specimens import picture, saved

from featcache.errors import FeatcacheError
from featcache.images.decoder import decode
from featcache.recipe import Decoding, parse_resize


def test_shrinking_is_the_mean_of_what_is_covered() -> None:
    """A checkerboard of single pixels becomes grey: no pixel is skipped."""
    board = (np.indices((63, 63)).sum(axis=0) % 2 * 245).astype(np.uint8)
    pixels = decode(board, Decoding((9, 9))).pixels
    assert set(np.unique(pixels)) == {120, 125}  # 24 or 25 of 49 pixels are 245
    assert set(np.unique(decode(board, Decoding((9, 63))).pixels)) == {105, 140}


def test_one_side_may_shrink_while_the_other_grows() -> None:
    """The shrinking side is still averaged when the other grows."""
    stripes = np.zeros((63, 8), np.uint8)
    stripes[::2] = 210
    pixels = decode(stripes, Decoding((9, 32))).pixels
    assert set(np.unique(pixels)) == {90, 120}


@pytest.mark.parametrize("option", ["squash", "crop", "pad"])
@pytest.mark.parametrize("interpolation", ["area", "keras"])
@pytest.mark.parametrize("shape", [(1, 1), (5000, 1), (1, 5000), (2, 3), (33, 32)])
def test_every_shape_gives_exactly_the_size(shape, interpolation, option) -> None:
    """One pixel, a line, a column: no side falls to zero."""
    decoding = Decoding((48, 32), option, interpolation)
    pixels = decode(np.full((*shape, 3), 200, np.uint8), decoding).pixels
    assert pixels.shape == (48, 32, 3)
    assert pixels.dtype == decoding.pixel_type
    assert pixels.flags.c_contiguous
    assert pixels.max() > 0
    if option != "pad":
        np.testing.assert_allclose(pixels, 200, atol=1e-3)


def test_crop_takes_the_centre() -> None:
    """The crop is the largest centred box of the target's shape, in both directions."""
    wide = np.zeros((10, 30, 3), np.uint8)
    wide[:, 10:20] = 255
    assert (decode(wide, Decoding((5, 5), "crop")).pixels == 255).all()
    tall = wide.transpose(1, 0, 2)
    assert (decode(tall, Decoding((5, 5), "crop")).pixels == 255).all()


def test_a_share_of_the_crop_is_torchvisions_evaluation() -> None:
    """crop:0.875 frames what resizing the short side to 256 and cutting out 224 frames."""
    photograph = Image.fromarray(skimage.data.chelsea())
    width, height = photograph.size
    small = photograph.resize((int(256 * width / height), 256), Image.Resampling.BILINEAR)
    left, top = (small.width - 224) // 2, (small.height - 224) // 2
    want = np.asarray(small.crop((left, top, left + 224, top + 224)), np.float32)
    geometry, share = parse_resize("crop:0.875")
    pixels = decode(np.asarray(photograph), Decoding((224, 224), geometry, crop=share)).pixels
    whole = decode(np.asarray(photograph), Decoding((224, 224), "crop")).pixels
    assert np.abs(pixels - want).mean() < 4 < np.abs(whole - want).mean()


@pytest.mark.parametrize("text", ["crop:0", "crop:1.5", "crop:x", "crop:-1", "pad:0.5", "fit"])
def test_a_wrong_share_is_refused(text) -> None:
    """A share beyond 0..1, of something else than a crop, or no number: an error of ours."""

    def asked() -> Decoding:
        geometry, share = parse_resize(text)
        return Decoding((8, 8), geometry, crop=share)

    with pytest.raises(FeatcacheError, match=r"--resize|a share of"):
        asked()


def test_pad_shows_all_between_black_bars() -> None:
    """The whole image is there, sharp-edged, with equal bars of black."""
    white = np.full((10, 30, 3), 255, np.uint8)
    pixels = decode(white, Decoding((60, 60), "pad")).pixels
    assert (pixels[20:40] == 255).all()
    assert (pixels[:20] == 0).all()
    assert (pixels[40:] == 0).all()


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 70),
    width=st.integers(1, 70),
    size=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    option=st.sampled_from(["squash", "crop", "pad"]),
    interpolation=st.sampled_from(["area", "keras"]),
)
def test_any_size_to_any_size(height, width, size, option, interpolation) -> None:
    """Every pair of sizes works, and no value leaves the range of the source."""
    source = picture(height, width)
    pixels = decode(source, Decoding(size, option, interpolation)).pixels
    assert pixels.shape == (*size, 3)
    assert pixels.max() <= source.max() + 1e-3
    assert pixels.min() >= (0 if option == "pad" else source.min() - 1e-3)


def test_the_callers_array_is_not_handed_back() -> None:
    """Pixels that need no resize are a copy: changing them leaves the caller's image alone."""
    source = picture(20, 20)
    decoded = decode(source, Decoding((20, 20)))
    assert not np.shares_memory(decoded.pixels, source)


def test_threads_agree_with_one_thread() -> None:
    """Decoding in eight threads gives the pixels of decoding one after another."""
    raws = [saved(picture(80, 90, seed), kind) for seed in range(20) for kind in ("JPEG", "PNG")]
    decoding = Decoding((48, 48))
    alone = [decode(raw, decoding).pixels for raw in raws]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda raw: decode(raw, decoding).pixels, raws))
    np.testing.assert_array_equal(alone, together)
