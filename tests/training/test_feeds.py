"""Feeds: every image once an epoch, in an order and as a view that only seed and number decide."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from featcache.errors import ImageFailure
from featcache.images import ImageSet, find_images
from featcache.images.augment import Augmentation, view
from featcache.images.decoder import decode
from featcache.recipe import Decoding
from featcache.training import feeds as rows_module
from featcache.training import pixels
from featcache.training.feeds import RowFeed
from featcache.training.options import LearningOptions
from featcache.training.pixels import Pictures, PixelFeed

OPTIONS = LearningOptions(batch_size=4, seed=5)
DECODING = Decoding((20, 24))
FLIPS = Augmentation.parse("flip,rotate=30")

#: Ten images, some with several rows: row r of image i holds the numbers 10 i + its view.
IMAGES = np.repeat(np.arange(10), [1, 3, 1, 1, 3, 2, 1, 1, 1, 2])
VIEWS = np.concatenate([np.arange(count) for count in np.bincount(IMAGES)])
VECTORS = np.broadcast_to((10 * IMAGES + VIEWS)[:, None, None], (16, 2, 3)).astype(np.float16)


def row_feed(vectors=VECTORS, options: LearningOptions = OPTIONS) -> RowFeed:
    return RowFeed(vectors, IMAGES * 2, IMAGES / 10, IMAGES, options)


def numbers(batches) -> list[list[int]]:
    """The number that each row of each batch holds."""
    return [batch.inputs[:, 0, 0].astype(int).tolist() for batch in batches]


def test_an_epoch_shows_a_random_row_of_every_image():
    """Each image once, its rows in turn, with its own code and weight, in stored type."""
    source, seen = row_feed(), set()
    for number in range(20):
        batches = list(source.epoch(number))
        assert [len(batch.inputs) for batch in batches] == [4, 4, 2]
        shown = np.concatenate([batch.inputs for batch in batches])
        assert shown.dtype == np.float16
        assert shown.shape == (10, 2, 3)
        images = shown[:, 0, 0].astype(int) // 10
        assert sorted(images) == list(range(10))
        codes = np.concatenate([batch.codes for batch in batches])
        weights = np.concatenate([batch.weights for batch in batches])
        assert codes.dtype == np.int32
        np.testing.assert_array_equal(codes, images * 2)
        np.testing.assert_array_equal(weights, (images / 10).astype(np.float32))
        seen |= set(shown[:, 0, 0].astype(int).tolist())
    assert seen == set(VECTORS[:, 0, 0].astype(int).tolist())


def test_an_epoch_is_a_function_of_seed_and_number():
    """Asked for again, in another feed, an epoch is the same; another seed or number is not."""
    first = numbers(row_feed().epoch(3))
    assert numbers(row_feed().epoch(3)) == first
    assert numbers(row_feed().epoch(4)) != first
    assert numbers(row_feed(options=replace(OPTIONS, seed=6)).epoch(3)) != first


def test_judging_sees_the_first_row_of_every_image_in_order():
    """`plain` shows each image once, as its first row, which is the plain one."""
    assert numbers(row_feed().plain()) == [[0, 10, 20, 30], [40, 50, 60, 70], [80, 90]]
    assert len(row_feed()) == 10


def test_steps_cut_one_pass_after_the_other():
    """With a number of steps, two epochs of five images show all ten."""
    options = replace(OPTIONS, batch_size=5, steps_per_epoch=1)
    shown = [numbers(row_feed(options=options).epoch(number))[0] for number in (0, 1)]
    assert sorted(value // 10 for value in shown[0] + shown[1]) == list(range(10))


@pytest.mark.parametrize("steps", [None, 7])
def test_rows_on_disk_are_the_rows_in_memory(tmp_path, monkeypatch, steps):
    """An h5py data set, read batch by batch, gives what the array gives, where a batch holds the
    same row twice too.
    """
    options = replace(OPTIONS, batch_size=9, steps_per_epoch=steps)
    want = [numbers(row_feed(options=options).epoch(number)) for number in range(4)]
    monkeypatch.setattr(rows_module, "HELD_BYTES", 0)
    with h5py.File(tmp_path / "rows.h5", "w") as file:
        stored = file.create_dataset("rows", data=VECTORS)
        source = row_feed(stored, options)
        assert [numbers(source.epoch(number)) for number in range(4)] == want
        assert numbers(source.plain()) == numbers(row_feed(options=options).plain())


def test_weights_are_1_where_none_are_given():
    """Without weights every row counts the same."""
    batch = next(RowFeed(VECTORS, IMAGES, None, IMAGES, OPTIONS).epoch(0))
    assert batch.weights.dtype == np.float32
    assert batch.weights.tolist() == [1, 1, 1, 1]


@pytest.fixture
def images(tmp_path: Path, photographs) -> ImageSet:
    """Nine PNG files of photographs."""
    for number in range(9):
        Image.fromarray(photographs[5 * number]).save(tmp_path / f"{number}.png")
    return find_images(tmp_path)


def pixel_feed(images: ImageSet, **given) -> PixelFeed:
    """A feed of eight of them; the code of an image is its number."""
    indices = np.arange(1, 9)
    pictures = Pictures.of(images, given.pop("decoding", DECODING), count=len(indices))
    settings = {"weights": None, "options": OPTIONS, **given}
    return PixelFeed(pictures=pictures, indices=indices, codes=indices, **settings)


def seen_as(images: ImageSet, index: int, number: int) -> np.ndarray:
    """The pixels of a view as extraction computes them."""
    read = images.read(index)
    plain = decode(read.content, DECODING).pixels
    return view(plain, FLIPS, key=read.key, seed=OPTIONS.seed, number=number)


@pytest.mark.parametrize("threads", [1, 3])
def test_an_epoch_shows_the_view_of_its_number(images, threads):
    """In epoch e every image is its view e + 1, pixel for pixel the one that extract caches."""
    source = pixel_feed(images, augmentation=FLIPS, threads=threads)
    for number in (0, 3):
        batches = list(source.epoch(number))
        assert [len(batch.inputs) for batch in batches] == [4, 4]
        assert batches[0].inputs.dtype == np.uint8
        codes = np.concatenate([batch.codes for batch in batches])
        assert sorted(codes) == list(range(1, 9))
        assert codes.tolist() != list(range(1, 9))
        for code, shown in zip(codes, np.concatenate([b.inputs for b in batches]), strict=True):
            np.testing.assert_array_equal(shown, seen_as(images, int(code), number + 1))


def test_without_augmentation_and_for_judging_images_are_as_they_are(images):
    """`plain` shows decoded images in order; an epoch without augmentation shuffles the same."""
    want = {code: seen_as(images, code, 0) for code in range(1, 9)}
    for source in (pixel_feed(images, augmentation=FLIPS).plain(), pixel_feed(images).epoch(2)):
        for batch in source:
            for code, shown in zip(batch.codes.tolist(), batch.inputs, strict=True):
                np.testing.assert_array_equal(shown, want[code])
    order = [batch.codes.tolist() for batch in pixel_feed(images, augmentation=FLIPS).plain()]
    assert order == [[1, 2, 3, 4], [5, 6, 7, 8]]


def test_rows_and_pixels_of_the_same_images_come_in_the_same_order(images):
    """An epoch from cached rows shows the images of an epoch from pixels, batch for batch."""
    rows = RowFeed(np.zeros((8, 3)), np.arange(1, 9), None, np.arange(8), OPTIONS)
    for number in range(3):
        ours, theirs = (
            [batch.codes.tolist() for batch in source.epoch(number)]
            for source in (rows, pixel_feed(images, augmentation=FLIPS))
        )
        assert ours == theirs


def test_an_image_that_broke_is_named(images, monkeypatch):
    """A file that is not an image any more ends the training with its name; what was decoded
    before and is kept is not read again.
    """
    source = pixel_feed(images)
    assert len(list(source.epoch(0))) == 2
    (images.root / "4.png").write_bytes(b"no picture")
    assert len(list(source.epoch(1))) == 2
    monkeypatch.setattr(pixels, "KEPT_BYTES", 0)
    with pytest.raises(ImageFailure, match=r"4\.png.*could be used before"):
        list(pixel_feed(images).epoch(0))


def test_float_pixels_stay_as_they_are(images):
    """Keras's interpolation gives float32 pixels that are not rounded."""
    batch = next(pixel_feed(images, decoding=Decoding((20, 24), interpolation="keras")).plain())
    assert batch.inputs.dtype == np.float32
    assert (batch.inputs % 1 != 0).any()
