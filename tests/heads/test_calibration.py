"""A temperature makes probabilities honest and changes no answer."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

import featcache
from featcache.cli import app
from featcache.errors import FeatcacheError
from featcache.evaluation import metrics
from featcache.heads.calibration import fit_temperature, rescale
from featcache.heads.head_file import pack_head, read_head


@pytest.fixture
def honest():
    """Logits of 20,000 rows whose true classes are drawn from their own softmax."""
    random = np.random.default_rng(0)
    logits = random.normal(0, 2, (20_000, 5))
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    codes = (probabilities.cumsum(axis=1) < random.random((20_000, 1))).sum(axis=1)
    return logits, codes


@pytest.mark.parametrize("factor", [0.2, 1.0, 3.0])
def test_the_temperature_that_was_put_in_comes_out(honest, factor):
    """Logits that are `factor` times too large have the temperature `factor`."""
    logits, codes = honest
    exponent = np.exp(logits * factor)
    probabilities = (exponent / exponent.sum(axis=1, keepdims=True)).astype(np.float32)
    temperature = fit_temperature(probabilities, codes)
    assert temperature == pytest.approx(factor, rel=0.03)
    calibrated = rescale(probabilities, temperature)
    assert np.array_equal(calibrated.argmax(axis=1), probabilities.argmax(axis=1))
    assert np.allclose(calibrated.sum(axis=1), 1, atol=1e-6)
    bins = metrics.reliability(calibrated.max(axis=1), calibrated.argmax(axis=1) == codes)
    assert metrics.calibration_error(bins) < 0.02


def test_the_temperature_has_the_least_log_loss(honest):
    """One percent more or less of it makes the log loss worse."""
    logits, codes = honest
    exponent = np.exp(logits[:500] * 2)
    probabilities = exponent / exponent.sum(axis=1, keepdims=True)
    best = fit_temperature(probabilities, codes[:500])
    losses = [metrics.log_loss(rescale(probabilities, best * by), codes[:500])
              for by in (0.99, 1.0, 1.01)]  # fmt: skip
    assert losses[1] < min(losses[0], losses[2])


def test_probabilities_of_zero_are_no_infinities(honest):
    """A class of probability 0 that is true costs much, and nothing becomes NaN."""
    probabilities = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 0.0]], np.float32)
    temperature = fit_temperature(np.tile(probabilities, (5, 1)), np.array([0, 1, 0, 1] * 5))
    assert np.isfinite(temperature)
    assert rescale(probabilities, temperature)[0, 0] == pytest.approx(0.75, abs=1e-3)


def test_rows_that_tell_no_temperature_are_refused():
    """All right, no better than guessing, too few rows, unknown classes: each is a sentence."""
    probabilities = np.tile([[0.6, 0.4], [0.3, 0.7]], (10, 1))
    cases = [
        (probabilities, [0, 1] * 10, "named right"),
        (probabilities, [1, 0] * 10, "no better than guessing"),
        (probabilities[:19], [0] * 19, "it takes at least 20"),
        (probabilities, [0, 2] * 10, "true class out of 2"),
        (probabilities, [0], "true class out of 2"),
    ]
    for scores, codes, words in cases:
        with pytest.raises(FeatcacheError, match=words):
            fit_temperature(scores, np.array(codes, int))


@pytest.mark.parametrize(
    ("factor", "words"), [(1.0, "named right"), (-1.0, "no better than guessing")]
)
def test_a_fitted_head_is_never_thrown_away(factor, words, digit_features, tmp_path):
    """Validation rows that tell no temperature: the head is saved without one, and says so."""
    features = split(featcache.load("digits", cache=digit_features), "train", "validation", "test")
    two = features[np.isin(features.labels, ["0", "1"])]
    told = two.splits == "validation"
    labels = np.where(two.labels == "0", "1", "0")
    turned = replace(two, labels=np.where(told & (factor < 0), labels, two.labels))
    head = featcache.fit_head(turned, C=0.01, calibrate=True, out=tmp_path / "a.head")
    assert head.path.is_file()
    assert head.temperature == 1
    assert head.protocol.endswith(
        "set the temperature; C = 0.01; temperature 1 (these rows tell none)"
    )
    assert any(words in remark for remark in head.metrics["remarks"])
    assert head.metrics["calibration"] is None


def split(features, *names):
    """The features with splits dealt by row number."""
    return replace(features, splits=np.array(names)[np.arange(len(features)) % len(names)])


@pytest.mark.parametrize("kind", featcache.HEADS)
def test_every_kind_of_head_is_calibrated(kind, digit_features, tmp_path):
    """The temperature is saved, changes no answer, and has the least log loss on rows that had no
    other part: knn too, whose probabilities are shares of a few votes.
    """
    features = split(featcache.load("digits", cache=digit_features), "train", "validation", "test")
    options = {"logreg": {"C": 0.001}, "dense": {"epochs": 3}}.get(kind, {})
    head = featcache.fit_head(
        features, head=kind, out=tmp_path / "a.head", calibrate=True, **options
    )
    assert head.temperature != 1
    again = featcache.Head.load(tmp_path / "a.head")
    assert again.temperature == head.temperature
    plain = replace(again, temperature=1.0)
    rows = features[features.splits == "validation"]
    called = again.predict_proba(rows).argmax(axis=1)
    assert np.array_equal(called, plain.predict_proba(rows).argmax(axis=1))
    codes = np.searchsorted(again.classes, rows.labels)
    losses = [
        metrics.log_loss(replace(again, temperature=again.temperature * by).predict_proba(rows),
                         codes)
        for by in (0.95, 1.0, 1.05)
    ]  # fmt: skip
    assert losses[1] < min(losses[0], losses[2])
    assert "validation split (100 rows)" in head.protocol
    assert "set the temperature" in head.protocol
    measured = head.metrics["calibration"]
    assert measured["log_loss"][1] == head.metrics["log_loss"]
    assert measured["calibration_error"][1] == head.metrics["calibration_error"]
    assert featcache.evaluate(plain, features).log_loss == measured["log_loss"][0]


def test_a_head_without_calibration_is_as_before(digit_features, tmp_path):
    """It has the temperature 1 and says nothing; a file from before calibration loads the same."""
    features = featcache.load("digits", cache=digit_features)
    head = featcache.fit_head(features, head="centroid", out=tmp_path / "a.head")
    assert (head.temperature, head.metrics["calibration"]) == (1.0, None)
    arrays, written, _ = read_head(head.path)
    for given, temperature in ((None, 1.0), (2.0, 2.0), (0, None), ("warm", None)):
        record = {name: value for name, value in written.items() if name != "temperature"}
        record |= {} if given is None else {"temperature": given}
        (tmp_path / "b.head").write_bytes(pack_head(arrays, record))
        if temperature is None:
            with pytest.raises(FeatcacheError, match="temperature"):
                featcache.Head.load(tmp_path / "b.head")
        else:
            assert featcache.Head.load(tmp_path / "b.head").temperature == temperature


def test_rows_that_judge_never_calibrate(digit_features, tmp_path):
    """Where validation rows judge, a part of the training rows stops and calibrates instead."""
    features = split(featcache.load("digits", cache=digit_features), "train", "train", "validation")
    for kind, words in (("dense", "stopped the training and set"), ("centroid", "hash, set")):
        head = featcache.fit_head(
            features, head=kind, out=tmp_path / "a.head", calibrate=True,
            **({"epochs": 2} if kind == "dense" else {}),
        )  # fmt: skip
        assert words in head.protocol
        assert (head.metrics["rows"], head.metrics["training_rows"]) == (100, 180)
        assert len(head.trained_on) == 200
    with pytest.raises(FeatcacheError, match=r"--calibrate: \d rows are left"):
        featcache.fit_head(features[:90], calibrate=True, out=tmp_path / "b.head")
    assert not (tmp_path / "b.head").exists()


def test_the_command_prints_the_figures_before_and_after(digit_features, tmp_path):
    """`fit-head --calibrate` and `evaluate` show temperature, log loss and calibration error."""
    head, cache = str(tmp_path / "a.head"), ["--cache", str(digit_features)]
    fit = ["fit-head", "digits", "--head", "ridge", "--calibrate", "--out", head, *cache]
    for arguments in (fit, ["evaluate", head, "digits", *cache]):
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code == 0, done.output
        assert re.search(r"calibrated temperature [\d.]+: log loss [\d.]+ -> [\d.]+", done.stdout)
