"""C is chosen by cross-validation that keeps units together and lets no view judge."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.datasets import load_digits

import featcache.heads.logreg as choosing
from featcache.errors import FeatcacheError
from featcache.heads.logreg import choose_c
from featcache.heads.training_set import TrainingSet


@pytest.fixture
def digits():
    """All 1,797 digits of 64 pixels, each a unit of its own."""
    vectors, codes = load_digits(return_X_y=True)
    rows = np.arange(len(codes))
    return TrainingSet(vectors.astype(np.float32), codes, 10, None, units=rows, images=rows)


def test_the_best_c_has_the_best_mean_score(digits):
    """The choice is the argmax of the scores it returns, and its words say how."""
    told = []
    choice = choose_c(replace(digits, say=told.append), [1.0, 1e-5, 0.01], folds=3)
    assert choice.scores.shape == (3, 3)
    assert [1e-5, 0.01, 1.0][choice.scores.mean(axis=0).argmax()] == choice.C
    assert choice.C != 1e-5
    assert choice.words == f"C = {choice.C:g} by 3-fold cross-validation on all 1797 training rows"
    assert len(told) == 1
    assert np.array_equal(choose_c(digits, [1.0, 1e-5, 0.01], folds=3).scores, choice.scores)


def test_copies_are_never_on_two_sides(digits):
    """Noise that stands there three times looks learnable unless copies share a fold."""
    noise = np.random.default_rng(0).standard_normal((150, 64)).astype(np.float32)
    rows = np.arange(450)
    copies = replace(
        digits, vectors=np.repeat(noise, 3, axis=0), codes=np.repeat(np.arange(150) % 3, 3),
        classes=3, units=rows, images=rows,
    )  # fmt: skip
    assert choose_c(copies, [1.0]).scores.mean() > 0.6
    assert choose_c(replace(copies, units=rows // 3), [1.0]).scores.mean() < 0.45


def test_views_train_and_do_not_judge(digits):
    """Rows that are no plain images count for nothing in the scores."""
    plain = np.arange(len(digits)) % 2 == 0
    vectors = digits.vectors.copy()
    vectors[~plain] = np.random.default_rng(0).standard_normal((898, 64))
    noisy = replace(digits, vectors=vectors)
    assert choose_c(replace(noisy, plain=plain), [0.01]).scores.mean() > 0.85
    assert choose_c(noisy, [0.01]).scores.mean() < 0.85


def test_a_search_looks_at_no_more_rows_than_it_should(digits, monkeypatch):
    """With many rows, whole units of every class are drawn, and the words say how many."""
    monkeypatch.setattr(choosing, "SEARCH_ROWS", 500)
    pairs = replace(digits, units=np.arange(len(digits)) // 2)
    rows = choosing._search_rows(pairs)
    assert 450 < len(rows) < 600
    assert set(digits.codes[rows]) == set(range(10))
    assert "of 1797 training rows" in choose_c(pairs, [0.01]).words


def test_a_class_with_a_single_image_always_trains(digits):
    """The other classes choose C in as many folds as ever, and the lone image is in none."""
    codes = np.where(digits.codes == 9, 8, digits.codes)
    codes[0] = 9
    choice = choose_c(replace(digits, codes=codes), [1e-5, 0.01])
    assert choice.C == 0.01
    assert choice.scores.shape == (5, 2)
    assert choosing._folds(replace(digits, codes=codes), 5)[0] == -1


def test_a_class_of_two_images_does_not_take_folds_away(digits):
    """Its images are in two of the folds: the other classes still make five."""
    codes = np.where(digits.codes == 9, 8, digits.codes)
    codes[[0, 5]] = 9
    choice = choose_c(replace(digits, codes=codes), [0.01])
    assert choice.scores.shape == (5, 1)
    assert "5-fold" in choice.words


def test_where_nothing_can_be_compared_it_is_said(digits):
    """One class but for a single image: there is no cross-validation, and C is 0.01."""
    codes = np.zeros(len(digits), int)
    codes[0] = 1
    choice = choose_c(replace(digits, codes=codes, classes=2), [0.1, 1.0])
    assert choice.C == 0.01
    assert "single training image" in choice.words


def test_balanced_accuracy_can_choose(digits):
    """Where a class is rare, what it is called counts as much as what the others are called."""
    rare = np.flatnonzero(digits.codes == 9)[:6]
    many = np.flatnonzero(digits.codes != 9)
    few = digits.take(np.sort(np.concatenate([rare, many])))
    plain, balanced = (choose_c(few, [1e-5], balanced=each) for each in (False, True))
    assert balanced.scores.mean() < plain.scores.mean() - 0.02
    assert "balanced accuracy" in balanced.words


def test_a_fold_without_which_a_class_is_lost_does_not_count(digits):
    """Where all rows that weigh anything of a class are in one fold, the others choose."""
    weights = np.ones(len(digits), np.float32)
    nines = np.flatnonzero(digits.codes == 9)
    weights[nines[1:]] = 0
    choice = choose_c(replace(digits, weights=weights), [0.01, 1.0], folds=4)
    assert choice.scores.shape == (3, 2)
    assert np.isfinite(choice.scores).all()


def test_one_fold_is_refused(digits):
    """Cross-validation needs two sides."""
    with pytest.raises(FeatcacheError, match="at least 2"):
        choose_c(digits, folds=1)
