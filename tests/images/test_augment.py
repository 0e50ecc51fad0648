"""Augmented views: one text a meaning, the same pixels always, Keras's geometry."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featcache.errors import FeatcacheError
from featcache.images.augment import (
    FILLS,
    FLIPS,
    LIMITS,
    PRESETS,
    Augmentation,
    Draw,
    apply,
    draw,
    view,
)

KEY = hashlib.sha256(b"an image").hexdigest()
CLASSIC = Augmentation.parse("classic")

amounts = {name: st.floats(0.0, limit) for name, (limit, _) in LIMITS.items()}
augmentations = st.builds(
    lambda **values: values,
    flip=st.sampled_from(("", *FLIPS)),
    fill=st.sampled_from(list(FILLS)),
    **amounts,
).filter(lambda values: any(value for name, value in values.items() if name != "fill"))


def smooth(height: int, width: int) -> np.ndarray:
    """A picture whose neighbouring pixels differ little, (height, width, 3) float32 in 0..255."""
    y, x = np.mgrid[:height, :width]
    waves = [128 + 100 * np.sin(x / 17 + y / 23 + shift) for shift in range(3)]
    return np.stack(waves, axis=-1).astype(np.float32)


@given(augmentations)
def test_the_text_of_an_augmentation_is_parsed_back(values):
    """parse(spec) is the augmentation itself, whatever its amounts."""
    augmentation = Augmentation(**values)
    assert Augmentation.parse(augmentation.spec) == augmentation
    assert Augmentation.parse(augmentation.spec).spec == augmentation.spec


@given(augmentations, st.data())
def test_order_case_and_blanks_do_not_matter(values, data):
    """However the items are arranged, the recipe's text is one."""
    items = [f"{name}={value}" for name, value in values.items() if value != ""]
    shuffled = data.draw(st.permutations(items))
    text = data.draw(st.sampled_from([",", " , "])).join(shuffled)
    assert Augmentation.parse(f" {text.upper()} ").spec == Augmentation(**values).spec


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("classic", "flip,rotate=40.0,shear=0.2,shift=0.2,zoom=0.2"),
        ("flip,rotate=40,shift=0.2,shear=.2,zoom=2e-1,fill=nearest",
         "flip,rotate=40.0,shear=0.2,shift=0.2,zoom=0.2"),
        ("flip-rotate", "fill=reflect,flip,rotate=72.0"),
        ("flip=horizontal", "flip"),
        ("flip=vertical,rotate=0", "flip=vertical"),
        ("flip,fill=wrap", "flip"),  # nothing can come in from outside
    ],
)  # fmt: skip
def test_the_canonical_text(text, spec):
    """Presets are written out, defaults and what has no effect are left out."""
    assert Augmentation.parse(text).spec == spec
    assert set(PRESETS) == {"classic", "flip-rotate"}


def test_an_int_and_a_float_are_one_amount():
    """An augmentation made in Python has the text of the parsed one."""
    assert Augmentation(rotate=40).spec == Augmentation.parse("rotate=40").spec


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("flip,rotat=40", "did you mean rotate"),
        ("rotation_range=40", "did you mean rotate"),
        ("clasic", "did you mean classic"),
        ("flip=sideways", "horizontal, vertical, both"),
        ("flip=", "needs a word"),
        ("rotate=10,fill=reflct", "did you mean reflect"),
        ("rotate=10,fill", "nearest, reflect, wrap, black"),
        ("rotate=40,flip,rotate=30", "rotate twice"),
        ("rotate=200", "0 to 180 (degrees)"),
        ("shift=20", "0 to 1 (a fraction of each side)"),
        ("shift=20%", "a bare number"),
        ("rotate=0.7rad", "degrees"),
        ("rotate=-40", "in both directions"),
        ("rotate", "a bare number"),
        ("zoom=nan", "a bare number"),
        ("zoom=1_0", "a bare number"),
        ("zoom=1e999", "0 to 0.9"),
        ("classic,brightness=0.2", "stands alone"),
        ("flip,,rotate=3", "--augment has no ''"),
        ("", "--augment has no ''"),
        ("rotate=0", "changes nothing"),
        ("fill=wrap", "changes nothing"),
    ],
)
def test_a_wrong_text_is_answered_with_what_is_right(text, words):
    """Typos, amounts out of range, units and repeated names are named, with the option."""
    with pytest.raises(FeatcacheError) as raised:
        Augmentation.parse(text)
    assert words in str(raised.value)
    assert "--augment" in str(raised.value)


@given(st.text(max_size=30))
def test_any_other_text_is_refused_politely(text):
    """Whatever is typed, the answer is an augmentation or a FeatcacheError."""
    with suppress(FeatcacheError):
        assert Augmentation.parse(text).spec


@settings(max_examples=30)
@given(augmentations, st.integers(0, 2**64), st.integers(1, 2**31))
def test_a_view_is_a_function_of_its_arguments(values, seed, number):
    """The same key, seed and number give the same pixels, of the same type and shape, in order."""
    augmentation = Augmentation(**values)
    for pixels in (smooth(13, 17), smooth(13, 17).astype(np.uint8)):
        before = pixels.copy()
        first = view(pixels, augmentation, key=KEY, seed=seed, number=number)
        assert (first.dtype, first.shape) == (pixels.dtype, pixels.shape)
        assert first.flags.c_contiguous
        assert first.min() >= 0
        assert first.max() <= 255
        again = view(pixels, augmentation, key=KEY, seed=seed, number=number)
        assert first.tobytes() == again.tobytes()
        assert np.array_equal(pixels, before)


def test_the_random_numbers_are_these_for_ever():
    """Kept features are found by seed and number: a change of the stream must be noticed here."""
    drawn = draw(CLASSIC, key=KEY, seed=3, number=1)
    assert (drawn.flip_x, drawn.flip_y) == (True, False)
    assert [drawn.rotate, drawn.shear, drawn.shift_x, drawn.shift_y] == pytest.approx(
        [-13.0969761398, 0.1876493040, 0.1291021882, 0.0734212538]
    )
    pixels = view(smooth(40, 50), CLASSIC, key=KEY, seed=3, number=1)
    assert pixels.mean(axis=(0, 1)) == pytest.approx([153.323, 90.327, 61.967], abs=0.01)


def test_number_zero_is_the_plain_image():
    """View 0 is the array itself, untouched and uncopied."""
    pixels = smooth(8, 8)
    assert view(pixels, CLASSIC, key=KEY, seed=0, number=0) is pixels


def test_other_numbers_seeds_and_keys_give_other_views():
    """Views of one image differ, and so do those of another seed or another image."""
    pixels = smooth(32, 32)
    other = hashlib.sha256(b"another image").hexdigest()
    chosen = [(KEY, 0, n) for n in range(1, 9)] + [(KEY, 1, 1), (KEY, 11, 1), (other, 0, 1)]
    seen = {
        view(pixels, CLASSIC, key=key, seed=seed, number=number).tobytes()
        for key, seed, number in chosen
    }
    assert len(seen) == len(chosen)


def test_another_amount_does_not_reshuffle_the_rest():
    """With brightness added or the rotation halved, the flip and the shift stay as they were."""
    more = Augmentation.parse("flip,rotate=20,shift=0.2,shear=0.2,zoom=0.2,brightness=0.1")
    for number in range(1, 20):
        was = draw(CLASSIC, key=KEY, seed=0, number=number)
        now = draw(more, key=KEY, seed=0, number=number)
        assert (now.flip_x, now.shift_x, now.zoom_y) == (was.flip_x, was.shift_x, was.zoom_y)
        assert now.rotate == pytest.approx(was.rotate / 2)


def test_amounts_are_spread_evenly_and_flips_are_even():
    """2,000 draws fill -x..x evenly in every slot, independently, and half of them flip."""
    everything = Augmentation(flip="both", **{name: limit for name, (limit, _) in LIMITS.items()})
    drawn = [draw(everything, key=KEY, seed=0, number=number) for number in range(1, 2001)]
    table = np.array(
        [
            [d.flip_x, d.flip_y, d.rotate / 180, d.shear / 80, d.shift_x, d.shift_y,
             (d.zoom_x - 1) / 0.9, (d.zoom_y - 1) / 0.9, d.brightness, d.contrast - 1]
            for d in drawn
        ],
        dtype=np.float64,
    )  # fmt: skip
    assert table[:, :2].mean(axis=0) == pytest.approx([0.5, 0.5], abs=0.04)
    quartiles = np.quantile(table[:, 2:], [0, 0.25, 0.5, 0.75, 1], axis=0)
    assert quartiles == pytest.approx(np.array([[-1, -0.5, 0, 0.5, 1]] * 8).T, abs=0.08)
    assert np.abs(np.corrcoef(table.T) - np.eye(10)).max() < 0.1


def keras_generator(fill: str):
    from keras.src.legacy.preprocessing.image import ImageDataGenerator

    return ImageDataGenerator(fill_mode=fill, data_format="channels_last")


@pytest.mark.filterwarnings(
    "ignore:Please import `affine_transform`:DeprecationWarning"  # Keras calls SciPy's old name
)
@pytest.mark.parametrize("fill", ["nearest", "reflect"])
def test_the_geometry_is_that_of_image_data_generator(fill):
    """With the same numbers drawn, a square image becomes what Keras's generator makes of it."""
    side = 96
    pixels, generator = smooth(side, side), keras_generator(fill)
    lively = Augmentation.parse(f"flip=both,rotate=180,shift=0.4,shear=30,zoom=0.5,fill={fill}")
    for number in range(1, 13):
        drawn = draw(lively, key=KEY, seed=0, number=number)
        want = generator.apply_transform(
            pixels,
            {
                "theta": drawn.rotate, "shear": drawn.shear,
                "tx": drawn.shift_x * side, "ty": drawn.shift_y * side,
                "zx": drawn.zoom_x, "zy": drawn.zoom_y,
                "flip_horizontal": drawn.flip_x, "flip_vertical": drawn.flip_y,
            },
        )  # fmt: skip
        # OpenCV 4 puts coordinates on a grid of 1/32 of a pixel; OpenCV 5 agrees to 0.001.
        assert np.abs(apply(pixels, drawn, fill=fill) - want).max() < 0.25


@pytest.mark.parametrize(("keras_fill", "fill"), [("reflect", "reflect"), ("nearest", "nearest")])
def test_the_rotation_is_that_of_random_rotation(keras_fill, fill):
    """A rotation shows what Keras's RandomRotation layer shows, whatever the image's sides."""
    import keras

    layer = keras.layers.RandomRotation(0.2, fill_mode=keras_fill)
    pixels = smooth(60, 80)
    transformation = layer.get_random_transformation(pixels[np.newaxis], seed=1)
    angle = float(transformation["angle"][0])
    assert abs(angle) > 5
    want = np.asarray(layer.transform_images(pixels[np.newaxis], transformation))[0]
    got = apply(pixels, Draw(rotate=angle), fill=fill)
    other_way = apply(pixels, Draw(rotate=-angle), fill=fill)
    assert min(np.abs(got - want).max(), np.abs(other_way - want).max()) < 0.25


def test_brightness_and_contrast_are_those_of_the_keras_layers():
    """Brightness adds a part of 255; contrast scales about each channel's mean; both clip."""
    import keras

    pixels = smooth(20, 30)
    layer = keras.layers.RandomContrast(0.5)
    want = layer.transform_images(pixels, {"contrast_factor": np.float32(1.4)})
    assert np.abs(apply(pixels, Draw(contrast=1.4), fill="black") - want).max() < 1e-3
    brighter = apply(pixels, Draw(brightness=0.3), fill="black")
    assert np.abs(brighter - np.clip(pixels + 0.3 * 255, 0, 255)).max() < 1e-3


def test_a_flip_alone_moves_pixels_exactly():
    """Without other changes every pixel keeps its value, in both types."""
    for pixels in (smooth(5, 8), smooth(5, 8).astype(np.uint8)):
        assert np.array_equal(apply(pixels, Draw(flip_x=True), fill="black"), pixels[:, ::-1])
        assert np.array_equal(apply(pixels, Draw(flip_y=True), fill="black"), pixels[::-1])


@pytest.mark.parametrize(
    ("fill", "row"),
    [
        ("nearest", [10, 10, 10, 20, 30]),
        ("reflect", [20, 10, 10, 20, 30]),
        ("wrap", [40, 50, 10, 20, 30]),
        ("black", [0, 0, 10, 20, 30]),
    ],
)
def test_what_stands_outside_the_image(fill, row):
    """A shift by two of five pixels shows what each fill puts there."""
    line = np.repeat(np.array([[10, 20, 30, 40, 50]], np.uint8)[..., np.newaxis], 3, axis=2)
    for pixels in (line, line.astype(np.float32)):
        assert apply(pixels, Draw(shift_x=-0.4), fill=fill)[0, :, 0].tolist() == row


@pytest.mark.parametrize("fill", FILLS)
def test_both_pixel_types_agree_to_rounding(fill):
    """uint8 is the rounded float32 view, in every fill."""
    whole = np.rint(smooth(48, 64))
    everything = Augmentation.parse(
        f"flip=both,rotate=90,shift=0.5,shear=20,zoom=0.5,brightness=0.2,contrast=0.3,fill={fill}"
    )
    for number in range(1, 9):
        place = {"key": KEY, "seed": 5, "number": number}
        exact = view(whole, everything, **place)
        rounded = view(whole.astype(np.uint8), everything, **place)
        assert np.abs(exact - rounded).max() <= 1.5


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (9, 1)])
def test_images_of_one_pixel_have_views(fill, shape):
    """A side of one pixel is no special case."""
    pixels = np.full((*shape, 3), 90, np.uint8)
    augmentation = Augmentation.parse(f"flip,rotate=40,shift=1,zoom=0.9,shear=80,fill={fill}")
    for number in range(1, 9):
        got = view(pixels, augmentation, key=KEY, seed=0, number=number)
        assert got.shape == pixels.shape
        assert fill == "black" or (got == 90).all()


def test_threads_do_not_change_views():
    """Views made by eight threads at once are those made one after another."""
    pixels = smooth(64, 64).astype(np.uint8)

    def one(number: int) -> bytes:
        return view(pixels, CLASSIC, key=KEY, seed=0, number=number).tobytes()

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(one, range(200))) == [one(number) for number in range(200)]
