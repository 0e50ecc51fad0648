"""Several taps and several backbones: one pass, a file each, as if made alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import featcache
from featcache.errors import FeatcacheError
from featcache.extraction.extract import prepare
from featcache.extraction.update import run_job
from featcache.runtimes.probe import row_error

LITE = "efficientnet_lite0"


def extract(images, cache: Path, **options):
    options = {"backbone": LITE, "size": 32, "batch": 16} | options
    return featcache.extract(images, cache=cache, **options)


def test_taps_of_one_pass_are_those_of_their_own_passes(photos, cache, tmp_path):
    """Three taps together: the same keys and vectors as one at a time, and one pass for all."""
    layers = ["block2_add", "block6_add:max", ""]
    together = extract(photos, cache, layer=layers)
    assert [each.run.extracted for each in together] == [48, 48, 48]
    assert together[0].run.computed == 48
    for layer, features in zip(layers, together, strict=True):
        alone = extract(photos, tmp_path / "alone", layer=layer)
        assert alone.recipe == features.recipe
        assert row_error(features.vectors, alone.vectors).max() < 1e-5


def test_a_tap_added_later_extracts_only_itself(photos, cache):
    """The second command asks for both taps; the network gives only the one that is missing."""
    extract(photos, cache, layer="block2_add")
    old, new = extract(photos, cache, layer=["block2_add", "block6_add"])
    assert (old.run.extracted, old.run.reused) == (0, 48)
    assert (new.run.extracted, new.run.reused) == (48, 0)


def test_a_new_image_is_extracted_for_every_tap(photos, cache, photographs):
    """One image more: one row more in each file, whichever taps were extracted when."""
    extract(photos, cache, layer="block2_add")
    Image.fromarray(photographs[0][::-1]).save(photos / "flower" / "new.png")
    both = extract(photos, cache, layer=["block2_add", "block6_add"])
    assert [(each.run.extracted, each.run.reused) for each in both] == [(1, 48), (49, 0)]


def test_several_backbones_share_the_decoding(photos, cache, tmp_path, monkeypatch):
    """Two networks of two input sizes: each image is read and decoded once."""
    import featcache.extraction.reading as reading

    calls = []
    real = reading.decode_all
    monkeypatch.setattr(reading, "decode_all", lambda *a, **k: calls.append(1) or real(*a, **k))
    both = extract(photos, cache, backbone=[LITE, "mobilenet"], weights="random:1")
    assert len(calls) == 48
    for features, backbone in zip(both, (LITE, "mobilenet"), strict=True):
        alone = extract(photos, tmp_path / "alone", backbone=backbone, weights="random:1")
        assert alone.recipe == features.recipe
        assert row_error(features.vectors, alone.vectors).max() < 1e-5


def test_the_same_tap_twice_is_one_file(photos, cache):
    """A layer by name, by alias and again, the output by three names: one target each."""
    named = "block1_expand_activation"
    layers = [named, "stride2", named, "", "output", "penultimate"]
    job = prepare(photos, backbone=LITE, size=32, cache=cache, layer=layers)
    assert [target.recipe.layer for target in job.targets] == [named, ""]


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_layers_of_the_top(photos, cache):
    """fc2 of VGG16 beside block5_pool: 4096 wide, from the network with its top, which is Keras's.

    A tap below the top has the key that it has without it; one in the top, another digest.
    """
    job = prepare(
        photos, backbone="vgg16", weights="random:2", layer=["fc2", "block1_pool"], cache=cache
    )
    top, below = job.targets
    assert top.network is below.network
    assert (top.tap.row_shape, below.tap.row_shape) == ((4096,), (64,))
    plain = prepare(
        photos, backbone="vgg16", weights="random:2", layer="block1_pool", cache=cache
    ).targets[0]
    assert below.recipe == plain.recipe
    assert top.recipe.weights != below.recipe.weights
    with pytest.raises(FeatcacheError, match="in the top of vgg16, which takes images of 224x224"):
        prepare(photos, backbone="vgg16", weights="random", layer="fc2", size=64, cache=cache)


def test_the_networks_own_output_pooled_in_two_ways(photos, cache):
    """Average, maximum and map of the own output: three networks, whose rows agree."""
    job = prepare(photos, backbone="mobilenet", weights="random:1", size=32, cache=cache,
                  layer=[":avg", ":none"])  # fmt: skip
    assert job.targets[0].network is not job.targets[1].network
    avg, maps = (job.cache.load(each.path) for each in run_job(job))
    assert row_error(maps.maps.mean(axis=(1, 2)), avg.vectors).max() < 1e-5


def test_check_compares_with_the_live_network(photos, cache):
    """--check reads rows back and finds them in the live network; a changed row is found out."""
    from featcache.extraction.live_check import check_rows

    job = prepare(photos, backbone=LITE, size=64, cache=cache, layer=["", ":max"], views=1,
                  augment="classic", dtype="float16")  # fmt: skip
    results = run_job(job)
    errors = check_rows(job, results, 7)
    assert len(errors) == 2
    assert all(0 < error < 1e-3 for error in errors)
    swapped = replace(results[1], path=results[0].path)
    with pytest.raises(featcache.DamagedFile, match="differs from the live Keras network"):
        check_rows(job, [swapped], 3)


def test_a_tap_too_large_for_the_disk_is_refused_before_any_work(photos, cache, monkeypatch):
    """Terabytes are announced, not begun: nothing is read by the network, nothing written."""
    import shutil

    free = shutil.disk_usage(photos)._replace(free=10_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: free)
    with pytest.raises(featcache.StorageFailure, match=r"block2_add.*Nothing was extracted"):
        extract(photos, cache, layer="block2_add:none")
    assert list(cache.rglob("*.h5")) == []


def test_maps_keep_their_place(photos, cache):
    """An unpooled tap of a non-square input has height before width."""
    features = extract(photos, cache, layer="block2_add:none", size=(64, 32))
    assert features.maps.shape[1:3] == (8, 4) or features.maps.shape[1:3] == (16, 8)
    assert np.isfinite(features.vectors).all()


def test_a_tap_is_found_by_its_name(photos, cache):
    """photos/BACKBONE/LAYER is one file; without the layer the candidates say what they are."""
    shallow, deep = extract(photos, cache, layer=["block2_add", "block6_add:max"])
    assert featcache.load(f"photos/{LITE}/block2_add", cache=cache).path == shallow.path
    assert featcache.load(f"photos/{LITE}/block6_add:max", cache=cache).path == deep.path
    with pytest.raises(FeatcacheError, match="write more of it") as told:
        featcache.load(f"photos/{LITE}", cache=cache)
    candidates = {line.split("  ")[-1] for line in str(told.value).splitlines()[1:]}
    assert candidates == {"block2_add, 32x32", "block6_add:max, 32x32"}
