"""Heads: fitted on cached vectors, judged on unseen rows, saved as plain data."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

import featcache
from featcache.errors import DamagedFile, FeatcacheError
from featcache.evaluation.evaluate import prefixes
from featcache.heads.logistic.path import solve_path
from featcache.heads.logreg import LogisticHead
from featcache.images import find_images


@pytest.fixture(scope="module")
def features(digit_features):
    return featcache.load("digits", cache=digit_features)


@pytest.fixture(scope="module")
def head(features, tmp_path_factory):
    return featcache.fit_head(features, out=tmp_path_factory.mktemp("heads") / "digits.head")


@pytest.mark.parametrize("classes", [2, 3])
def test_the_logistic_head_is_scikit_learns(features, classes):
    """Probabilities equal those of StandardScaler + LogisticRegression, two classes or more."""
    rows = features[np.isin(features.labels, features.classes[:classes])]
    codes = np.searchsorted(rows.classes, rows.labels)
    (found,) = solve_path(rows.vectors, codes, Cs=[0.01], tol=1e-6)
    ours = LogisticHead.of(found)
    scaled = StandardScaler().fit_transform(np.array(rows.vectors))
    theirs = LogisticRegression(C=0.01, tol=1e-7, max_iter=5000).fit(scaled, codes)
    assert np.abs(ours.predict_proba(rows.vectors) - theirs.predict_proba(scaled)).max() < 5e-4


def test_accuracy_is_measured_on_rows_it_has_not_seen(features, head):
    """Training and judging rows are disjoint and together all labelled rows."""
    trained = np.isin(prefixes(features.keys), head.trained_on)
    assert head.metrics["rows"] == (~trained).sum()
    assert head.metrics["training_rows"] == trained.sum()
    assert "held out" in head.protocol
    assert head.metrics["accuracy"] > 0.6 > head.metrics["baseline"]


def test_a_loaded_head_gives_the_same_probabilities(features, head):
    """Saving and loading changes no bit of a prediction."""
    again = featcache.Head.load(head.path)
    assert np.array_equal(again.predict_proba(features), head.predict_proba(features))
    assert again.recipe == head.recipe
    assert again.metrics == head.metrics


def test_evaluate_leaves_training_rows_out(features, head):
    """Judging on the file it was fitted on counts only the held-out rows, and says so."""
    report = featcache.evaluate(head, features)
    assert report.accuracy == pytest.approx(head.metrics["accuracy"])
    assert report.rows == head.metrics["rows"]
    assert any("left out" in remark for remark in report.remarks)
    others = len(features) - report.rows
    assert report.protocol == (
        f"accuracy on the {report.rows} labelled images that took no part in training "
        f"({others} others did)"
    )
    tested = features[~np.isin(prefixes(features.keys), head.trained_on)]
    split = replace(tested, splits=np.full(len(tested), "test"))
    whole = f"accuracy on the {report.rows} images of the file's test split"
    assert featcache.evaluate(head, split).protocol == whole
    assert sum(map(sum, report.confusion)) == report.rows
    with pytest.raises(FeatcacheError, match="no labelled row to judge on"):
        featcache.evaluate(head, features[np.isin(prefixes(features.keys), head.trained_on)])


def test_a_head_refuses_other_features_by_name(features, head, digits, tmp_path):
    """Vectors of another recipe are refused, naming the field that differs, not the width."""
    other = featcache.extract(
        digits / "3", backbone="efficientnet_lite0", size=32, pooling="max", cache=tmp_path,
    )  # fmt: skip
    assert other.width == features.width
    with pytest.raises(FeatcacheError, match="pooling: avg, max"):
        head.predict_proba(other)
    with pytest.raises(FeatcacheError, match="expects vectors of 1280"):
        head.predict_proba(np.zeros((3, 7), np.float32))


def test_predicting_images_equals_predicting_their_rows(features, head, digits, digit_features):
    """`predict_images` gives what `predict_proba` gives on the cached rows, cached or not."""
    want = head.predict_proba(features)
    cached = head.predict_images(digits, top=10, cache=digit_features)
    fresh = head.predict_images(digits / "7", top=10, cache=digit_features / "none")
    probability = {p.name: dict(zip(p.classes, p.probabilities, strict=True)) for p in cached}
    assert list(probability) == features.names.tolist()
    for row in range(0, len(features), 17):
        given = probability[features.names[row]]
        assert np.array_equal([np.float32(given[name]) for name in head.classes], want[row])
    for prediction in fresh:
        given = probability[f"7/{prediction.name}"]
        for name, value in zip(prediction.classes, prediction.probabilities, strict=True):
            assert value == pytest.approx(given[name], abs=1e-5)


def test_predict_lists_a_bad_image_and_goes_on(head, tmp_path, digits):
    """One unreadable image has a reason in place of classes; order is kept."""
    for number, path in enumerate(sorted((digits / "3").iterdir())[:2]):
        (tmp_path / f"{number}.png").write_bytes(path.read_bytes())
    (tmp_path / "1b.png").write_bytes(b"junk")
    names = [(p.name, bool(p.failure)) for p in head.predict_images(tmp_path)]
    assert names == [("0.png", False), ("1.png", False), ("1b.png", True)]


def test_predict_says_which_runtime_computes(head, tmp_path, digits):
    """No slower path is taken in silence: the runtime and the reason for it are told."""
    (tmp_path / "a.png").write_bytes(next((digits / "3").iterdir()).read_bytes())
    told = []
    list(head.predict_stream(find_images(tmp_path), cache=tmp_path / "none", say=told.append))
    assert any("auto" in line for line in told)


def test_images_that_all_fail_have_reasons_and_no_classes(head, tmp_path):
    """Without a single usable image, every prediction carries its reason."""
    for name in ("a.png", "b.jpg"):
        (tmp_path / name).write_bytes(b"junk")
    predictions = head.predict_images(tmp_path)
    assert [bool(p.failure) for p in predictions] == [True, True]


def test_the_files_own_test_split_judges(tmp_path, digits):
    """Where the images have a test split, accuracy is measured there; copies do not count."""
    root = tmp_path / "split"
    for label in "01":
        for number, path in enumerate(sorted((digits / label).iterdir())[:20]):
            target = root / ("train" if number < 14 else "test") / label / path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    copy = next((root / "train" / "0").iterdir())
    (root / "test" / "0" / "copy.png").write_bytes(copy.read_bytes())
    features = featcache.extract(
        root, backbone="efficientnet_lite0", size=32, cache=tmp_path / "cache"
    )
    head = featcache.fit_head(features)
    assert head.metrics["rows"] == 12
    assert "the file's test split (12 rows), trained on 28 rows" in head.protocol
    assert any("same bytes" in remark for remark in head.metrics["remarks"])
    assert featcache.Head.load(features.path.parent).path == head.path


def test_a_group_on_both_sides_of_the_files_split_is_said(features, tmp_path):
    """The file's own split is obeyed, but a group that it tears apart is named."""
    rows = np.arange(len(features))
    torn = replace(
        features,
        splits=np.where(rows % 3 == 0, "test", "train"),
        groups=np.where(rows < 10, "patient7", ""),
    )
    head = featcache.fit_head(torn, C=0.01, out=tmp_path / "torn.head")
    assert any("patient7" in remark for remark in head.metrics["remarks"])


def test_bad_input_is_a_sentence(features, tmp_path):
    """No labels, one class, too few rows, an unknown head, a wrong C: each says what to do."""
    seven = features[features.labels == "7"]
    bare = replace(features, labels=np.full(len(features), ""))
    cases = [
        (lambda: featcache.fit_head(bare), "no row has a label"),
        (lambda: featcache.fit_head(seven), "one class only"),
        (lambda: featcache.fit_head(features, head="svn"), "there is no such head"),
        (lambda: featcache.fit_head(features, C=0), "--C 0"),
        (lambda: featcache.Head.load(tmp_path / "none.head"), "no such head file"),
        (lambda: featcache.Head.load(features.path), "not a featcache head"),
    ]
    for action, words in cases:
        with pytest.raises(FeatcacheError, match=words):
            action()


def test_a_crafted_head_is_refused(head, tmp_path):
    """NaN weights, wrong shapes, unknown kinds, newer formats and other files give our error."""
    arrays = load_file(head.path)
    record = head._record()
    good = {"format": "featcache-head", "version": "1", "head": json.dumps(record)}

    def saved(name, arrays=arrays, **metadata):
        path = tmp_path / f"{name}.head"
        save_file(arrays, path, good | metadata)
        return path

    assert featcache.Head.load(saved("good")).classes == head.classes
    coefficients = arrays["model.coefficients"]
    bad = [
        saved("nan", arrays | {"model.coefficients": coefficients * np.float32(np.nan)}),
        saved("shape", arrays | {"model.mean": np.zeros(7, np.float32)}),
        saved("lacking", {k: v for k, v in arrays.items() if k != "model.intercept"}),
        saved("kind", head=json.dumps(record | {"kind": "pickle"})),
        saved("classes", head=json.dumps(record | {"classes": ["a"]})),
        saved("recipe", head=json.dumps(record | {"recipe": "{}"})),
        saved("newer", version="2"),
        saved("foreign", format="other"),
        saved("json", head="{"),
    ]
    cut = tmp_path / "cut.head"
    cut.write_bytes(head.path.read_bytes()[:-100])
    for path in [*bad, cut]:
        with pytest.raises(FeatcacheError, match=str(path)):
            featcache.Head.load(path)


def test_damaged_rows_are_never_trained_on(digits, tmp_path):
    """A flipped bit in a vector stops `fit_head` and `evaluate`, naming the row."""
    features = featcache.extract(digits, backbone="efficientnet_lite0", size=32, cache=tmp_path)
    path = features.path
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.seek(path.stat().st_size - 1280 * 4 * 10 + 40)
        byte = file.read(1)
        file.seek(-1, 1)
        file.write(bytes([byte[0] ^ 4]))
    reloaded = featcache.load(path)
    with pytest.raises(DamagedFile, match="rows 290"):
        reloaded.check()
    with pytest.raises(DamagedFile, match="repair"):
        featcache.fit_head(reloaded)


def test_wrong_weights_are_refused_when_predicting(head, tmp_path):
    """A head whose weights are gone or changed says so; it never predicts with others."""
    Image.new("RGB", (9, 9), (10, 200, 30)).save(tmp_path / "a.png")
    other = replace(head, source=replace(head.source, weights_hint="random:5"))
    with pytest.raises(FeatcacheError, match="digest"):
        other.predict_images(tmp_path / "a.png", cache=tmp_path / "none")
