"""solve_path finds scikit-learn's optimum, for every C and fold at once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_breast_cancer, load_digits, load_wine, make_classification
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from sklearn.utils.class_weight import compute_sample_weight
from threadpoolctl import threadpool_limits

import featcache.heads.logistic.minimise as solver
from featcache.errors import FeatcacheError
from featcache.features.rows import LazyRows
from featcache.heads.logistic.path import fold_scores, predictions, solve_path


def called(found, vectors):
    """The code of the likeliest class of each row."""
    return predictions([found], vectors, np.arange(len(vectors)))[0]


def synthetic(**options):
    settings = {"n_samples": 600, "n_features": 30, "n_informative": 12, "random_state": 0}
    return make_classification(**(settings | options))


def unscaled():
    vectors, codes = synthetic(n_classes=5)
    return vectors * np.logspace(-2, 2, 30) + np.linspace(-50, 50, 30), codes


def separable():
    vectors, codes = synthetic(n_classes=3, class_sep=8.0, flip_y=0)
    return vectors, codes


def wide():
    vectors, codes = synthetic(n_samples=80, n_features=300, n_classes=4)
    return vectors, codes


#: Columns of very different sizes and far from zero: hard without standardising.
WILD = {
    "unscaled": unscaled,
    "wine": lambda: load_wine(return_X_y=True),
    "breast cancer": lambda: load_breast_cancer(return_X_y=True),
}
TABLES = {
    "digits": lambda: load_digits(return_X_y=True),
    "two classes": lambda: synthetic(n_classes=2),
    "unscaled": unscaled,
    "separable": separable,
    "imbalanced": lambda: synthetic(n_classes=3, weights=[0.93, 0.05, 0.02], n_samples=1500),
    "forty classes": lambda: synthetic(n_classes=40, n_samples=2000, n_informative=20),
    "fewer rows than columns": wide,
}


def loss_of(coefficients, intercept, vectors, codes, C, weights):
    """scikit-learn's objective over its sum of weights, in float64."""
    logits = vectors @ coefficients.T + intercept
    if logits.shape[1] == 1:
        logits = np.concatenate([np.zeros_like(logits), logits], axis=1)
    top = logits.max(axis=1)
    each = np.log(np.exp(logits - top[:, None]).sum(axis=1)) + top
    each -= logits[np.arange(len(codes)), codes]
    return (weights @ each + (coefficients**2).sum() / (2 * C)) / weights.sum()


def check_optimum(found, vectors, codes, weights=None, *, solver="lbfgs"):
    """The loss is at most 1e-4 above scikit-learn's optimum; predictions are the same."""
    weights = np.ones(len(codes)) if weights is None else weights
    scaled = (vectors - found.mean) / found.scale
    theirs = LogisticRegression(C=found.C, tol=1e-7, max_iter=20_000, solver=solver)
    with threadpool_limits(1):  # its threads wait for each other where other tests run
        theirs.fit(scaled, codes, weights)
    best = loss_of(theirs.coef_, theirs.intercept_, scaled, codes, found.C, weights)
    ours = loss_of(
        found.coefficients * found.scale,
        found.intercept + found.coefficients @ found.mean,
        scaled, codes, found.C, weights,
    )  # fmt: skip
    assert found.converged
    assert ours <= best * (1 + 1e-4) + 1e-9
    assert found.loss == pytest.approx(ours, rel=1e-3)
    used = weights > 0
    margins = np.sort(theirs.decision_function(scaled).reshape(len(codes), -1), axis=1)
    margins = np.abs(margins[:, -1] - (margins[:, -2] if margins.shape[1] > 1 else 0))
    clear = used & (margins > 0.05)
    assert (called(found, vectors)[clear] == theirs.predict(scaled)[clear]).all()


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_a_path_ends_at_scikit_learns_optimum(name, kind):
    """For every C, on vectors of both precisions, the loss is scikit-learn's to 1e-4."""
    vectors, codes = TABLES[name]()
    for found in solve_path(vectors.astype(kind), codes, Cs=[0.001, 0.03, 1.0, 30.0]):
        check_optimum(found, vectors, codes)


def test_where_precision_ends_the_gradient_alone_decides():
    """With next to no penalty float32 can go no further before the loss settles: it converged."""
    vectors, codes = load_digits(return_X_y=True)
    for found in solve_path(vectors.astype(np.float32), codes, Cs=[1e3, 1e5]):
        assert found.converged
        assert found.loss < 1e-3
        assert (called(found, vectors) == codes).all()


def test_without_standardising_it_is_plain_logistic_regression():
    """`standardize=False` penalises the coefficients of the columns as they are."""
    vectors, codes = synthetic(n_classes=3)
    (found,) = solve_path(vectors, codes, Cs=[0.1], standardize=False)
    assert (found.scale == 1).all()
    check_optimum(found, vectors, codes)


@pytest.mark.parametrize("name", WILD)
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_unscaled_columns_are_solved_as_they_are(name, kind):
    """Without standardising, on columns of all sizes, the optimum is that of Newton's method."""
    vectors, codes = WILD[name]()
    for found in solve_path(
        vectors.astype(kind), codes, Cs=[0.001, 0.03, 1, 30], standardize=False
    ):
        check_optimum(found, vectors, codes, solver="newton-cholesky")


@pytest.mark.parametrize("classes", [2, 3])
def test_sample_and_class_weights_scale_the_losses(classes):
    """Weights by row and by class multiply; "balanced" is scikit-learn's."""
    vectors, codes = synthetic(n_classes=classes, weights=[0.6, 0.4, 0.2][: classes - 1])
    own = np.random.default_rng(0).uniform(0, 2, len(codes))
    options = {"Cs": [0.1], "standardize": False, "sample_weight": own}
    (found,) = solve_path(vectors, codes, class_weight={0: 3.0}, **options)
    check_optimum(found, vectors, codes, own * np.where(codes == 0, 3.0, 1.0))
    (found,) = solve_path(vectors, codes, Cs=[0.1], standardize=False, class_weight="balanced")
    check_optimum(found, vectors, codes, compute_sample_weight("balanced", codes))


@pytest.mark.parametrize("classes", [2, 4])
def test_each_fold_is_what_fitting_on_its_rows_alone_gives(classes):
    """Folds have their own moments, weights and optimum: nothing leaks from the rows left out."""
    vectors, codes = synthetic(n_classes=classes)
    folds = np.arange(len(codes)) % 3
    together = solve_path(vectors, codes, Cs=[0.01, 1.0], folds=folds, tol=1e-7)
    assert [s.C for s in together] == [C for _ in range(3) for C in (0.01, 1.0)]
    for fold in range(3):
        rows = folds != fold
        alone = solve_path(vectors[rows], codes[rows], Cs=[0.01, 1.0], tol=1e-7)
        for one, other in zip(alone, together[2 * fold : 2 * fold + 2], strict=True):
            assert np.allclose(one.mean, other.mean)
            assert np.allclose(one.coefficients, other.coefficients, atol=1e-4)
    scores = fold_scores(vectors, codes, together, [np.flatnonzero(folds == f) for f in range(3)])
    rows = folds != 1
    scaler = StandardScaler().fit(vectors[rows])
    theirs = LogisticRegression(C=1.0, tol=1e-7, max_iter=5000)
    theirs.fit(scaler.transform(vectors[rows]), codes[rows])
    want = theirs.score(scaler.transform(vectors[~rows]), codes[~rows])
    assert scores[1, 1] == pytest.approx(want, abs=0.006)


def test_duplicate_rows_are_weights():
    """A row that stands there three times counts as one of weight three, moments included."""
    vectors, codes = synthetic(n_samples=200, n_classes=3)
    times = np.random.default_rng(0).integers(1, 4, len(codes))
    (weighted,) = solve_path(vectors, codes, Cs=[0.1], sample_weight=times, tol=1e-8)
    rows = np.repeat(np.arange(len(codes)), times)
    (repeated,) = solve_path(vectors[rows], codes[rows], Cs=[0.1], tol=1e-8)
    assert np.allclose(weighted.coefficients, repeated.coefficients, atol=1e-6)


def test_the_curvature_of_the_place_changes_the_way_and_not_the_end(monkeypatch):
    """With the classes' curvature from the first step on, and never, the optimum is the same."""
    vectors, codes = load_digits(return_X_y=True)
    ends, ways = [], []
    for patience in (1, 10**9):
        monkeypatch.setattr(solver, "PATIENCE", patience)
        (found,) = solve_path(vectors, codes, Cs=[1.0], tol=1e-6)
        check_optimum(found, vectors, codes)
        ends.append(found.loss)
        ways.append(found.iterations)
    assert ends[0] == pytest.approx(ends[1], rel=1e-6)
    assert ways[0] < ways[1] / 2


def test_problems_solved_in_parts_end_where_those_solved_together_end(monkeypatch):
    """Where memory has room for one problem at a time, the solutions are the same."""
    vectors, codes = synthetic(n_classes=4)
    together = solve_path(vectors, codes, Cs=[0.01, 0.1, 1.0], tol=1e-7)
    monkeypatch.setattr("featcache.heads.logistic.path.COLUMNS", 4)
    for one, other in zip(
        solve_path(vectors, codes, Cs=[0.01, 0.1, 1.0], tol=1e-7), together, strict=True
    ):
        assert np.allclose(one.coefficients, other.coefficients, atol=1e-5)


def test_a_memory_map_is_read_in_blocks_and_left_as_it_is(tmp_path):
    """A read-only map of half precision gives what the array in memory gives."""
    vectors, codes = synthetic(n_classes=3, n_samples=5000)
    half = vectors.astype(np.float16)
    np.save(tmp_path / "vectors.npy", half)
    mapped = np.load(tmp_path / "vectors.npy", mmap_mode="r")
    (one,) = solve_path(mapped, codes, Cs=[0.1])
    (other,) = solve_path(half.astype(np.float32), codes, Cs=[0.1])
    assert np.allclose(one.coefficients, other.coefficients, atol=1e-3)
    some = np.random.default_rng(0).permutation(5000)[:4000]
    (one,) = solve_path(LazyRows(mapped, some), codes[some], Cs=[0.1])
    (other,) = solve_path(half.astype(np.float32)[some], codes[some], Cs=[0.1])
    assert np.allclose(one.coefficients, other.coefficients, atol=1e-3)
    rows = np.arange(4000)
    assert np.array_equal(
        predictions([one], LazyRows(mapped, some), rows)[0],
        called(one, half[some].astype(np.float32)),
    )


def test_starting_at_a_solution_takes_no_step():
    """A warm start at the optimum is seen to be there."""
    vectors, codes = synthetic(n_classes=3)
    (first,) = solve_path(vectors, codes, Cs=[0.1], tol=1e-6)
    (again,) = solve_path(vectors, codes, Cs=[0.1], tol=1e-5, start=first.place)
    assert again.iterations == 0
    assert np.allclose(again.coefficients, first.coefficients)
    with pytest.raises(FeatcacheError, match="the same columns and classes"):
        solve_path(vectors[:, :-1], codes, Cs=[0.1], start=first.place)


def test_constant_columns_have_no_say():
    """A column that does not vary gets the coefficient zero, whatever its value."""
    vectors, codes = synthetic(n_classes=3)
    vectors[:, 4] = 1234.5
    for kind in (np.float32, np.float64):
        (found,) = solve_path(vectors.astype(kind), codes, Cs=[1.0])
        assert found.scale[4] == 1
        assert np.abs(found.coefficients[:, 4]).max() < 1e-6


def test_a_column_that_is_constant_in_one_fold_has_no_say_there():
    """Where only rows that are left out have a value, the column is constant to the fold."""
    vectors, codes = synthetic(n_classes=3)
    folds = np.arange(len(codes)) % 3
    vectors[:, 4] = np.where(np.arange(len(codes)) == 0, 0.16, 0.0)
    single = vectors.astype(np.float32)
    first, second, _ = solve_path(single, codes, Cs=[1.0], folds=folds, tol=1e-6)
    assert first.scale[4] == 1
    assert np.abs(first.coefficients[:, 4]).max() < 1e-4
    assert second.scale[4] == pytest.approx(vectors[folds != 1, 4].std(), rel=1e-4)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    rows=st.integers(6, 120),
    width=st.integers(1, 40),
    classes=st.integers(2, 6),
    exponent=st.floats(-4, 2),
)
def test_at_the_solution_the_gradient_is_below_tol(seed, rows, width, classes, exponent):
    """Whatever the table, no entry of the gradient is above tol; row order does not matter."""
    random = np.random.default_rng(seed)
    vectors = random.standard_normal((rows, width)) * random.uniform(0.1, 10, width)
    codes = np.concatenate([np.arange(classes), random.integers(0, classes, rows)])[:rows]
    C = 10.0**exponent
    (found,) = solve_path(vectors, codes, Cs=[C], tol=1e-5)
    assert found.converged
    coefficients = found.coefficients * found.scale
    scaled = (vectors - found.mean) / found.scale
    logits = vectors @ found.coefficients.T + found.intercept
    if classes == 2:
        logits = np.concatenate([np.zeros_like(logits), logits], axis=1)
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    residual = (shares - np.eye(classes)[codes])[:, classes - len(coefficients) :]
    assert np.abs(residual.mean(axis=0)).max() <= 1.01e-5
    gradient = residual.T @ scaled / rows + coefficients / (C * rows)
    assert np.abs(gradient).max() <= 1.01e-5
    order = random.permutation(rows)
    (turned,) = solve_path(vectors[order], codes[order], Cs=[C], tol=1e-5)
    assert turned.loss == pytest.approx(found.loss, rel=1e-4, abs=1e-8)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"codes": np.zeros(60, int)}, "one class"),
        ({"Cs": [0.1, 0.0]}, "C = 0.0: expected a number above 0"),
        ({"Cs": []}, "at least one"),
        ({"folds": np.arange(60) // 20}, "hold none of class 0"),
        ({"sample_weight": np.full(60, -1.0)}, "none below 0"),
        ({"class_weight": "heavy"}, "expected 'balanced'"),
        ({"codes": np.repeat([0, 1, 3], 20)}, "no row has the code 2"),
    ],
)
def test_what_cannot_be_solved_is_refused_in_a_sentence(change, sentence):
    """Each bad input is named, with what to do."""
    given = {"codes": np.repeat([0, 1, 2], 20), "Cs": [0.1]} | change
    vectors = np.random.default_rng(0).standard_normal((60, 4))
    with pytest.raises(FeatcacheError, match=sentence):
        solve_path(vectors, **given)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("rows", [60, 20_000])
def test_a_row_that_is_not_finite_is_named(value, rows):
    """NaN or infinity anywhere is found before anything is fitted, and the row is named."""
    vectors = np.random.default_rng(0).standard_normal((rows, 4)).astype(np.float32)
    vectors[rows - 3, 2] = value
    with pytest.raises(FeatcacheError, match=f"row {rows - 3} of the vectors"):
        solve_path(vectors, np.arange(rows) % 2, Cs=[0.1])
