"""Every kind of head: one shape, plain data, the same answers as scikit-learn's."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import RidgeClassifier
from sklearn.metrics import log_loss, pairwise_distances_argmin
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from featcache.errors import FeatcacheError
from featcache.heads import model as training_module
from featcache.heads.calibration import find_sharpness
from featcache.heads.kinds import HEADS, options_of
from featcache.heads.linear import unit_length
from featcache.heads.ridge import _Basis
from featcache.heads.training_set import TrainingSet, moments

SETTINGS = {
    "logreg": {"C": 0.01},
    "dense": {"epochs": 8, "hidden": (16,), "batch_norm": True, "learning_rate": 0.01},
}


def training_of(vectors, codes, **fields):
    rows = np.arange(len(codes))
    return TrainingSet(
        **{"vectors": vectors, "codes": codes, "classes": int(codes.max()) + 1, "weights": None,
           "units": rows, "images": rows} | fields
    )  # fmt: skip


@pytest.fixture(scope="module")
def digits():
    """Training on 1,200 digits of 64 pixels, validation on 200, and 397 unseen ones."""
    data = load_digits()
    vectors = data.data.astype(np.float32)
    validation = training_of(vectors[1200:1400], data.target[1200:1400])
    training = training_of(vectors[:1200], data.target[:1200], validation=validation)
    return training, vectors[1400:], data.target[1400:]


@pytest.fixture(scope="module")
def fitted(digits):
    """A model of each kind."""
    return {
        name: kind.fit(digits[0], options_of(name, SETTINGS.get(name, {})))
        for name, kind in HEADS.items()
    }


@pytest.mark.parametrize("name", HEADS)
def test_each_kind_gives_probabilities_that_mean_something(name, digits, fitted):
    """Each row sums to one, is float32, and names the right class far oftener than chance."""
    _, vectors, codes = digits
    model = fitted[name]
    probabilities = model.predict_proba(vectors)
    assert (model.width, model.outputs) == (64, 10)
    assert probabilities.shape == (397, 10)
    assert probabilities.dtype == np.float32
    assert np.abs(probabilities.sum(axis=1) - 1).max() < 1e-5
    assert (probabilities.argmax(axis=1) == codes).mean() > 0.85
    assert log_loss(codes, probabilities) < 0.75
    assert model.predict_proba(vectors[:0]).shape == (0, 10)


@pytest.mark.parametrize("name", HEADS)
def test_state_and_settings_are_the_whole_head(name, digits, fitted):
    """A model rebuilt from its arrays and settings predicts the same bits."""
    again = HEADS[name].head.from_state(fitted[name].state(), fitted[name].settings)
    assert np.array_equal(again.predict_proba(digits[1]), fitted[name].predict_proba(digits[1]))


@pytest.mark.parametrize("name", HEADS)
def test_crafted_arrays_are_refused(name, fitted):
    """An array that is missing, of another shape or type, or not finite is named."""
    load, state = HEADS[name].head.from_state, fitted[name].state()
    for each, array in state.items():
        lacking = {key: value for key, value in state.items() if key != each}
        with pytest.raises((FeatcacheError, KeyError)):
            load(lacking, fitted[name].settings)
        wrong = [
            array[..., :-1] if name == "dense" else array[:-1],
            array.astype(np.float64),
            array[np.newaxis],
        ]
        if array.dtype.kind == "f":
            wrong.append(np.full_like(array, np.nan))
        for crafted in wrong:
            with pytest.raises((FeatcacheError, ValueError)):
                load(state | {each: crafted}, fitted[name].settings)


@pytest.mark.parametrize("name", [name for name in HEADS if name not in ("dense",)])
def test_blocks_and_memory_maps_change_nothing(name, digits, fitted, tmp_path, monkeypatch):
    """Fitted and used in blocks of a few rows from a map, the probabilities are the same."""
    training, vectors, _ = digits
    np.save(tmp_path / "v.npy", training.vectors)
    mapped = replace(training, vectors=np.load(tmp_path / "v.npy", mmap_mode="r"))
    monkeypatch.setattr(training_module, "BLOCK_BYTES", 64 * 4 * 100)
    model = HEADS[name].fit(mapped, options_of(name, SETTINGS.get(name, {})))
    want = fitted[name].predict_proba(vectors)
    assert np.abs(model.predict_proba(vectors) - want).max() < 2e-3


@pytest.mark.parametrize("name", [name for name in HEADS if name not in ("dense", "knn")])
def test_a_weight_of_two_is_a_row_seen_twice(name, digits):
    """Weights count rows: doubling some by weight or by repetition gives the same head."""
    training, vectors, _ = digits
    twice = np.arange(len(training)) % 3 == 0
    rows = np.concatenate([np.arange(len(training)), np.flatnonzero(twice)])
    options = options_of(name, {"C": 1e-4} if name == "logreg" else {})
    if name == "ridge":
        options = options_of(name, {"alpha": 100.0})
    weighted = replace(training, weights=np.where(twice, 2, 1).astype(np.float32))
    one = HEADS[name].fit(weighted, options).predict_proba(vectors)
    two = HEADS[name].fit(training.take(rows), options).predict_proba(vectors)
    # svm draws other rows to measure its sharpness; centroid and ridge leave out a row's whole
    # weight.
    assert (one.argmax(axis=1) == two.argmax(axis=1)).mean() > 0.96


def test_ridge_is_scikit_learns(digits):
    """The scores are those of StandardScaler + RidgeClassifier, up to their sharpness."""
    training, vectors, _ = digits
    model = HEADS["ridge"].fit(training, options_of("ridge", {"alpha": 30.0}))
    scaler = StandardScaler().fit(training.vectors.astype(np.float64))
    theirs = RidgeClassifier(alpha=30.0).fit(scaler.transform(training.vectors), training.codes)
    ours = model._scores(vectors) / model.settings["sharpness"]
    # Theirs are for targets of -1 and 1, ours for 0 and 1.
    wanted = (theirs.decision_function(scaler.transform(vectors)) + 1) / 2
    assert np.abs(ours - wanted).max() < 1e-3


@pytest.mark.parametrize("count", [150, 40])
def test_leave_one_out_is_what_leaving_one_out_gives(digits, count):
    """With more rows than columns or fewer, the closed form equals fits without the row."""
    vectors = digits[0].vectors[:count, 10:60]
    training = training_of(vectors, digits[0].codes[:count])
    basis = _Basis.of(training)
    scores = basis.without_own(np.arange(count), (20.0,))[:, 0]
    # The same standardisation for all, as the closed form has it.
    rows = (vectors - basis.mean) / basis.scale
    targets = np.eye(training.classes)[training.codes]
    for row in range(0, count, 9):
        rest = np.arange(count) != row
        mean, prior = rows[rest].mean(axis=0), targets[rest].mean(axis=0)
        centred = rows[rest] - mean
        gram = centred.T @ centred + 20 * np.eye(50)
        slopes = np.linalg.solve(gram, centred.T @ (targets[rest] - prior))
        assert np.abs((rows[row] - mean) @ slopes + prior - scores[row]).max() < 1e-3


def test_svm_is_scikit_learns(digits):
    """Classes are those of StandardScaler + LinearSVC, but for a few near-ties."""
    training, vectors, _ = digits
    for kept in (10, 2):
        some = training.take(np.flatnonzero(training.codes < kept))
        some = replace(some, classes=kept)
        scaler = StandardScaler().fit(some.vectors)
        theirs = LinearSVC(C=0.001, dual=False).fit(scaler.transform(some.vectors), some.codes)
        ours = HEADS["svm"].fit(some, options_of("svm", {})).predict_proba(vectors)
        assert ours.shape[1] == kept
        same = ours.argmax(axis=1) == theirs.predict(scaler.transform(vectors))
        assert same.mean() > 0.99


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_knn_is_scikit_learns(digits, metric):
    """The votes are KNeighborsClassifier's; one more is shared by all classes."""
    training, vectors, _ = digits
    model = HEADS["knn"].fit(training, options_of("knn", {"neighbors": 7, "metric": metric}))
    theirs = KNeighborsClassifier(7, metric=metric, algorithm="brute")
    votes = theirs.fit(training.vectors, training.codes).predict_proba(vectors) * 7
    ours = model.predict_proba(vectors)
    assert (np.abs(ours - (votes + 0.1) / 8).max(axis=1) < 1e-6).mean() > 0.98


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_centroid_is_scikit_learns(digits, metric):
    """Classes are those of the nearest mean, of directions or on the vectors themselves."""
    training, vectors, _ = digits
    ours = HEADS["centroid"].fit(training, options_of("centroid", {"metric": metric}))
    turn = unit_length if metric == "cosine" else np.asarray
    means = [turn(training.vectors[training.codes == k]).mean(axis=0) for k in range(10)]
    theirs = pairwise_distances_argmin(vectors, np.stack(means), metric=metric)
    assert (ours.predict_proba(vectors).argmax(axis=1) == theirs).all()


def test_sharpness_is_the_best_factor():
    """No factor near it has a smaller log loss."""
    random = np.random.default_rng(0)
    codes = random.integers(3, size=400)
    scores = np.eye(3)[codes] * 0.3 + random.normal(size=(400, 3)) * 0.3
    found = find_sharpness(scores, codes, np.ones(400))

    def loss(factor):
        exponent = np.exp(scores * factor)
        return log_loss(codes, exponent / exponent.sum(axis=1, keepdims=True))

    assert loss(found) < min(loss(found * 1.05), loss(found / 1.05))


def test_moments_are_the_weighted_ones():
    """Mean and deviation of large, shifted and constant columns, with weights, are numpy's."""
    random = np.random.default_rng(0)
    vectors = random.normal([1e4, 0, 5], [2, 1e-3, 0], size=(500, 3)).astype(np.float32)
    weights = random.integers(1, 4, size=500)
    training = training_of(vectors, np.zeros(500, int), weights=weights.astype(np.float32))
    mean, deviation = moments(training)
    repeated = np.repeat(vectors.astype(np.float64), weights, axis=0)
    assert mean == pytest.approx(repeated.mean(axis=0), rel=1e-6, abs=1e-7)
    assert deviation == pytest.approx([*repeated.std(axis=0)[:2], 1.0], rel=1e-4)


@pytest.mark.parametrize(
    ("head", "options", "words"),
    [
        ("logreg", {"hidden": (3,)}, "--hidden is an option of --head dense, not of logreg"),
        ("dense", {"C": 1.0}, "--C is an option of --head logreg, svm"),
        ("dense", {"hiden": 3}, "no head has an option --hiden; dense has --hidden"),
        ("logreg", {"C": 0}, "--C 0: expected a number above 0"),
        ("logreg", {"C": float("nan")}, "--C nan"),
        ("svm", {"C": -1}, "--C -1"),
        ("dense", {"dropout": 1.0}, "--dropout 1.0: expected a number of at least 0 and below 1"),
        ("dense", {"label_smoothing": 1.0}, "--label-smoothing 1.0: expected a number of at least"),
        ("dense", {"hidden": (64, 0)}, "--hidden 0"),
        ("dense", {"optimizer": "adams"}, "'adams' is not one of adam, rmsprop, sgd"),
        ("dense", {"epochs": 1.5}, "--epochs 1.5: expected a whole number"),
        ("dense", {"stop_at": 99}, "--stop-at 99"),
        ("knn", {"metric": "l1"}, "--metric 'l1'"),
        ("knn", {"neighbors": 0}, "--neighbors 0"),
        ("ridge", {"alpha": 0}, "--alpha 0"),
        ("lda", {}, "there are: logreg, dense, knn"),
    ],
)
def test_a_wrong_option_is_a_sentence(head, options, words):
    """An option that a kind does not have, or a value it cannot take, is named."""
    with pytest.raises(FeatcacheError, match=words):
        options_of(head, options)


def test_knn_wants_no_more_neighbours_than_there_are(digits):
    """More neighbours than training rows is a mistake, not an index error."""
    with pytest.raises(FeatcacheError, match="--neighbors 5000: there are 1200"):
        HEADS["knn"].fit(digits[0], options_of("knn", {"neighbors": 5000}))
