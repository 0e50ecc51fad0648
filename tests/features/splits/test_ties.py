"""Near duplicates share a side wherever rows are dealt, and where they cannot, it is said."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.datasets import load_digits

import featcache
from featcache.evaluation.evaluate import prefixes, unseen
from featcache.features.rows import Labelled
from featcache.features.splits import ties as module
from featcache.features.splits.roles import assign_roles
from featcache.features.splits.ties import find_ties
from featcache.fitting.fit_head import fit
from featcache.fitting.sweeping.folds import make_plan
from featcache.heads.training_set import training_set_of

#: Digits that there are, each three times.
DIGITS = 150


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    """150 digits, each three times: as it is, and a shade darker twice."""
    digits = load_digits()
    images = np.repeat(np.repeat(digits.images[:DIGITS] * 15, 4, axis=1), 4, axis=2)
    thrice = np.concatenate([images * shade for shade in (1, 0.97, 0.94)]).astype(np.uint8)
    return featcache.extract(
        thrice,
        backbone="efficientnet_lite0",
        size=32,
        labels=[str(label) for label in np.tile(digits.target[:DIGITS], 3)],
        cache=tmp_path_factory.mktemp("cache"),
    )


def joined(sides: np.ndarray, ties) -> bool:
    """Whether no pair of near duplicates stands on two sides."""
    return bool((sides[ties.pairs[:, 0]] == sides[ties.pairs[:, 1]]).all())


def test_rows_that_are_held_out_have_no_twin_among_those_that_train(features, tmp_path):
    """Fitting, stopping, folds and the choice of C hold near duplicates together, and say so."""
    ties = find_ties(features)
    assert ties.twins > 2 * DIGITS
    roles = assign_roles(features, 0, stopped=True)
    assert joined(np.select([roles.train, roles.stop], [0, 1], 2), ties)
    assert f"{ties.twins} near duplicates on one side" in roles.protocol
    assert 0.15 < roles.judge.mean() < 0.25
    assert joined(make_plan(features, folds=3, nested=None, seed=0).folds, ties)
    unit = training_set_of(features, roles, seed=0).units
    assert len(np.unique(unit)) < 0.6 * len(unit)


def test_a_twin_in_the_training_rows_no_longer_flatters(features, tmp_path):
    """The nearest neighbour knew every held-out digit by its twin; now it has to recognise it."""
    torn = replace(find_ties(features), unit=np.arange(len(features)))
    options = {"head": "knn", "neighbors": 1, "seed": 0, "sample_weight": None}
    flattered = fit(features, **options, out=tmp_path / "1.head", ties=torn)
    fair = fit(features, **options, out=tmp_path / "2.head")
    assert flattered.report.accuracy > fair.report.accuracy + 0.1


def test_fitting_sweeping_and_evaluating_judge_the_same_rows(features, tmp_path):
    """The head of a sweep was fitted on the rows of fit_head, and both are judged on the others."""
    head = featcache.fit_head(features, head="centroid", out=tmp_path / "one.head")
    swept = featcache.sweep(features, heads=["centroid"], folds=3, out=tmp_path / "two.head")
    assert np.array_equal(head.trained_on, swept.head.trained_on)
    judge = assign_roles(features, 0).judge
    assert set(unseen(head, features)[0].names) == set(features.names[judge])
    assert swept.report.rows == judge.sum()
    assert swept.report.accuracy == head.metrics["accuracy"]


def test_twins_on_two_sides_of_the_files_own_split_are_counted(features):
    """A split that came with the file stays as it is; the remark says what it leaks."""
    careless = np.repeat(["train", "train", "test"], DIGITS)
    (remark,) = assign_roles(replace(features, splits=careless), 0).remarks
    assert "have a near duplicate in the training rows" in remark
    assert "--audit" in remark
    sound = np.tile(np.where(np.arange(DIGITS) < 100, "train", "test"), 3)
    assert assign_roles(replace(features, splits=sound), 0).remarks == []


def test_many_images_are_not_searched_and_it_is_said(features, monkeypatch):
    """Above the bound no vector is compared, and the remark names the command that does it."""
    monkeypatch.setattr(module, "ROWS", 400)
    roles = assign_roles(features, 0)
    assert "near duplicates" not in roles.protocol
    (remark,) = roles.remarks
    assert "not looked for among 450 images" in remark
    assert "featcache split" in remark


@pytest.mark.parametrize("many", [False, True])
def test_a_network_to_which_all_looks_alike_holds_nothing_together(features, monkeypatch, many):
    """Strangers are not taken for near duplicates: their classes can still be split."""
    if many:
        monkeypatch.setattr(module, "LOOKS", 1)
    monkeypatch.setattr(module, "NEAR", 0.5)
    ties = find_ties(features)
    assert not len(ties.pairs)
    assert "look alike" in ties.remark
    assert 0.15 < assign_roles(features, 0).judge.mean() < 0.25


def test_layers_of_the_same_images_are_held_together_by_either(features):
    """What one of several files can tell holds for all, and rows without vectors have no twins."""
    every = find_ties(features)
    monotone = replace(features, labels=np.full(len(features), ""))
    assert not find_ties(monotone).twins
    assert np.array_equal(find_ties(monotone, [features]).pairs, every.pairs)
    columns = ("path", "names", "keys", "labels", "splits", "groups", "views")
    rows = Labelled(**{name: getattr(features, name) for name in columns})
    assert len(np.unique(find_ties(rows).unit)) == len(np.unique(prefixes(features.keys)))
