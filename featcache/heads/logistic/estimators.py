"""scikit-learn's interface to the solver: FastLogisticRegression and its cross-validated twin."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any, TypeVar

import numpy as np
from scipy.special import softmax
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model._base import LinearClassifierMixin
from sklearn.model_selection import check_cv
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, validate_data

from featcache.heads.logistic.path import SEARCH_LOSS_TOL, Solution, fold_scores, solve_path
from featcache.heads.logistic.table import balanced_weights


class FastLogisticRegression(LinearClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """`LogisticRegression` (L2, multinomial) that is quick on many rows of features.

    Parameters
    ----------
    C: inverse strength of the penalty.
    class_weight: "balanced", a dict of weights by class, or None.
    tol: the largest entry of the gradient of the mean loss at the end.
    standardize: penalise the coefficients of standardised columns, which is
        `make_pipeline(StandardScaler(), LogisticRegression())` without the copy; `coef_` is for
        the columns as they are, and sample weights count in means and deviations too. False:
        scikit-learn's `LogisticRegression`.
    warm_start: begin at `coef_` and `intercept_` of the last fit: quicker where the rows or C have
        changed a little, and the same end.
    """

    def __init__(
        self,
        C: float = 1.0,
        *,
        class_weight: str | Mapping[Any, float] | None = None,
        tol: float = 1e-4,
        standardize: bool = True,
        max_iter: int = 1000,
        warm_start: bool = False,
    ) -> None:
        self.C = C
        self.warm_start = warm_start
        self.class_weight = class_weight
        self.tol = tol
        self.standardize = standardize
        self.max_iter = max_iter

    def fit(
        self, X: np.ndarray, y: np.ndarray, sample_weight: np.ndarray | None = None
    ) -> FastLogisticRegression:
        """Fit on (n, D) vectors and n labels; raises `ValueError` where they are not fit for it."""
        X, codes = _validated(self, X, y)
        weights = _weights(sample_weight, codes)
        is_warm = self.warm_start and hasattr(self, "coef_")
        start = (self.coef_, self.intercept_) if is_warm else None
        (found,) = _solve(self, X, codes, Cs=[self.C], sample_weight=weights, start=start)
        return _keep(self, found)

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """(n, K) probabilities, in the order of `classes_`."""
        return _probabilities(self.decision_function(X))

    def predict_log_proba(self, X: np.ndarray) -> np.ndarray:
        return _logs(self.predict_proba(X))


class FastLogisticRegressionCV(LinearClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """`LogisticRegressionCV`: C by cross-validated accuracy, all folds and Cs solved together.

    Parameters
    ----------
    Cs: how many values between 1e-4 and 1e4, or the values.
    cv: folds of a stratified k-fold, or any of scikit-learn's splitters.

    Attributes
    ----------
    C_: the value with the best mean accuracy; of equals the smallest.
    Cs_, scores_: the values in order, and (folds, values) accuracies.
    """

    def __init__(
        self,
        Cs: int | Sequence[float] = 10,
        *,
        cv: Any = 5,
        class_weight: str | Mapping[Any, float] | None = None,
        tol: float = 1e-4,
        standardize: bool = True,
        max_iter: int = 1000,
    ) -> None:
        self.Cs = Cs
        self.cv = cv
        self.class_weight = class_weight
        self.tol = tol
        self.standardize = standardize
        self.max_iter = max_iter

    def fit(
        self, X: np.ndarray, y: np.ndarray, sample_weight: np.ndarray | None = None
    ) -> FastLogisticRegressionCV:
        """Choose C and fit with it on all rows."""
        X, codes = _validated(self, X, y)
        weights = _weights(sample_weight, codes)
        self.Cs_ = _values(self.Cs)
        sides = list(check_cv(self.cv, codes, classifier=True).split(X, codes))
        used = np.array([np.isin(np.arange(len(codes)), train) for train, _ in sides])
        options = {"sample_weight": weights, "class_weight": _balanced(self, codes, weights)}
        search = {"folds": used, "loss_tol": SEARCH_LOSS_TOL}
        found = _solve(self, X, codes, Cs=self.Cs_, **search, **options)
        self.scores_ = fold_scores(X, codes, found, [test for _, test in sides], weights)
        best = int(self.scores_.mean(axis=0).argmax())
        self.C_ = float(self.Cs_[best])
        (final,) = _solve(self, X, codes, Cs=[self.C_], start=found[best].place, **options)
        return _keep(self, final)

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """(n, K) probabilities, in the order of `classes_`."""
        return _probabilities(self.decision_function(X))

    def predict_log_proba(self, X: np.ndarray) -> np.ndarray:
        return _logs(self.predict_proba(X))


def _values(Cs: int | Sequence[float]) -> np.ndarray:
    """The values in order; numpy's whole numbers say how many, as Python's do."""
    if isinstance(Cs, Integral):
        return np.logspace(-4, 4, int(Cs))
    if np.ndim(Cs) != 1:
        raise ValueError(f"Cs={Cs!r}: expected how many values, or the values: [0.01, 0.1]")
    return np.sort(Cs)


Estimator = TypeVar("Estimator", FastLogisticRegression, FastLogisticRegressionCV)


def _validated(estimator: Any, X: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The vectors, and codes of the labels; sets `classes_` and `n_features_in_`."""
    X, y = validate_data(estimator, X, y, dtype=[np.float64, np.float32])
    check_classification_targets(y)
    estimator.classes_, codes = np.unique(y, return_inverse=True)
    if len(estimator.classes_) < 2:
        raise ValueError(
            f"all labels are of one class ({estimator.classes_[0]!r}): a classifier needs two"
        )
    return X, codes


def _weights(sample_weight: np.ndarray | None, codes: np.ndarray) -> np.ndarray | None:
    if sample_weight is None:
        return None
    weights: np.ndarray = _check_sample_weight(
        sample_weight, codes[:, None], dtype=np.float64, ensure_non_negative=True
    )
    return weights


def _balanced(estimator: Any, codes: np.ndarray, weights: np.ndarray | None) -> Any:
    """Balanced weights by the shares of the classes in all rows, for every fold the same."""
    if estimator.class_weight != "balanced":
        return estimator.class_weight
    balanced = balanced_weights(np.bincount(codes, weights))
    return dict(zip(estimator.classes_.tolist(), balanced.tolist(), strict=True))


def _solve(estimator: Any, X: np.ndarray, codes: np.ndarray, **options: Any) -> list[Solution]:
    """`solve_path` with the estimator's own settings."""
    class_weight = options.pop("class_weight", estimator.class_weight)
    if isinstance(class_weight, Mapping):
        known = {label: code for code, label in enumerate(estimator.classes_.tolist())}
        class_weight = {known[key]: value for key, value in class_weight.items() if key in known}
    return solve_path(
        X,
        codes,
        class_weight=class_weight,
        standardize=estimator.standardize,
        tol=estimator.tol,
        max_iter=estimator.max_iter,
        **options,
    )


def _keep(estimator: Estimator, found: Solution) -> Estimator:
    if not found.converged:
        warnings.warn(
            f"stopped after {found.iterations} iterations before tol was reached: a smaller C or "
            f"a larger tol or max_iter helps",
            ConvergenceWarning,
            stacklevel=3,
        )
    estimator.coef_, estimator.intercept_ = found.coefficients, found.intercept
    estimator.n_iter_ = np.array([found.iterations], dtype=np.int32)
    return estimator


def _logs(probabilities: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):  # the logarithm of zero is -inf, as in scikit-learn
        logs: np.ndarray = np.log(probabilities)
    return logs


def _probabilities(scores: np.ndarray) -> np.ndarray:
    if scores.ndim == 1:
        scores = np.stack([np.zeros_like(scores), scores], axis=1)
    shares: np.ndarray = softmax(scores, axis=1)
    return shares
