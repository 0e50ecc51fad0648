"""A temperature makes probabilities honest and changes no answer."""

from __future__ import annotations

import numpy as np
import pytest

import featcache
from featcache import metrics
from featcache.calibration import Calibrated, fit_temperature, rescale
from featcache.errors import FeatcacheError


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
    assert fit_temperature(logits * factor, codes, logits=True) == pytest.approx(factor, rel=0.03)
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
    temperature = fit_temperature(probabilities, np.array([0, 1, 0, 1]))
    assert np.isfinite(temperature)
    assert rescale(probabilities, temperature)[0, 0] == pytest.approx(0.75, abs=1e-3)


def test_rows_that_tell_no_temperature_are_refused():
    """All right, no better than guessing, no rows, unknown classes: each is a sentence."""
    probabilities = np.array([[0.6, 0.4], [0.3, 0.7]])
    cases = [
        (probabilities, [0, 1], "named right"),
        (probabilities, [1, 0], "no better than guessing"),
        (probabilities[:0], [], "at least one row"),
        (probabilities, [0, 2], "true class out of 2"),
        (probabilities, [0], "true class out of 2"),
    ]
    for scores, codes, words in cases:
        with pytest.raises(FeatcacheError, match=words):
            fit_temperature(scores, np.array(codes, int))


def test_a_calibrated_head_keeps_its_shape(digit_features, tmp_path):
    """Wrapped, a head's model has the same width, classes and answers, and other probabilities."""
    features = featcache.load("digits", cache=digit_features)
    model = featcache.fit_head(features, C=0.01, out=tmp_path / "x.head").model
    calibrated = Calibrated(model, 2.0)
    plain, softer = (
        model.predict_proba(features.vectors),
        calibrated.predict_proba(features.vectors),
    )
    assert (calibrated.width, calibrated.outputs) == (1280, 10)
    assert np.array_equal(plain.argmax(axis=1), softer.argmax(axis=1))
    assert softer.max(axis=1).mean() < plain.max(axis=1).mean()
    assert np.array_equal(Calibrated(model, 1.0).predict_proba(features.vectors), plain)
