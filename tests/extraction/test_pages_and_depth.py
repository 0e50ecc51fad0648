"""Pages, channels and depths through whole extractions: rows, keys, and what is said once a run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

import featcache
from featcache.errors import FeatcacheError
from featcache.recipe import Recipe

HOW = {"backbone": "efficientnet_lite0", "size": 32}


def noise(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape or (24, 24), dtype=np.uint8)


@pytest.fixture
def stacks(tmp_path: Path) -> Path:
    """Two classes of five stacks of three pages each."""
    for number in range(10):
        pages = np.stack([noise(3 * number + page) for page in range(3)])
        folder = tmp_path / "z" / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(folder / f"{number}.tif", pages, photometric="minisblack", metadata=None)
    return tmp_path / "z"


def told(features: featcache.Features, words: str) -> list[str]:
    return [remark for remark in features.run.remarks if words in remark]


def test_a_stack_is_said_once_a_run(stacks, tmp_path):
    """Ten stacks bring one sentence with their number; the recipe's text is as it ever was."""
    first = featcache.extract(stacks, cache=tmp_path / "cache", **HOW)
    (remark,) = told(first, "several pages")
    assert "(10 images)" in remark
    assert "page" not in first.recipe.to_json()
    assert "channels" not in first.recipe.to_json()


def test_page_and_channels_are_of_the_recipe(stacks, tmp_path):
    """Another page, other channels: other rows beside the first ones, and nothing to be told."""
    cache = tmp_path / "cache"
    first = featcache.extract(stacks, cache=cache, **HOW)
    second = featcache.extract(stacks, cache=cache, page=1, **HOW)
    mixed = featcache.extract(stacks, cache=cache, channels="0,2,1", **HOW)
    assert told(second, "pages") == told(mixed, "pages") == []
    assert len({first.path, second.path, mixed.path}) == 3
    for found in (second, mixed):
        assert Recipe.from_json(found.recipe.to_json()) == found.recipe
        assert np.ptp(found.vectors, axis=0).max() > 0
    alone = tmp_path / "alone"
    for name, pages in (
        ("1.png", noise(1)),
        ("0.png", np.dstack([noise(0), noise(2), noise(1)])),
    ):
        (alone / name[0]).mkdir(parents=True)
        Image.fromarray(pages).save(alone / name[0] / name)
    expected = featcache.extract(alone, cache=cache, **HOW)
    by_name = dict(zip(expected.names, expected.vectors, strict=True))
    row = second.names.tolist().index("a/0.tif")
    np.testing.assert_allclose(second.vectors[row], by_name["1/1.png"], atol=1e-5)
    np.testing.assert_allclose(mixed.vectors[row], by_name["0/0.png"], atol=1e-5)


def test_pages_each_makes_a_row_of_every_page(stacks, tmp_path):
    """Thirty rows with names, keys and groups; a second run reuses them; a head predicts pages."""
    cache = tmp_path / "cache"
    each = featcache.extract(stacks, cache=cache, pages="each", **HOW)
    assert len(each) == 30
    assert told(each, "several pages") == []
    assert each.names[:3].tolist() == [f"a/0.tif#page={page}" for page in range(3)]
    assert len(set(each.keys.tolist())) == 30
    again = featcache.extract(stacks, cache=cache, pages="each", **HOW)
    assert (again.run.extracted, again.run.reused) == (0, 30)
    head = featcache.fit_head(each, head="ridge")
    predictions = head.predict_images(stacks, cache=cache, pages="each")
    assert [each.name for each in predictions] == again.names.tolist()
    with pytest.raises(FeatcacheError, match="leave one out"):
        featcache.extract(stacks, cache=cache, pages="each", page=1, **HOW)


@pytest.mark.parametrize("channels", ["0,1", "a", "0,1,2,3", [0, -1, 2]])
def test_channels_are_one_or_three(stacks, tmp_path, channels):
    """Anything else is a sentence with an example."""
    with pytest.raises(FeatcacheError, match="such as 0,2,1"):
        featcache.extract(stacks, cache=tmp_path / "cache", channels=channels, **HOW)


def test_the_advice_holds_the_largest_value_of_the_run(tmp_path):
    """One image of 13 bits among those of 10: 13 is named; 12 is told to cut values off."""
    (tmp_path / "d").mkdir()
    for number, bits in enumerate((10, 10, 13)):
        values = (noise(number).astype(np.uint16) << (bits - 8)) | 1
        values[0, 0] = 2**bits - 1
        Image.fromarray(values).save(tmp_path / "d" / f"{number}.png")
    cache = tmp_path / "cache"
    (advice,) = told(featcache.extract(tmp_path / "d", cache=cache, **HOW), "--bit-depth")
    assert "--bit-depth 13 holds them all" in advice
    assert "3 images of 16 bits" in advice
    cut = featcache.extract(tmp_path / "d", cache=cache, bit_depth="12", **HOW)
    (advice,) = told(cut, "--bit-depth")
    assert "cuts off" in advice
    assert "use --bit-depth 13" in advice
    right = featcache.extract(tmp_path / "d", cache=cache, bit_depth="13", **HOW)
    assert told(right, "--bit-depth") == []
