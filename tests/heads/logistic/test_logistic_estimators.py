"""FastLogisticRegression behaves as scikit-learn's own classifiers do."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from featcache.heads.logistic.estimators import FastLogisticRegression, FastLogisticRegressionCV


@pytest.fixture(scope="module")
def digits():
    vectors, labels = load_digits(return_X_y=True)
    return vectors, np.array([f"class {label}" for label in labels])


# Their data are a dozen rows of noise; a warning of scikit-learn's own checks is not ours. Their
# weighted rows must equal repeated ones to 1e-7, which a `tol` of 1e-4 gives on some CPUs only.
@pytest.mark.filterwarnings("ignore")
@parametrize_with_checks([FastLogisticRegression(tol=1e-11), FastLogisticRegressionCV(Cs=3, cv=3)])
def test_scikit_learns_own_checks(estimator, check):
    """Every check that scikit-learn has for classifiers passes."""
    check(estimator)


def test_it_is_a_scaler_and_logistic_regression(digits):
    """The same classes and probabilities as the pipeline that it stands for."""
    vectors, labels = digits
    ours = FastLogisticRegression(C=0.1, tol=1e-6).fit(vectors, labels)
    theirs = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, tol=1e-8, max_iter=5000))
    theirs.fit(vectors, labels)
    assert ours.classes_.tolist() == theirs.classes_.tolist()
    assert np.abs(ours.predict_proba(vectors) - theirs.predict_proba(vectors)).max() < 1e-3
    assert (ours.predict(vectors) == theirs.predict(vectors)).mean() > 0.999


def test_the_cross_validated_one_agrees_with_scikit_learns(digits):
    """Accuracies of every fold and C are those of LogisticRegressionCV, but for near-ties."""
    vectors, labels = digits
    vectors = vectors / 16
    splitter = StratifiedKFold(4, shuffle=True, random_state=0)
    ours = FastLogisticRegressionCV([0.01, 0.1, 1], cv=splitter, standardize=False)
    ours.fit(vectors, labels)
    theirs = LogisticRegressionCV(
        Cs=[0.01, 0.1, 1],
        cv=splitter,
        max_iter=2000,
        l1_ratios=(0,),
        scoring="accuracy",
        use_legacy_attributes=False,
    )
    theirs.fit(vectors, labels)
    assert ours.scores_.shape == (4, 3)
    assert np.abs(ours.scores_ - theirs.scores_[:, 0]).max() < 0.005
    assert theirs.C_ == ours.C_


def test_how_many_values_of_c_may_be_a_number_of_numpys(digits):
    """`Cs=np.int64(2)` is `Cs=2`; a value alone is refused with what is expected."""
    vectors, labels = digits
    few = FastLogisticRegressionCV(np.int64(2), cv=3, max_iter=5)
    with pytest.warns(ConvergenceWarning):
        assert len(few.fit(vectors[:200], labels[:200]).Cs_) == 2
    with pytest.raises(ValueError, match="expected how many values"):
        FastLogisticRegressionCV(0.5).fit(vectors, labels)


def test_it_works_inside_a_grid_search(digits):
    """Parameters are set and cloned as anywhere in scikit-learn."""
    search = GridSearchCV(FastLogisticRegression(), {"C": [0.001, 0.1]}, cv=3)
    search.fit(*digits)
    assert search.best_params_ == {"C": 0.1}


def test_what_cannot_be_fitted_is_a_value_error(digits):
    """One class, C = 0 and a fold that lacks a class are refused with a sentence."""
    vectors, labels = digits
    with pytest.raises(ValueError, match="one class"):
        FastLogisticRegression().fit(vectors[:5], np.zeros(5))
    with pytest.raises(ValueError, match="above 0"):
        FastLogisticRegression(C=0).fit(vectors, labels)
    blocks = [(np.arange(100, 200), np.arange(100))]
    with pytest.raises(ValueError, match="hold none of class"):
        FastLogisticRegressionCV(cv=blocks).fit(vectors[:200], np.arange(200) < 100)


def test_stopping_early_is_said(digits):
    """Too few iterations end with scikit-learn's ConvergenceWarning."""
    with pytest.warns(UserWarning, match="stopped after 2 iterations"):
        FastLogisticRegression(C=10, max_iter=2).fit(*digits)


def test_a_warm_start_begins_at_the_last_fit(digits):
    """The same rows again take no iteration, a neighbouring C fewer than from nothing."""
    options = {"standardize": False, "tol": 1e-6}
    warm = FastLogisticRegression(C=0.1, warm_start=True, **options).fit(*digits)
    assert warm.set_params(tol=1e-5).fit(*digits).n_iter_ == 0
    cold = FastLogisticRegression(C=0.12, **options).fit(*digits)
    warm.set_params(C=0.12, tol=1e-6).fit(*digits)
    assert 0 < warm.n_iter_ < cold.n_iter_
    assert np.allclose(warm.coef_, cold.coef_, atol=1e-4)
    assert FastLogisticRegression(C=0.12, **options).fit(*digits).n_iter_ == cold.n_iter_
