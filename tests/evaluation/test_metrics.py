"""Figures of merit: those of scikit-learn, and intervals that cover what they promise."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn.metrics as reference
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from featcache.evaluation import metrics


@pytest.fixture(params=[2, 3, 12])
def answers(request):
    """(probabilities, codes) of 500 rows; many probabilities are equal."""
    random = np.random.default_rng(request.param)
    scores = random.random((500, request.param)).round(1) + 0.05
    probabilities = scores / scores.sum(axis=1, keepdims=True)
    codes = np.where(random.random(500) < 0.5, scores.argmax(axis=1),
                     random.integers(0, request.param, 500))  # fmt: skip
    return probabilities, codes


def test_figures_equal_those_of_scikit_learn(answers):
    """Confusion, precision, recall, F1, log loss and ROC AUC agree with scikit-learn's."""
    probabilities, codes = answers
    classes = range(probabilities.shape[1])
    predicted = probabilities.argmax(axis=1)
    confusion = metrics.confusion_of(codes, predicted, len(classes))
    assert np.array_equal(confusion, reference.confusion_matrix(codes, predicted, labels=classes))
    expected = reference.precision_recall_fscore_support(codes, predicted, zero_division=0.0)
    assert np.allclose(metrics.class_scores(confusion), expected[:3])
    assert metrics.log_loss(probabilities, codes) == pytest.approx(
        reference.log_loss(codes, probabilities, labels=classes)
    )
    scores = probabilities[:, 1] if len(classes) == 2 else probabilities
    assert metrics.roc_auc(probabilities, codes) == pytest.approx(
        reference.roc_auc_score(codes, scores, multi_class="ovr")
    )


def test_places_order_classes_as_predictions_do(answers):
    """A class stands where a stable sort of the probabilities puts it; unseen ones stand last."""
    probabilities, codes = answers
    order = np.argsort(-probabilities, axis=1, kind="stable")
    assert np.array_equal(
        metrics.places(probabilities, codes), (order == codes[:, np.newaxis]).argmax(axis=1)
    )
    unseen = np.full(len(codes), -1)
    assert set(metrics.places(probabilities, unseen)) == {probabilities.shape[1]}


def test_roc_auc_needs_two_kinds_of_rows():
    """Classes without rows do not count, and one class alone has no curve."""
    probabilities = np.array([[0.7, 0.2, 0.1], [0.2, 0.7, 0.1], [0.6, 0.3, 0.1]])
    assert metrics.roc_auc(probabilities, np.array([0, 0, 0])) is None
    assert metrics.roc_auc(probabilities, np.array([0, 1, 0])) == 1.0
    assert metrics.roc_auc(probabilities, np.array([-1, -1, -1])) is None


@given(st.integers(1, 400), st.floats(0, 1))
def test_wilsons_interval_is_scipys(rows, share):
    """For every count it is what scipy's binomial test gives, and it holds the share."""
    right = round(share * rows)
    low, high = metrics.wilson(right / rows, rows)
    expected = binomtest(right, rows).proportion_ci(method="wilson")
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-9)
    assert 0 <= low <= right / rows <= high <= 1


def test_rows_of_a_group_count_as_far_as_they_differ():
    """Groups that are right or wrong as a whole count once; unrelated rows count each."""
    random = np.random.default_rng(0)
    of_groups = np.repeat(random.random(100) < 0.7, 10)
    unit = np.repeat(np.arange(100), 10)
    assert metrics.effective_rows(of_groups.astype(float), unit) == pytest.approx(100, rel=0.1)
    assert metrics.effective_rows(random.random(1000), unit) > 700
    assert metrics.effective_rows(of_groups.astype(float), np.arange(1000)) == 1000
    assert metrics.effective_rows(np.ones(1000), unit) == 100
    assert metrics.effective_rows(np.array([1.0, 0.0]), np.array([7, 7])) == 1


def test_paired_intervals_cover_the_true_difference():
    """Of 1,000 pairs of heads, about 95 % have the true difference in their interval."""
    random = np.random.default_rng(1)
    for rows in (20, 200):
        first = random.random((1000, rows)) < 0.8
        second = np.where(random.random((1000, rows)) < 0.7, first, ~first)
        true = 0.8 - (0.8 * 0.7 + 0.2 * 0.3)
        inside = [
            low <= true <= high
            for low, high in (
                metrics.paired_interval(one, two, np.arange(rows))
                for one, two in zip(first, second, strict=True)
            )
        ]
        assert 0.93 < np.mean(inside) < 0.99


def test_heads_that_never_differ_have_an_interval_all_the_same():
    """Equal answers on ten rows do not prove that two heads are equal."""
    same = np.ones(10, bool)
    low, high = metrics.paired_interval(same, same, np.arange(10))
    assert low < -0.1 < 0.1 < high
    assert metrics.mcnemar(same, same) == 1.0
    assert metrics.mcnemar(same, ~same) == pytest.approx(2 * 0.5**10)


def test_calibration_error_of_known_bins():
    """Confidence 0.9 that is right half of the time is wrong by 0.4; bins end at their edges."""
    confidence = np.array([0.9] * 10 + [1.0] * 10)
    correct = np.array([True, False] * 5 + [True] * 10)
    bins = metrics.reliability(confidence, correct)
    assert bins == [(pytest.approx(0.9), 0.5, 10), (1.0, 1.0, 10)]
    assert metrics.calibration_error(bins) == pytest.approx(0.2)
    edge = metrics.reliability(np.array([1 / 15, 1 / 15 + 1e-9]), np.array([True, True]))
    assert len(edge) == 2
