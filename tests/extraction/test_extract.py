"""What `extract` promises: right vectors, only what is new, and one bad image costs only itself."""

from __future__ import annotations

import os
import shutil
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import featcache
from featcache.errors import FeatcacheError, ImageFailure
from featcache.files.small_files import FileStamp
from featcache.images import StatCache, find_images
from featcache.runtimes.probe import row_error


def extract(images, cache: Path, **options):
    """efficientnet_lite0 at 32 pixels, unless told otherwise."""
    options = {"backbone": "efficientnet_lite0", "size": 32, "batch": 16} | options
    return featcache.extract(images, cache=cache, **options)


def counts(features) -> tuple[int, int, int]:
    run = features.run
    return run.extracted, run.reused, len(run.failures)


def test_rows_are_sorted_and_carry_their_labels(photos, cache):
    """One row an image, sorted by path, with class folders as labels and finite vectors."""
    features = extract(photos, cache)
    assert features.names.tolist() == sorted(features.names.tolist())
    assert features.labels.tolist() == ["flower"] * 24 + ["temple"] * 24
    assert features.vectors.shape == (48, 1280)
    assert np.isfinite(features.vectors).all()
    assert counts(features) == (48, 0, 0)


def test_rehash_sees_what_a_files_times_do_not_tell(photos, cache):
    """An image that changed while size and times stayed is extracted with `rehash`, not without."""
    first, other = sorted((photos / "flower").iterdir())[:2]
    long = max(first.stat().st_size, other.stat().st_size)
    contents = [path.read_bytes().ljust(long, b"\0") for path in (first, other)]
    first.write_bytes(contents[0])
    for path in photos.rglob("*.jpg"):
        os.utime(path, (1e9, 1e9))
    extract(photos, cache)
    scan = next(cache.glob("*/scan.json.gz"))
    keys = StatCache.load(scan)
    first.write_bytes(contents[1])
    os.utime(first, (1e9, 1e9))
    # The change time cannot be set back: the scan is told of it, as of a write by a memory map.
    stamp = FileStamp.of(first.stat())
    images = find_images(photos)
    for index, name in enumerate(images.names):
        now = images.stat(index)
        key = images.read(index).key if name != "flower/24.jpg" else sha256(contents[0]).hexdigest()
        keys.remember(name, stamp if name == "flower/24.jpg" else now, key, 2**62)
    keys.save(scan)
    assert extract(photos, cache).run.extracted == 0
    again = extract(photos, cache, rehash=True)
    assert again.run.extracted == 1
    assert sha256(contents[1]).hexdigest() in again.keys.tolist()
    assert extract(photos, cache).keys.tolist() == again.keys.tolist()


def test_only_what_is_new_is_extracted(photos, cache, photographs):
    """Again, a renamed class, a copied image, one changed pixel, ten new images: 0, 0, 0, 1, 10."""
    first = extract(photos, cache)
    assert counts(extract(photos, cache)) == (0, 48, 0)

    (photos / "temple").rename(photos / "shrine")
    renamed = extract(photos, cache)
    assert counts(renamed) == (0, 48, 0)
    assert renamed.classes == ["flower", "shrine"]

    shutil.copy(photos / "flower" / "30.jpg", photos / "flower" / "copy.jpg")
    copied = extract(photos, cache)
    assert counts(copied) == (0, 49, 0)
    assert np.array_equal(copied.vectors[-25], first.vectors[6])

    changed = np.array(Image.open(photos / "flower" / "31.jpg"))
    changed[3, 4] ^= 128
    Image.fromarray(changed).save(photos / "flower" / "31.jpg", quality=92)
    assert counts(extract(photos, cache)) == (1, 48, 0)

    for number in range(10):
        Image.fromarray(photographs[number][::-1]).save(photos / "flower" / f"new{number}.jpg")
    assert counts(extract(photos, cache)) == (10, 49, 0)


def test_a_grown_data_set_equals_a_fresh_one(photos, cache, tmp_path):
    """Rows added later are, bit for bit, those of a run over everything at once."""
    late = sorted((photos / "flower").iterdir())[5:15]
    for path in late:
        path.rename(tmp_path / path.name)
    extract(photos, cache)
    for path in late:
        (tmp_path / path.name).rename(path)
    grown = extract(photos, cache)
    fresh = extract(photos, tmp_path / "other")
    assert grown.path.read_bytes() == fresh.path.read_bytes()


@pytest.mark.parametrize(
    "changes",
    [
        [{"pooling": "max"}, {"resize": "pad"}, {"weights": "random:1"}],
        pytest.param(
            [{"size": 40}, {"interpolation": "keras"}, {"dtype": "float16"},
             {"layer": "block6_add"}, {"weights": "random:1"}, {"weights": "random:2"}],
            marks=pytest.mark.slow,
        ),
    ],
)  # fmt: skip
def test_a_change_of_setting_is_another_recipe(changes, photos, cache):
    """Size, pooling, interpolation, resize, type, layer or weights: none is answered by another."""
    found = [extract(photos, cache, **options) for options in ({}, *changes)]
    assert len({features.path.parent.name for features in found}) == len(found)
    assert all(features.run.extracted for features in found)


def test_data_sets_share_rows(photos, cache, tmp_path):
    """Images that another data set of the cache already has are not extracted again."""
    first = extract(photos, cache)
    other = tmp_path / "more"
    shutil.copytree(photos / "flower", other / "blossom")
    second = extract(other, cache)
    assert counts(second) == (0, 24, 0)
    assert np.array_equal(second.vectors, first.vectors[:24])
    second.check()


def test_a_bad_image_costs_only_itself(photos, cache):
    """Damaged files are listed with their reasons; every other row is there, and no zero row."""
    good = extract(photos, cache)
    whole = (photos / "temple" / "00.jpg").read_bytes()
    (photos / "temple" / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (photos / "temple" / "empty.jpg").write_bytes(b"")
    (photos / "temple" / "page.jpg").write_text("<html>not found</html>")
    features = extract(photos, cache)
    assert counts(features) == (0, 48, 3)
    assert np.array_equal(features.vectors, good.vectors)
    reasons = {Path(failure.path).name: failure.message for failure in features.failures}
    assert set(reasons) == {"cut.jpg", "empty.jpg", "page.jpg"}
    assert all(reasons.values())
    assert counts(extract(photos, cache)) == (0, 48, 3)


def test_failures_are_tried_again_when_asked(photos, cache, monkeypatch):
    """A known failure is not decoded again, unless --retry-failed says so."""
    import featcache.extraction.reading as reading

    bad = photos / "temple" / "cut.jpg"
    bad.write_bytes((photos / "temple" / "00.jpg").read_bytes()[:800])
    extract(photos, cache)
    seen = []
    real = reading.decode_all
    monkeypatch.setattr(reading, "decode_all", lambda *a, **k: seen.append(1) or real(*a, **k))
    extract(photos, cache)
    assert seen == []
    extract(photos, cache, retry_failed=True)
    assert seen == [1]


def test_when_every_image_fails_the_command_fails(tmp_path, cache):
    """Not one usable image: an `ImageFailure` that gives the reasons."""
    (tmp_path / "junk").mkdir()
    for number in range(3):
        (tmp_path / "junk" / f"{number}.jpg").write_text(f"junk {number}")
    with pytest.raises(ImageFailure, match="not one of 3 images"):
        extract(tmp_path / "junk", cache)


def test_on_error_fail_stops_and_keeps_what_is_done(photos, cache):
    """--on-error fail names the image; rows finished before it are not computed again."""
    (photos / "temple" / "99.jpg").write_text("junk")
    with pytest.raises(ImageFailure, match=r"temple/99\.jpg"):
        extract(photos, cache, on_error="fail")
    (photos / "temple" / "99.jpg").unlink()
    assert extract(photos, cache).run.extracted < 48


def test_arrays_in_memory(photographs, cache):
    """uint8 arrays give the rows that the same pixels in a file give."""
    features = extract(np.stack(photographs), cache, labels=["a", "b"] * 24)
    assert features.vectors.shape == (48, 1280)
    assert features.classes == ["a", "b"]
    assert counts(extract(np.stack(photographs), cache, labels=["a", "b"] * 24)) == (0, 48, 0)


def test_a_test_split_is_carved_and_stays(photos, cache, photographs):
    """--test-from takes about the asked share, by image bytes: growing the set moves nobody."""
    root = photos.parent / "split"
    for split, name in (("train", "temple"), ("validation", "flower")):
        shutil.copytree(photos / name, root / split / name)
    features = extract(root, cache, test_from="validation:0.5")
    test = set(features.keys[features.splits == "test"].tolist())
    assert 4 <= len(test) <= 20
    Image.fromarray(photographs[0][::-1]).save(root / "validation" / "flower" / "0new.png")
    grown = extract(root, cache, test_from="validation:0.5")
    assert test <= set(grown.keys[grown.splits == "test"].tolist())
    with pytest.raises(FeatcacheError, match="splits here: none"):
        extract(photos, cache, test_from="train:0.5")


def test_unpooled_maps_are_stored_once_and_flattened_on_reading(photos, cache):
    """--pooling none keeps (R, H, W, C); `vectors` is the same numbers as (R, H·W·C)."""
    features = extract(photos, cache, pooling="none", size=64)
    assert features.maps.shape == (48, 2, 2, 1280)
    assert np.array_equal(features.vectors, features.maps.reshape(48, -1))


def test_a_damaged_part_is_extracted_again(photos, cache):
    """A flipped byte in features.h5 is found by the next run, and only its loss is recomputed."""
    features = extract(photos, cache)
    want = features.path.read_bytes()
    features.path.chmod(0o644)
    damaged = bytearray(want)
    damaged[5000] ^= 1  # in the metadata: the whole file is refused
    features.path.write_bytes(damaged)
    again = extract(photos, cache)
    assert again.run.extracted == 48
    assert any("damaged" in remark for remark in again.run.remarks)
    assert again.path.read_bytes() == want


def test_a_name_clash_takes_the_parents_name(photos, cache, tmp_path):
    """Two folders called alike get two names; a folder that moved keeps its own."""
    extract(photos, cache)
    other = tmp_path / "project" / "photos"
    shutil.copytree(photos, other)
    second = extract(other, cache)
    assert second.path.parent.parent.name == "project-photos"
    assert counts(second) == (0, 48, 0)
    assert any("project-photos" in remark for remark in second.run.remarks)
    moved = photos.rename(tmp_path / "elsewhere")
    (tmp_path / "deep").mkdir()
    third = extract(moved.rename(tmp_path / "deep" / "photos"), cache)
    assert third.path.parent.parent.name == "photos"


@pytest.mark.parametrize("count", [pytest.param(1, marks=pytest.mark.slow), 32, 39])
def test_keras_interpolation_equals_the_hand_written_loop(photos, cache, count):
    """With interpolation="keras", cached rows equal image_dataset_from_directory -> model.

    One image, one full batch, and a remainder; JPEG files; to 1e-5 in the error norm.
    """
    import keras

    flat = photos.parent / "flat" / "all"
    flat.mkdir(parents=True)
    for path in sorted(photos.rglob("*.jpg"))[:count]:
        shutil.copy(path, flat / path.name)
    features = extract(
        flat.parent, cache, backbone="mobilenetv2", weights="random:3", size=96,
        interpolation="keras", batch=32,
    )  # fmt: skip
    keras.utils.set_random_seed(3)
    loop = keras.utils.image_dataset_from_directory(
        flat.parent, labels=None, shuffle=False, image_size=(96, 96), batch_size=32, verbose=False
    ).map(keras.applications.mobilenet_v2.preprocess_input)
    from featcache.backbones.network import open_network
    from featcache.backbones.table import find_backbone

    network = open_network(find_backbone("mobilenetv2"), weights="random:3", size=(96, 96))
    want = network.base.predict(loop, verbose=0)
    assert row_error(features.vectors, want).max() < 1e-5


def test_dry_run_counts_without_extracting(photos, cache):
    """The estimate names rows, bytes and time, and leaves nothing to be reused."""
    from featcache.extraction.estimate import estimate
    from featcache.extraction.extract import prepare

    options = {"backbone": "efficientnet_lite0", "size": 32, "cache": cache, "batch": 16}
    plan = estimate(prepare(photos, **options))
    assert (plan.rows, plan.missing, plan.row_shapes) == (48, 48, [(1280,)])
    features = extract(photos, cache)
    assert counts(features) == (48, 0, 0)
    assert plan.bytes == pytest.approx(features.path.stat().st_size, rel=0.2)
    after = estimate(prepare(photos, **options))
    assert (after.missing, after.images_per_second) == (0, None)
