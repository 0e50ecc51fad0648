"""Augmented views in the cache: rows of their own, reproducible, grown and shared."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

import featcache
from featcache.errors import FeatcacheError
from featcache.runtimes.probe import row_error

LITE = "efficientnet_lite0"


def extract(images, cache: Path, **options):
    options = {"backbone": LITE, "size": 32, "batch": 16, "augment": "classic"} | options
    return featcache.extract(images, cache=cache, **options)


def test_each_image_has_its_plain_row_and_its_views(photos, cache):
    """Rows are sorted by path, then view; view 0 is the vector without augmentation."""
    plain = extract(photos, cache, views=0, augment=None)
    features = extract(photos, cache, views=3)
    assert features.views.tolist() == [0, 1, 2, 3] * 48
    assert features.names[::4].tolist() == plain.names.tolist()
    assert np.array_equal(features.vectors[::4], plain.vectors)
    assert row_error(features.vectors[1::4], plain.vectors).min() > 1e-3


def test_the_plain_rows_are_reused(photos, cache):
    """Where the plain recipe was extracted before, only the views go through the network."""
    extract(photos, cache, views=0, augment=None)
    features = extract(photos, cache, views=2)
    assert (features.run.extracted, features.run.reused) == (96, 48)


def test_more_views_are_added(photos, cache, tmp_path):
    """From two views to four, two are extracted; the file is that of a fresh run."""
    extract(photos, cache, views=2)
    grown = extract(photos, cache, views=4)
    assert (grown.run.extracted, grown.run.reused) == (96, 144)
    fresh = extract(photos, tmp_path / "fresh", views=4)
    assert grown.path.read_bytes() == fresh.path.read_bytes()


def test_fewer_views_hide_rows_and_keep_them(photos, cache):
    """From two views to one and back: nothing is extracted again."""
    extract(photos, cache, views=2)
    fewer = extract(photos, cache, views=1)
    assert (len(fewer), fewer.run.extracted) == (96, 0)
    assert extract(photos, cache, views=2).run.extracted == 0


def test_another_seed_or_spec_is_another_recipe(photos, cache):
    """A seed, an amount: another file; another spelling of the same text: the same one."""
    paths = {
        extract(photos, cache, views=1, augment=text, seed=seed).path
        for text, seed in (
            ("flip,rotate=20", 0), ("rotate=20.0,flip", 0), ("flip,rotate=20", 1),
            ("flip,rotate=21", 0),
        )
    }  # fmt: skip
    assert len(paths) == 3


def test_only_training_images_get_views(photos, cache):
    """Validation and test images have their plain row alone; --augment-all changes it."""
    root = photos.parent / "split"
    for split, name in (("train", "temple"), ("validation", "flower")):
        shutil.copytree(photos / name, root / split / name)
    features = extract(root, cache, views=2)
    assert (features.views[features.splits == "validation"] == 0).all()
    assert (features.splits == "train").sum() == 3 * (features.splits == "validation").sum()
    assert len(extract(root, cache, views=2, augment_all=True)) == 3 * 48


def test_a_view_depends_on_the_bytes_and_not_on_the_name(photos, cache, tmp_path):
    """A copy under another name, in another data set: the same views, and none is extracted."""
    first = extract(photos, cache, views=2)
    shutil.copytree(photos / "flower", tmp_path / "more" / "blossom")
    second = extract(tmp_path / "more", cache, views=2)
    assert second.run.extracted == 0
    assert np.array_equal(second.vectors, first.vectors[: 3 * 24])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"views": 2, "augment": None}, "--views 2 without --augment"),
        ({"views": 0}, "--augment without --views"),
        ({"views": 2, "augment": "rotte=3"}, "rotate"),
        ({"views": 2, "seed": -1}, "seed -1: expected"),
        ({"views": -1}, "views -1: expected"),
    ],
)
def test_wrong_options_are_answered(photos, cache, options, says):
    """One option without the other, a typing error, a negative number: a sentence, no work."""
    with pytest.raises(FeatcacheError, match=says):
        extract(photos, cache, **options)
