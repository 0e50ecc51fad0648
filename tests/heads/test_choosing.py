"""C is chosen by cross-validation that keeps units together and lets no view judge."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
from sklearn.datasets import load_digits

import featcache.choosing as choosing
from featcache.choosing import choose_c
from featcache.errors import FeatcacheError


@dataclass
class Labelled:
    """Digits; what `choose_c` needs of the rows to train on."""

    vectors: np.ndarray
    codes: np.ndarray
    units: np.ndarray
    weights: np.ndarray | None = None
    plain: np.ndarray | None = None
    seed: int = 0
    told: list = field(default_factory=list)

    def say(self, line):
        self.told.append(line)


@pytest.fixture
def digits():
    vectors, codes = load_digits(return_X_y=True)
    return Labelled(vectors.astype(np.float32), codes, np.arange(len(codes)))


def test_the_best_c_has_the_best_mean_score(digits):
    """The choice is the argmax of the scores it returns, and its words say how."""
    choice = choose_c(digits, [1.0, 1e-5, 0.01], folds=3)
    assert choice.scores.shape == (3, 3)
    assert [1e-5, 0.01, 1.0][choice.scores.mean(axis=0).argmax()] == choice.C
    assert choice.C != 1e-5
    assert choice.words == f"C = {choice.C:g} by 3-fold cross-validation on all 1797 training rows"
    assert len(digits.told) == 1
    assert np.array_equal(choose_c(digits, [1.0, 1e-5, 0.01], folds=3).scores, choice.scores)


def test_copies_are_never_on_two_sides(digits):
    """Noise that stands there three times looks learnable unless copies share a fold."""
    random = np.random.default_rng(0)
    noise = random.standard_normal((150, 64)).astype(np.float32)
    digits.vectors, digits.codes = np.repeat(noise, 3, axis=0), np.repeat(np.arange(150) % 3, 3)
    digits.units = np.arange(450)
    assert choose_c(digits, [1.0]).scores.mean() > 0.6
    digits.units = np.repeat(np.arange(150), 3)
    assert choose_c(digits, [1.0]).scores.mean() < 0.45


def test_views_train_and_do_not_judge(digits):
    """Rows that are no plain images count for nothing in the scores."""
    digits.plain = np.arange(len(digits.codes)) % 2 == 0
    digits.vectors[~digits.plain] = np.random.default_rng(0).standard_normal((898, 64))
    with_views = choose_c(digits, [0.01]).scores.mean()
    digits.plain = None
    assert with_views > 0.85 > choose_c(digits, [0.01]).scores.mean()


def test_a_search_looks_at_no_more_rows_than_it_should(digits, monkeypatch):
    """With many rows, whole units of every class are drawn, and the words say how many."""
    monkeypatch.setattr(choosing, "SEARCH_ROWS", 500)
    digits.units = np.arange(len(digits.codes)) // 2
    rows = choosing._search_rows(digits)
    assert 450 < len(rows) < 600
    assert set(digits.codes[rows]) == set(range(10))
    assert "of 1797 training rows" in choose_c(digits, [0.01]).words


def test_a_class_with_a_single_image_leaves_nothing_to_compare(digits):
    """Without a second unit there is no cross-validation: it is said, and C is 0.01."""
    digits.codes[digits.codes == 9] = 8
    digits.codes[0] = 9
    choice = choose_c(digits, [0.1, 1.0])
    assert choice.C == 0.01
    assert "single training image" in choice.words


def test_one_fold_is_refused(digits):
    """Cross-validation needs two sides."""
    with pytest.raises(FeatcacheError, match="at least 2"):
        choose_c(digits, folds=1)
