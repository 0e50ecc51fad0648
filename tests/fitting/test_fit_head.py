"""fit_head with every kind of head: which rows stop and judge, options, weights, saving."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Perceptron
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from typer.testing import CliRunner

import featcache
from featcache.cli import app
from featcache.errors import FeatcacheError
from featcache.features.rows import LazyRows, rows_of
from featcache.features.splits.roles import assign_roles
from featcache.fitting.fit_head import fit_head

QUICK = {"logreg": {"C": 0.01}, "dense": {"epochs": 3, "hidden": 16, "learning_rate": 0.01}}


@pytest.fixture(scope="module")
def features(digit_features):
    return featcache.load("digits", cache=digit_features)


def split(features, **shares):
    """The features with splits drawn by row number: 0 to 9, in the order given."""
    names = [name for name, count in shares.items() for _ in range(count)]
    return replace(features, splits=np.array(names)[np.arange(len(features)) % 10])


@pytest.mark.parametrize("kind", featcache.HEADS)
def test_every_kind_is_fitted_judged_saved_and_used(kind, features, tmp_path):
    """One call fits, judges and saves; the loaded file predicts the same bits."""
    head = fit_head(features, head=kind, out=tmp_path / "a.head", **QUICK.get(kind, {}))
    assert head.metrics["accuracy"] > 0.5 > head.metrics["baseline"]
    again = featcache.Head.load(head.path)
    assert again.kind == kind
    assert np.array_equal(again.predict_proba(features), head.predict_proba(features))
    assert json.loads(json.dumps(head.model.settings)) == again.model.settings
    report = featcache.evaluate(again, features)
    assert report.accuracy == pytest.approx(head.metrics["accuracy"])


def test_validation_rows_stop_and_test_rows_judge(features):
    """With both splits, each has its part; neither trains."""
    roles = assign_roles(split(features, train=6, validation=2, test=2), 0, stopped=True)
    assert (roles.train.sum(), roles.stop.sum(), roles.judge.sum()) == (180, 60, 60)
    assert not (roles.train & roles.stop).any()
    assert not (roles.stop & roles.judge).any()
    assert "the file's validation split (60 rows) stopped the training" in roles.protocol


def test_without_a_validation_split_some_training_rows_stop(features):
    """A tenth of the training rows is held back, said aloud; the judging rows never stop."""
    for given, judged in ((split(features, train=8, test=2), 60), (features, 60)):
        roles = assign_roles(given, 0, stopped=True)
        assert roles.judge.sum() == pytest.approx(judged, abs=6)
        assert roles.stop.sum() == pytest.approx(24, abs=7)
        assert not ((roles.train | roles.judge) & roles.stop).any()
        assert "other training rows" in roles.protocol
        assert not assign_roles(given, 0).stop.any()


def test_a_validation_split_alone_stops_and_judges_and_says_so(features, tmp_path):
    """As in the usual Keras loop, but the protocol says that the accuracy may flatter."""
    given = split(features, train=8, validation=2)
    head = fit_head(given, head="dense", out=tmp_path / "d.head", epochs=2)
    assert "the rows that judge stopped the training too" in head.protocol
    assert head.metrics["rows"] == 60
    # Rows of the file's own split can be judged again.
    assert featcache.evaluate(head, given).rows == 60


def test_rows_held_back_to_stop_are_never_judged_on(features, tmp_path):
    """They shaped the head: `evaluate` leaves them out like training rows."""
    head = fit_head(features, head="dense", out=tmp_path / "d.head", epochs=2)
    assert featcache.evaluate(head, features).rows == head.metrics["rows"]
    assert len(head.trained_on) > head.metrics["training_rows"]


def test_an_own_classifier_is_fitted_and_not_saved(features, tmp_path):
    """A clone is fitted, judged and used; saving it is refused with the reason."""
    mine = LogisticRegression(C=0.01, max_iter=500)
    head = fit_head(features, head=mine)
    assert not hasattr(mine, "coef_")
    assert (head.kind, head.path) == ("LogisticRegression", None)
    assert head.metrics["accuracy"] > 0.5
    for action, words in [
        (lambda: head.save(tmp_path / "x.head"), "could run foreign code"),
        (lambda: fit_head(features, head=mine, out=tmp_path / "x.head"), "is not saved"),
        (lambda: fit_head(features, head=mine, C=3.0), r"LogisticRegression\(...\)"),
        (lambda: fit_head(features, head=LogisticRegression), "expected one of logreg"),
        (lambda: fit_head(features, head=Perceptron()), "gives no probabilities"),
    ]:
        with pytest.raises(FeatcacheError, match=words):
            action()
    assert not (tmp_path / "x.head").exists()


def test_class_weights_help_the_rare_class(features, tmp_path):
    """`class_weight="balanced"` finds more of a class that has few training images."""
    rare = np.flatnonzero(features.labels == "8")
    kept = np.setdiff1d(np.arange(len(features)), rare[4:])
    few = features[kept]
    few = replace(few, splits=np.where(np.isin(kept, rare[:4]), "train", few.splits))
    out = tmp_path / "a.head"
    for kind in ("logreg", "dense", "ridge", "svm"):
        options = QUICK.get(kind, {}) | ({"C": 1e-4} if kind == "logreg" else {})
        plain = fit_head(few, head=kind, out=out, **options)
        even = fit_head(few, head=kind, out=out, class_weight="balanced", **options)
        column = plain.classes.index("8")
        unseen = features[rare[4:]]
        shares = [each.predict_proba(unseen)[:, column].mean() for each in (plain, even)]
        assert shares[1] > shares[0], kind


def test_balanced_classes_count_the_same_whatever_their_rows_count(features, tmp_path):
    """With `sample_weight` and "balanced", the weights of each class sum up to the same."""
    weights = np.where(features.labels == "3", 10.0, 1.0)
    head = fit_head(
        features, head="knn", class_weight="balanced", sample_weight=weights,
        out=tmp_path / "a.head",
    )  # fmt: skip
    votes = np.bincount(head.model.codes, head.model.votes)
    assert votes == pytest.approx(votes.mean(), rel=1e-5)


def test_a_pipeline_hands_sample_weights_to_its_last_step(features):
    """A pipeline of one's own is fitted with weights; a step that takes none is a sentence."""
    weights = np.where(features.labels == "3", 1e-9, 1.0)
    mine = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=500))
    head = fit_head(features, head=mine, sample_weight=weights)
    assert head.predict_proba(features)[:, head.classes.index("3")].max() < 0.1
    nearest = make_pipeline(StandardScaler(), KNeighborsClassifier())
    with pytest.raises(FeatcacheError, match=r"no sample weights: .*Leave sample_weight="):
        fit_head(features, head=nearest, sample_weight=weights)


@pytest.mark.parametrize("seed", [-1, 2**32, 1.5])
def test_a_seed_that_no_generator_takes_is_a_sentence(seed, features, digit_features):
    """Below 0 or above 32 bits: refused before anything is fitted, in Python and the command."""
    with pytest.raises(FeatcacheError, match="--seed"):
        fit_head(features, head="centroid", seed=seed)
    arguments = ["fit-head", "digits", "--cache", str(digit_features), "--seed", str(seed)]
    assert CliRunner().invoke(app, arguments).exit_code == 2


def test_sample_weights_reach_the_solver(features, tmp_path):
    """Rows of weight 0 might as well not be there; wrong weights are a sentence."""
    weights = np.ones(len(features))
    weights[features.labels == "3"] = 1e-6
    head = fit_head(
        features, head="centroid", metric="euclidean", sample_weight=weights,
        out=tmp_path / "a.head",
    )  # fmt: skip
    assert head.metrics["accuracy"] > 0.3
    for wrong in (weights[:-1], -weights, weights * np.nan):
        with pytest.raises(FeatcacheError, match="sample_weight: expected 300 numbers"):
            fit_head(features, sample_weight=wrong)
    with pytest.raises(FeatcacheError, match="every training row has the weight 0"):
        fit_head(features, sample_weight=weights * 0)


def test_classes_that_are_too_small_are_named(features, tmp_path):
    """A class with one training image, and one that nobody judges, stand in the remarks."""
    threes = np.flatnonzero(features.labels == "3")
    splits = np.where(np.arange(len(features)) % 5 == 0, "test", "train")
    splits[threes] = ""
    lone = replace(features, splits=splits)[np.setdiff1d(np.arange(300), threes[1:])]
    head = fit_head(lone, C=0.01, out=tmp_path / "a.head")
    remarks = " ".join(head.metrics["remarks"])
    assert "a single training image: '3'" in remarks
    assert "have no image among the judged rows (3)" in remarks


def test_vectors_that_are_not_finite_are_named(features, tmp_path, monkeypatch):
    """An infinite number in a vector stops `fit_head` and `evaluate`: both name the image."""
    from featcache.heads import training_set

    spoilt = np.array(features.vectors)
    spoilt[7, 3] = np.inf
    monkeypatch.setattr(training_set, "rows_of", lambda rows, mask: spoilt[mask])
    with pytest.raises(FeatcacheError, match=r"not finite.*" + features.names[7]):
        fit_head(features, C=0.01, out=tmp_path / "a.head")
    monkeypatch.undo()
    head = fit_head(features[50:], head="centroid", out=tmp_path / "b.head")
    monkeypatch.setattr(type(features), "vectors", spoilt[:50])
    with pytest.raises(FeatcacheError, match=f"the vector of {features.names[7]} has numbers"):
        featcache.evaluate(head, features[:50])


def test_rows_look_like_the_array_they_stand_for(features, monkeypatch):
    """Neighbouring rows stay a map, few are copied, many are read when asked: all the same."""
    from featcache.features import rows as rows_module

    every = np.arange(300) % 3 == 0
    copied = rows_of(features, every)
    assert np.shares_memory(rows_of(features, np.arange(300) > 9), features.vectors)
    monkeypatch.setattr(rows_module, "IN_MEMORY", 0)
    lazy = rows_of(features, every)
    assert isinstance(lazy, LazyRows)
    assert lazy.shape == copied.shape
    assert np.array_equal(lazy[10:20], copied[10:20])
    assert np.array_equal(lazy[np.array([5, 2, 90])], copied[[5, 2, 90]])
    assert np.array_equal(np.asarray(lazy), copied)


@pytest.mark.parametrize("hidden", [["--hidden", "32", "16"], ["--hidden=32", "16"]])
def test_the_command_has_the_options_of_all_heads(hidden, digit_features, tmp_path):
    """W5's head in one line; `--hidden 32 16` is two layers; a foreign option is refused."""
    base = ["fit-head", "digits", "--cache", str(digit_features), "--out", str(tmp_path / "a.head")]
    layers = ["--head", "dense", *hidden, "--batch-norm", "--dropout", "0.5"]
    rate = ["--optimizer", "adam", "--learning-rate", "1e-3", "--epochs", "2", "--batch-size", "30"]
    done = CliRunner().invoke(app, [*base, *layers, *rate, "--json"])
    assert done.exit_code == 0, done.output
    answer = json.loads(done.stdout)
    assert answer["settings"]["hidden"] == [32, 16]
    assert len(answer["settings"]["history"]["val_loss"]) == 2
    assert "epoch 2/2: loss" in done.stderr
    judging = ["evaluate", answer["head"], "digits", "--plots", str(tmp_path / "plots")]
    assert CliRunner().invoke(app, [*judging, "--cache", str(digit_features)]).exit_code == 0
    drawn = {path.name for path in (tmp_path / "plots").iterdir()}
    assert {"confusion.png", "reliability.png", "history.png", "predictions.png"} == drawn
    refused = CliRunner().invoke(app, [*base, "--neighbors", "3"])
    assert refused.exit_code == 2
    assert "--neighbors is an option of --head knn, not of logreg" in refused.stderr


def test_the_network_below_is_counted_too(digit_features, tmp_path):
    """A dense head's parameters are shown with those of the network whose output it reads."""
    done = CliRunner().invoke(
        app,
        ["fit-head", "digits", "--cache", str(digit_features), "--head", "dense", "--epochs", "1",
         "--out", str(tmp_path / "a.head")],
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    assert (
        "parameters 3,425,834 (12,810 trainable, in the head; 3,413,024 frozen, "
        "efficientnet_lite0's included)"
    ) in done.stdout
