"""What is given as a list comes back in its order; the file stays sorted."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pandas
import pytest
from PIL import Image

import featcache
from featcache.features.features import open_features

K = {"backbone": "efficientnet_lite0", "size": 32, "batch": 8}
COLOURS = {"red": (200, 40, 40), "green": (40, 200, 40)}


@pytest.fixture(scope="module")
def shades(tmp_path_factory) -> list[str]:
    """Twelve red and then twelve green images, whose names sort otherwise than their numbers."""
    folder = tmp_path_factory.mktemp("shades")
    random = np.random.default_rng(0)
    for number in range(24):
        colour = COLOURS["red" if number < 12 else "green"]
        pixels = np.clip(random.normal(colour, 30, (40, 40, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return [str(folder / f"{number}.png") for number in range(24)]


TRUE = np.array(["red"] * 12 + ["green"] * 12)


@pytest.fixture(scope="module")
def cached(shades, tmp_path_factory) -> Path:
    """A cache with all of them, by name."""
    cache = tmp_path_factory.mktemp("order")
    featcache.extract(Path(shades[0]).parent, cache=cache, **K)
    return cache


def vectors_by_path(cached, shades) -> dict[str, np.ndarray]:
    found = featcache.extract(Path(shades[0]).parent, cache=cached, **K)
    root = Path(shades[0]).parent
    return {str(root / name): row for name, row in zip(found.names, found.vectors, strict=True)}


ORDERS = {
    "as given": lambda paths: paths,
    "backwards": lambda paths: paths[::-1],
    "shuffled": lambda paths: [paths[at] for at in np.random.default_rng(4).permutation(24)],
    "some": lambda paths: [paths[at] for at in (20, 3, 11)],
    "twice": lambda paths: [paths[at] for at in (20, 3, 20, 20, 1, 3)],
    "one": lambda paths: [paths[9]],
}


@pytest.mark.parametrize("order", ORDERS)
def test_rows_stand_where_their_paths_stand(shades, cached, order) -> None:
    """Row i is the vector of path i, also for paths that are listed twice; the file is sorted."""
    paths = ORDERS[order](shades)
    known = vectors_by_path(cached, shades)
    found = featcache.extract(paths, cache=cached, name=order, **K)
    assert np.array_equal(found.vectors, [known[path] for path in paths])
    assert found.given.tolist() == list(range(len(paths)))
    stored = open_features(found.path)
    assert stored.names.tolist() == sorted(set(stored.names.tolist()))
    assert stored.given is None
    after = pickle.loads(pickle.dumps(found))
    assert np.array_equal(after.vectors, found.vectors)
    assert np.array_equal(after.given, found.given)
    assert after.run is None


@pytest.mark.parametrize("listed", [pandas.Series, np.array, tuple])
def test_every_kind_of_list_is_answered_alike(shades, cached, listed) -> None:
    """Series, arrays and tuples of paths are lists too."""
    paths = ORDERS["shuffled"](shades)
    found = featcache.extract(listed(paths), cache=cached, name="kinds", **K)
    assert found.names.tolist() == [Path(path).name for path in paths]


def test_every_layer_answers_in_the_same_order(shades, cached) -> None:
    """Several layers of one call have the same rows in the same places."""
    paths = shades[::-1]
    first, second = featcache.extract(
        paths, layer=["stride32:avg", "stride32:max"], cache=cached, name="two", **K
    )
    assert first.names.tolist() == second.names.tolist()
    assert first.names.tolist() == [Path(path).name for path in paths]


def test_labels_and_groups_of_a_list_are_its_own(shades, cached) -> None:
    """Beside a list, labels, splits and groups are those of the path in the same place."""
    paths, true = shades[::-1], TRUE[::-1]
    groups = [str(number // 2) for number in range(24)]
    found = featcache.extract(
        paths, labels=true, groups=groups, splits=["train", "test"] * 12,
        cache=cached, name="labelled", **K,
    )  # fmt: skip
    assert (found.labels == true).all()
    assert found.groups.tolist() == groups
    assert found.splits.tolist() == ["train", "test"] * 12
    stored = open_features(found.path)
    by_name = dict(zip(found.names.tolist(), true, strict=True))
    assert stored.labels.tolist() == [by_name[name] for name in stored.names.tolist()]


def test_failures_and_views_leave_a_trace_of_who_is_who(shades, cached, tmp_path) -> None:
    """`y[features.given]` are the rows' own labels where an image failed or has several rows."""
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no image")
    paths = [shades[20], str(bad), shades[3], shades[14]]
    y = np.array(["green", "nobody", "red", "green"])
    found = featcache.extract(
        paths, labels=y, views=2, augment="flip", cache=cached, name="views", **K
    )
    assert found.given.tolist() == [0, 0, 0, 2, 2, 2, 3, 3, 3]
    assert found.views.tolist() == [0, 1, 2] * 3
    assert (y[found.given] == found.labels).all()
    assert [Path(each.path).name for each in found.failures] == ["bad.png"]
    assert found[found.views == 0].given.tolist() == [0, 2, 3]


def test_a_manifest_is_answered_line_by_line(shades, cached, tmp_path) -> None:
    """Whoever read the same table has the rows in its order."""
    table = pandas.DataFrame({"path": shades, "label": TRUE}).sample(frac=1, random_state=2)
    table.to_csv(tmp_path / "table.csv", index=False)
    found = featcache.extract(tmp_path / "table.csv", cache=cached, **K)
    assert (found.labels == table["label"].to_numpy(str)).all()
    known = vectors_by_path(cached, shades)
    assert np.array_equal(found.vectors, [known[path] for path in table["path"]])


def test_arrays_are_answered_in_their_order(cached) -> None:
    """Arrays, twice the same ones among them, are rows in their places, with their own labels."""
    pixels = np.random.default_rng(1).integers(0, 255, (12, 16, 16, 3), dtype=np.uint8)
    pixels[7] = pixels[2]
    y = [str(number) for number in range(12)]
    y[7] = y[2]
    found = featcache.extract(pixels, labels=y, cache=cached, name="arrays", **K)
    assert found.labels.tolist() == y
    assert np.array_equal(found.vectors[7], found.vectors[2])
    backwards = featcache.extract(list(pixels[::-1]), cache=cached, name="backwards", **K)
    assert np.array_equal(backwards.vectors, found.vectors[::-1])


def test_predictions_stand_where_their_paths_stand(shades, cached, tmp_path) -> None:
    """One prediction a path, in order, whether cached, new, listed twice or failed."""
    features = featcache.extract(shades, labels=TRUE, cache=cached, name="fit", **K)
    head = featcache.fit_head(features, C=0.01, out=tmp_path / "shades.head")
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no image")
    new = [str(tmp_path / f"{number}.png") for number in range(9)]
    random = np.random.default_rng(7)
    for number, path in enumerate(new):
        colour = list(COLOURS.values())[number % 2]
        pixels = np.clip(random.normal(colour, 30, (40, 40, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(path)
    true = dict(zip([*shades, *new], [*TRUE, *["red", "green"] * 5], strict=False))
    paths = [*new[::-1], shades[20], str(bad), shades[1], *new, shades[20], *shades[::-1]]
    found = head.predict_images(paths, cache=cached, batch=4)
    assert [bool(each.failure) for each in found] == [path == str(bad) for path in paths]
    assert [Path(each.name).name for each in found] == [Path(path).name for path in paths]
    wanted = [true[path] for path in paths if path != str(bad)]
    assert [each.classes[0] for each in found if not each.failure] == wanted
    folder = head.predict_images(Path(shades[0]).parent, cache=cached)
    assert [each.name for each in folder] == sorted(Path(path).name for path in shades)


def test_an_extractor_keeps_the_order_of_an_image_set(shades, cached) -> None:
    """`find_images` of a list is no back door: its rows are those of the list."""
    paths = ORDERS["twice"](shades)
    extractor = featcache.FeatureExtractor(**K, cache=cached)
    known = vectors_by_path(cached, shades)
    found = extractor.transform(featcache.find_images(paths))
    assert np.array_equal(found, [known[path] for path in paths])
    assert np.array_equal(found, extractor.transform(paths))
