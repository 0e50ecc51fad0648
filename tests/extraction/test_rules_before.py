"""A cache and a head of pipeline 1, as they were written then: what is taken over, and what not.

`before/` holds twelve images, their features and a head, made by the version that read TIFF by
Pillow and OpenCV: four of its TIFF files were read wrongly.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import featcache
from featcache.errors import FeatcacheError
from featcache.extraction.estimate import estimate
from featcache.extraction.extract import prepare
from featcache.recipe import PIPELINE

BEFORE = Path(__file__).parent / "before"
CHANGED = ["a/5.white0.tif", "a/6.nir16.tif", "b/11.white0.tif", "b/12.nir16.tif"]
HOW = {"backbone": "efficientnet_lite0", "size": 32, "name": "photos"}


@pytest.fixture
def before(tmp_path: Path) -> Path:
    """A folder with `images` and the `cache` of before."""
    shutil.copytree(BEFORE, tmp_path / "before")
    root = str(tmp_path / "before" / "images")
    note = {"format": "featcache-dataset", "version": 1, "root": root}
    (tmp_path / "before/cache/photos/featcache.json").write_text(json.dumps(note))
    return tmp_path / "before"


def by_name(features: featcache.Features) -> dict[str, np.ndarray]:
    return dict(zip(features.names.tolist(), np.array(features.vectors), strict=True))


def test_rows_of_unchanged_kinds_are_taken_over_and_the_others_extracted_again(before):
    """JPEG, PNG and plain TIFF: no network. Four TIFF files: again. Both are counted aloud."""
    cache = before / "cache"
    old = by_name(featcache.load("photos", cache=cache))
    job = prepare(before / "images", cache=cache, **HOW)
    assert estimate(job).missing == 4
    found = featcache.extract(before / "images", cache=cache, **HOW)
    assert (found.run.rows, found.run.extracted, found.run.reused) == (12, 4, 8)
    (told,) = [remark for remark in found.run.remarks if "taken over" in remark]
    assert "8 rows whose pixels are the same" in told
    assert "4 images of changed kinds" in told
    assert found.recipe.pipeline == PIPELINE
    for name, vector in by_name(found).items():
        assert np.array_equal(vector, old[name]) == (name not in CHANGED), name

    again = featcache.extract(before / "images", cache=cache, **HOW)
    assert (again.run.extracted, again.run.reused) == (0, 12)
    assert not [remark for remark in again.run.remarks if "taken over" in remark]


def test_the_name_means_the_features_of_today(before):
    """Once a data set is up to date its name is not ambiguous; both files can still be read."""
    cache = before / "cache"
    found = featcache.extract(before / "images", cache=cache, **HOW)
    assert featcache.load("photos", cache=cache).path == found.path
    assert featcache.load("photos/efficientnet_lite0", cache=cache).path == found.path
    old = featcache.load("photos/efficientnet_lite0-00eeb26b", cache=cache)
    assert (old.recipe.pipeline, len(old)) == (1, 12)


def test_a_head_of_before_predicts_unchanged_kinds_alone(before, tmp_path):
    """With and without cached rows; a changed kind is refused with the advice to fit again."""
    head = featcache.Head.load(before / "head.safetensors")
    assert head.recipe.pipeline == 1
    cached = head.predict_images(before / "images", cache=before / "cache")
    computed = head.predict_images(before / "images", cache=tmp_path / "none")
    featcache.extract(before / "images", cache=before / "cache", **HOW)
    shutil.rmtree(before / "cache/photos/efficientnet_lite0-00eeb26b")
    of_today = head.predict_images(before / "images", cache=before / "cache")
    for predictions in (cached, computed, of_today):
        assert [each.name for each in predictions if each.failure] == sorted(CHANGED)
        assert all("fit again" in each.failure for each in predictions if each.failure)
    for ours, theirs in zip(cached, of_today, strict=True):
        assert ours == theirs
    for ours, theirs in zip(cached, computed, strict=True):
        assert ours.classes == theirs.classes
        np.testing.assert_allclose(ours.probabilities, theirs.probabilities, atol=1e-4)


def test_a_head_of_today_takes_unchanged_rows_of_before_alone(before):
    """A new head asks the network again where the row of before is of a changed kind."""
    new = featcache.extract(before / "images", cache=before / "new", **HOW)
    head = featcache.fit_head(new, head="ridge")
    of_new = head.predict_images(before / "images", cache=before / "new")
    of_old = head.predict_images(before / "images", cache=before / "cache")
    for ours, theirs in zip(of_new, of_old, strict=True):
        assert ours.classes == theirs.classes
        np.testing.assert_allclose(ours.probabilities, theirs.probabilities, atol=1e-4)


def test_rows_that_may_be_misread_are_not_learned_from(before):
    """Features of before load, but nothing is fitted or judged on their TIFF rows."""
    cache = before / "cache"
    old = featcache.load("photos", cache=cache)
    assert old.vectors.shape == (12, 1280)
    for use in (
        lambda rows: featcache.fit_head(rows, head="ridge"),
        lambda rows: featcache.sweep(rows, heads=["ridge"]),
        featcache.Head.load(before / "head.safetensors").check_fits,
    ):
        with pytest.raises(FeatcacheError, match="8 of its rows are of TIFF files"):
            use(old)
    plain = old[[not name.endswith(".tif") for name in old.names]]
    featcache.Head.load(before / "head.safetensors").check_fits(plain)
    plain.recipe.check_reading(plain.path.parent.name, plain.names)


def test_a_head_of_before_does_not_judge_features_of_today(before):
    """Nobody can tell which of their rows it knows: the advice is to fit again."""
    found = featcache.extract(before / "images", cache=before / "cache", **HOW)
    with pytest.raises(FeatcacheError, match="fit again"):
        featcache.Head.load(before / "head.safetensors").check_fits(found)
