"""scikit-learn's world and tf.data: the cache answers, in the order asked."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

import featcache
from featcache.errors import FeatcacheError, ImageFailure
from featcache.features.cache import FeatureCache
from featcache.features.store.clearing import collect


def extractor(cache: Path, **options):
    return featcache.FeatureExtractor(size=32, cache=cache, **options)


def computed(cache: Path) -> int:
    """Rows that a network ever computed for a cache, as its run logs have it."""
    logs = [path.read_text().splitlines() for path in cache.glob("*/*/runs.jsonl")]
    return sum(json.loads(line)["extracted"] for log in logs for line in log)


@pytest.fixture(scope="module")
def paths(digits) -> list[str]:
    """Sixty digits of three classes, by class."""
    return [str(path) for name in "012" for path in sorted((digits / name).iterdir())[:20]]


@pytest.fixture(scope="module")
def names(paths) -> list[str]:
    return [Path(path).parent.name for path in paths]


def test_rows_come_in_the_order_asked_and_copies_get_the_same_row(paths, digit_features, cache):
    """Unsorted and repeated paths: each row is the vector that `extract` gives that image."""
    features = featcache.load("digits", cache=digit_features)
    row_of = {name: row for row, name in enumerate(features.names)}
    asked = [paths[number] for number in (41, 3, 3, 17, 0, 59, 41)]
    vectors = extractor(cache).fit_transform(asked)
    names = ["/".join(Path(path).parts[-2:]) for path in asked]
    assert vectors.dtype == np.float32
    expected = features.vectors[[row_of[name] for name in names]]
    assert np.abs(vectors - expected).max() <= 1e-5 * np.abs(expected).max()
    assert np.array_equal(vectors[0], vectors[6])
    assert computed(cache) == 5


def test_a_grid_search_runs_the_network_once_an_image(paths, names, cache):
    """Folds, parameters, the refit, a second search and processes: sixty rows are computed."""
    pipeline = make_pipeline(extractor(cache), LogisticRegression(max_iter=300))
    grid = {"logisticregression__C": [0.01, 1.0]}
    search = GridSearchCV(pipeline, grid, cv=3, error_score="raise").fit(np.array(paths), names)
    assert computed(cache) == 60
    assert search.best_score_ > 0.8
    search = GridSearchCV(pipeline, grid, cv=4, n_jobs=2, error_score="raise").fit(paths, names)
    assert computed(cache) == 60
    assert search.best_estimator_[0].n_images_extracted_ == 0
    assert search.predict(paths[:3]).shape == (3,)


def test_processes_that_start_together_compute_an_image_once(paths, names, cache):
    """With an empty cache and two processes, no image goes through the network twice."""
    pipeline = make_pipeline(extractor(cache), LogisticRegression(max_iter=300))
    grid = {"logisticregression__C": [0.01, 1.0]}
    GridSearchCV(pipeline, grid, cv=2, n_jobs=2, error_score="raise").fit(paths, names)
    assert computed(cache) == 60


def test_rows_of_other_data_sets_are_used(digits, paths, digit_features):
    """What `extract` has cached under the same settings is not extracted again."""
    before = computed(digit_features)
    transformer = extractor(digit_features)
    transformer.fit_transform(paths)
    assert transformer.n_images_extracted_ == 0
    assert computed(digit_features) == before
    assert len(featcache.FeatureCache.open(digit_features).entries()) == 1


def test_new_images_for_ever_are_one_data_set_of_few_files(paths, cache, monkeypatch):
    """A service that transforms an image at a time fills one data set; its parts are packed."""
    monkeypatch.setattr("featcache.extraction.feature_extractor.PARTS", 3)
    service = extractor(cache)
    rows = []
    for path in paths[:10]:
        rows.append(service.transform([path]))
        assert service.n_images_extracted_ == 1
        (entry,) = FeatureCache.open(cache).entries()
        assert len(list((entry.directory / "parts").iterdir())) < 3
    assert computed(cache) == 10
    assert np.array_equal(service.transform(paths[:10]), np.concatenate(rows))
    assert (entry.store().verify(), collect(entry.directory).files) == ([], 0)
    packed = featcache.load("sklearn", cache=cache)
    assert len(packed) >= 8
    assert packed.names.tolist() == sorted(packed.keys)


def test_what_a_killed_process_had_saved_is_found(paths, cache):
    """Rows whose process died before it packed them are not computed again."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("featcache.extraction.feature_extractor._is_due", lambda snapshot: False)
        extractor(cache).transform(paths[:3])
    assert not list(cache.rglob("features.h5"))
    service = extractor(cache)
    service.transform(paths[:3])
    assert service.n_images_extracted_ == 0
    service.transform(paths[:4])
    assert len(featcache.load("sklearn", cache=cache)) == 4


def test_bad_images_are_remembered_when_parts_are_packed(paths, cache, tmp_path, monkeypatch):
    """Packing keeps the failures: known bad bytes are refused without being decoded again."""
    monkeypatch.setattr("featcache.extraction.feature_extractor.PARTS", 1)
    bad = tmp_path / "broken.png"
    bad.write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0" * 40)
    for _ in "12":
        with pytest.raises(ImageFailure, match=r"broken\.png"):
            extractor(cache).transform([paths[0], str(bad)])
    assert len(featcache.load("sklearn", cache=cache).failures) == 1


def test_the_data_set_of_the_extractors_is_nobody_elses(digits, paths, tmp_path):
    """Neither takes the other's name: a folder called so gets another, a taken name is refused."""
    folder = tmp_path / "sklearn"
    folder.mkdir()
    (folder / "a.png").write_bytes(Path(paths[0]).read_bytes())
    options = {"backbone": "efficientnet_lite0", "size": 32, "cache": tmp_path / "one"}
    extractor(tmp_path / "one").transform(paths[1:2])
    assert featcache.extract(folder, **options).path.parts[-3] != "sklearn"
    with pytest.raises(FeatcacheError, match="give another with --name"):
        featcache.extract(folder, name="sklearn", **options)
    featcache.extract(folder, **options | {"cache": tmp_path / "two"})
    with pytest.raises(FeatcacheError, match="cache_name"):
        extractor(tmp_path / "two").transform(paths[1:2])
    assert extractor(tmp_path / "two", cache_name="other").transform(paths[1:2]).shape == (1, 1280)


def test_an_image_set_and_arrays(digits, cache):
    """An ImageSet gives a row for each of its names; arrays give one for each picture."""
    images = featcache.find_images(digits / "3")
    of_files = extractor(cache).fit_transform(images)
    pictures = np.stack([np.array(Image.open(digits / "3" / name)) for name in images.names])
    of_arrays = extractor(cache).fit_transform(pictures)
    assert np.abs(of_arrays - of_files).max() <= 1e-5 * np.abs(of_files).max()
    assert np.array_equal(extractor(cache).fit_transform(pictures[::-1]), of_arrays[::-1])
    assert computed(cache) == 2 * len(images)


def test_it_behaves_as_scikit_learns_own(paths, cache):
    """clone, parameters, feature names, pandas output, one-column frames, pickle, tags."""
    pandas = pytest.importorskip("pandas")
    transformer = extractor(cache, pooling="max")
    again = clone(transformer).set_params(pooling="avg")
    assert (transformer.get_params()["pooling"], again.get_params()["pooling"]) == ("max", "avg")
    assert "size=32" in repr(pickle.loads(pickle.dumps(transformer)))
    frame = again.set_output(transform="pandas").fit_transform(
        pandas.DataFrame({"path": paths[:4]})
    )
    assert frame.columns.tolist() == again.get_feature_names_out().tolist()
    assert frame.columns[0] == "featureextractor0"
    assert frame.shape == (4, 1280)
    assert again.__sklearn_tags__().no_validation
    assert again.__sklearn_tags__().input_tags.string


@pytest.mark.parametrize(
    "check",
    [
        "check_parameters_default_constructible", "check_no_attributes_set_in_init",
        "check_get_params_invariance", "check_set_params", "check_estimator_cloneable",
        "check_estimator_repr",
        "check_valid_tag_types", "check_estimator_tags_renamed", "check_mixin_order",
    ],
)  # fmt: skip
def test_scikit_learns_own_checks_pass(check):
    """Those that fit nothing: the others feed numbers, and we take images."""
    from sklearn.utils import estimator_checks

    getattr(estimator_checks, check)("FeatureExtractor", featcache.FeatureExtractor())


def test_a_bad_image_is_named(paths, cache, tmp_path):
    """A row is owed for each image, so one that cannot be used stops the fit by its name."""
    bad = tmp_path / "broken.png"
    bad.write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0" * 40)
    with pytest.raises(ImageFailure, match=r"(?s)1 of 4 new images.*broken\.png"):
        extractor(cache).fit_transform([*paths[:3], str(bad)])
    assert computed(cache) == 3
    with pytest.raises(ImageFailure, match=r"broken\.png"):
        extractor(cache).fit_transform([str(bad)])


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ([], "empty"),
        (["/no/such/image.png"], "is not there"),
        ("photos", "find_images"),
        (np.zeros((3, 8, 8, 3), np.float32), "uint8"),
        (np.array([["a", "b"]]), "one path a row"),
        ([1, 2], "list of paths"),
    ],
)
def test_wrong_input_gets_a_sentence(wrong, words, cache):
    """What is no list of images is refused with what was expected."""
    with pytest.raises(FeatcacheError, match=words):
        extractor(cache).fit_transform(wrong)


def test_a_wrong_parameter_is_found_by_fit():
    """Parameters are checked when fitting, not when they are set, as scikit-learn wants it."""
    transformer = featcache.FeatureExtractor("efficientnet_lite0", resize="sqash")
    with pytest.raises(FeatcacheError, match="sqash"):
        transformer.fit(["x.png"])


def test_x_y_and_indices(digit_features):
    """Features speak scikit-learn's names too."""
    features = featcache.load("digits", cache=digit_features)
    assert np.array_equal(features.X, features.vectors)
    assert np.array_equal(features.y, features.labels)
    assert features.indices.keys() == {""}
    assert np.array_equal(features.indices[""], np.arange(len(features)))


def test_a_tf_dataset_gives_every_row_once_an_epoch(digit_features):
    """Batches hold each row once; shuffling depends on the seed and the epoch alone."""
    features = featcache.load("digits", cache=digit_features)[:70]
    plain = features.to_tf_dataset(32)
    assert int(plain.cardinality()) == 3
    vectors, codes = (
        np.concatenate(parts) for parts in zip(*plain.as_numpy_iterator(), strict=True)
    )
    assert np.array_equal(vectors, features.vectors)
    assert np.array_equal(np.array(features.classes)[codes], features.labels)

    def epochs(seed: int) -> list[np.ndarray]:
        shuffled = features.to_tf_dataset(32, shuffle=True, seed=seed)
        return [np.concatenate([each[0] for each in shuffled.as_numpy_iterator()]) for _ in "12"]

    first, second = epochs(1)
    assert np.array_equal(np.sort(first[:, 0]), np.sort(vectors[:, 0]))
    assert not np.array_equal(first, second)
    assert np.array_equal(epochs(1)[1], second)
    with pytest.raises(FeatcacheError, match="batch_size 0"):
        features.to_tf_dataset(0)


def test_a_class_has_one_number_in_every_slice(digit_features):
    """Numbers are places among the file's classes, or among those that are given."""
    features = featcache.load("digits", cache=digit_features)
    fives = np.flatnonzero(features.labels == "5")[:2]
    some = features[np.concatenate([np.flatnonzero(features.labels == "3")[:2], fives])]

    def numbers(rows: featcache.Features, **options: Any) -> list[int]:
        ((_, codes),) = rows.to_tf_dataset(**options).as_numpy_iterator()
        return codes.tolist()

    assert numbers(some) == [3, 3, 5, 5]
    assert numbers(features[fives]) == [5, 5]
    assert numbers(some, classes=["5", "3"]) == [1, 1, 0, 0]
    with pytest.raises(FeatcacheError, match="'5' are not among the classes '3'"):
        some.to_tf_dataset(classes=["3"])
    with pytest.raises(FeatcacheError, match="twice"):
        some.to_tf_dataset(classes=["3", "5", "3"])
