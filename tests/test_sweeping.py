"""Sweeps: candidates compared on training rows, the best judged on rows that had no part in it."""

from __future__ import annotations

import itertools
import json
import shutil
from dataclasses import replace
from pathlib import Path

import joblib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import featcache
from featcache.cli import app
from featcache.errors import FeatcacheError
from featcache.evaluation import prefixes
from featcache.metrics import wilson
from featcache.splits import units
from featcache.sweeping.folds import deal, grow
from featcache.sweeping.intervals import interval_of
from featcache.sweeping.learning_curve import SHARES, Point, gain_of_doubling
from featcache.sweeping.logistic_tasks import join
from featcache.sweeping.plan import Part, Plan, make_plan
from featcache.sweeping.scoring import run_task, run_tasks
from featcache.sweeping.search import Candidate, _nested
from featcache.sweeping.tasks import Score, Side, Task

CS = (0.001, 0.1)


@pytest.fixture(scope="module")
def features(digit_features):
    return featcache.load("digits", cache=digit_features)


@pytest.fixture(scope="module")
def found(features, tmp_path_factory):
    out = tmp_path_factory.mktemp("sweep") / "best.head"
    return featcache.sweep(features, heads=["logreg"], Cs=CS, folds=3, learning_curve=True, out=out)


def test_the_best_candidate_is_refitted_and_judged_on_rows_it_never_saw(features, found):
    """The saved head has the best settings; its training rows and the judged ones are disjoint."""
    assert found.best.accuracy == max(each.accuracy for each in found.candidates)
    head = featcache.Head.load(found.head.path)
    assert head.model.settings["C"] == found.best.settings["C"]
    assert found.report.rows == (~np.isin(prefixes(features.keys), head.trained_on)).sum()
    assert found.report.accuracy == featcache.evaluate(head, features).accuracy


def test_a_candidates_score_is_that_of_its_folds(features, found):
    """Fitted by hand on the same folds, each candidate has the accuracy that the table says."""
    plan = make_plan(features, folds=3, nested=False, seed=0)
    for candidate in found.candidates:
        right = []
        for part in plan.parts:
            sides = np.full(len(features), "train")
            sides[part.judged] = "test"
            rows = np.concatenate([part.train, part.judged])
            by_hand = replace(features, splits=sides)[np.sort(rows)]
            head = featcache.fit_head(by_hand, **candidate.settings, out=found.head.path)
            right.append(head.metrics["accuracy"] * len(part.judged))
        total = sum(len(part.judged) for part in plan.parts)
        # But for near-ties: a search ends sooner than a fit.
        assert candidate.accuracy == pytest.approx(sum(right) / total, abs=2.5 / total)


def test_values_of_c_solved_together_score_as_one_by_one(features):
    """Joined tasks call the same rows right as fits of their own, but for near-ties."""
    plan = make_plan(features, folds=3, nested=True, seed=0)
    settings = [{"C": 0.001}, {"C": 0.1}]
    tasks = [
        Task(features.path, "logreg", settings, Side.of(features, part.train),
             Side.of(features, part.judged), 0)
        for part in plan.every
    ]  # fmt: skip
    assert join(tasks) == [tasks]
    together, alone = run_tasks(tasks, None, print), [run_task(task) for task in tasks]
    for one, other in zip(itertools.chain(*together), itertools.chain(*alone), strict=True):
        assert (one.right != other.right).sum() <= 2


def test_a_part_without_a_class_and_another_head_are_fitted_alone(features):
    """Only tasks that differ in nothing but C, with the same classes, are joined."""
    part = make_plan(features, folds=3, nested=False, seed=0).parts[0]
    small = part.train[features.labels[part.train] != features.classes[0]]
    judged = Side.of(features, part.judged)
    whole, lacking = (
        Task(features.path, "logreg", [{"C": 0.01}], Side.of(features, rows), judged, 0)
        for rows in (part.train, small)
    )
    ridge = replace(whole, head="ridge", settings=[{}])
    weighted = replace(whole, settings=[{"C": 0.01, "class_weight": "balanced"}])
    tasks = [whole, whole, lacking, ridge, ridge, weighted]
    assert [len(each) for each in join(tasks)] == [2, 1, 1, 1, 1]
    scores = run_tasks(tasks, None, print)
    assert [len(each) for each in scores] == [1] * 6
    none = features.labels[part.judged] == features.classes[0]
    assert not scores[2][0].right[none].any()


def test_nested_folds_choose_without_the_fold_they_are_judged_on(features):
    """A pair's part leaves both folds out, and tries the candidate on both of them."""
    plan = make_plan(features, folds=4, nested=None, seed=0)
    assert len(plan.pairs) == 6
    for pair, part in plan.pairs.items():
        assert not np.isin(plan.folds[part.train], [*pair, -1]).any()
        assert set(plan.folds[part.judged]) == set(pair)


def test_nested_accuracy_is_that_of_each_folds_own_winner():
    """Worked by hand: the first candidate wins on later folds, the second one on earlier folds."""
    folds = np.array([0, 0, 1, 1, 2, 2])
    rows = {each: np.flatnonzero(folds == each) for each in range(3)}
    pairs = {
        pair: Part(np.array([]), np.concatenate([rows[pair[0]], rows[pair[1]]]))
        for pair in [(0, 1), (0, 2), (1, 2)]
    }
    plan = Plan([Part(np.array([]), rows[each]) for each in range(3)], "", pairs, folds)
    yes, no = np.ones(2, bool), np.zeros(2, bool)
    later = [yes, no, no, *[np.concatenate([no, yes])] * 3]
    earlier = [no, no, yes, *[np.concatenate([yes, no])] * 3]
    scores = [[Score(right, 0.0) for right in each] for each in (later, earlier)]
    names = [
        Candidate("f", Path("f"), name, {}, 0.5, (0.0, 1.0), 0.0, 1)
        for name in ("later", "earlier")
    ]
    nested = _nested(plan, names, scores)
    # Without fold 0 the first wins, without fold 2 the second; fold 1 is a tie: the first.
    assert nested.chosen == ["f later", "f later", "f earlier"]
    assert nested.accuracy == pytest.approx(4 / 6)


def test_judged_rows_take_no_part_in_choosing(features):
    """Neither the held-out fifth nor a test split is in any part; validation rows may choose."""
    splits = np.array(["train", "train", "validation", "test"])[np.arange(len(features)) % 4]
    for own in (features.splits, splits, np.where(splits == "validation", "train", splits)):
        with_splits = replace(features, splits=own)
        plan = make_plan(with_splits, folds=3, nested=None, seed=0)
        used = np.unique(np.concatenate([[*part.train, *part.judged] for part in plan.every]))
        assert not (own[used.astype(int)] == "test").any()
        assert bool(plan.pairs) == (not own[0])
    plan = make_plan(replace(features, splits=splits), folds=3, nested=None, seed=0)
    assert len(plan.parts) == 1
    assert set(splits[plan.parts[0].judged]) == {"validation"}
    assert set(splits[plan.parts[0].train]) == {"train"}


def test_augmented_views_train_and_never_judge(features):
    """All views of an image are on one side of every part; only plain ones are tried."""
    twice = np.repeat(np.arange(len(features)), 2)
    views = np.tile(np.array([0, 1], dtype=np.int32), len(features))
    plan = make_plan(replace(features[twice], views=views), folds=3, nested=True, seed=0)
    for part in plan.every:
        assert not views[part.judged].any()
        assert views[part.train].mean() == 0.5
        assert not set(twice[part.train]) & set(twice[part.judged])


@settings(max_examples=40, deadline=None)
@given(
    rows=st.lists(
        st.tuples(st.integers(0, 40), st.integers(0, 3), st.integers(0, 9)), min_size=1, max_size=90
    ),
    folds=st.integers(2, 6),
)
def test_no_unit_is_torn_and_order_does_not_matter(rows, folds):
    """Copies, views and groups share a fold and a subset, however the rows are ordered."""
    keys = np.array([f"{key:064x}" for key, _, _ in rows])
    # Rows of the same bytes have the same label here, as views of an image do.
    labels = np.array([f"class {key % 4}" for key, _, _ in rows])
    groups = np.array([f"group {group}" if group < 4 else "" for _, _, group in rows])
    unit = units(keys, groups)
    dealt = deal(labels, keys, unit, folds)
    subsets = grow(labels, keys, groups, SHARES)
    for number in np.unique(unit):
        for column in (dealt, *subsets):
            assert len(set(column[unit == number].tolist())) == 1
    assert all((~small | large).all() for small, large in itertools.pairwise(subsets))
    assert subsets[-1].all()
    order = np.random.default_rng(0).permutation(len(rows))
    assert np.array_equal(deal(labels[order], keys[order], unit[order], folds), dealt[order])


def test_folds_are_even_in_every_class(features):
    """Without groups, the rows of a class differ by one at most between folds."""
    dealt = deal(features.labels, features.keys, units(features.keys, features.groups), 5)
    for label in features.classes:
        counts = np.bincount(dealt[features.labels == label], minlength=5)
        assert counts.max() - counts.min() <= 1


def test_the_learning_curve_grows_with_its_images(found):
    """Each size is a share of the training images, and the last point is the candidate's score."""
    images = [point.images for point in found.learning_curve]
    assert images == sorted(set(images))
    assert len(images) == len(SHARES)
    assert found.learning_curve[-1].accuracy == pytest.approx(found.best.accuracy)
    assert found.learning_curve[0].accuracy < found.learning_curve[-1].accuracy


def test_the_gain_of_twice_the_images_is_the_slope():
    """Exactly one hundredth a doubling is found as that."""
    points = [Point(1, 2**k, 0.5 + 0.01 * k, (0, 1)) for k in range(3, 8)]
    assert gain_of_doubling(points) == pytest.approx(0.01)


def test_intervals_are_wilsons_and_nadeau_and_bengios():
    """The textbook's numbers, never empty, never outside 0 to 1, never shorter than Wilson's."""
    assert wilson(0.5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-4)
    assert wilson(1.0, 20)[1] == 1.0
    right = [np.arange(100) < wrong for wrong in (90, 85, 80, 95, 90)]
    low, high = interval_of(right)
    # t(4) = 2.7764 times the standard deviation of the folds times sqrt(1/5 + 1/4)
    reach = 2.7764 * np.std([0.9, 0.85, 0.8, 0.95, 0.9], ddof=1) * np.sqrt(0.45)
    assert (low, high) == pytest.approx((0.88 - reach, 0.88 + reach), abs=1e-4)
    assert interval_of([np.ones(10, bool)] * 5) == wilson(1.0, 50)


@pytest.mark.parametrize("backend", ["threading", "loky"])
def test_joblibs_backend_and_jobs_are_respected_and_change_nothing(features, found, backend, cache):
    """Two at a time, in threads or in processes: the same accuracies."""
    with joblib.parallel_config(backend=backend, n_jobs=2):
        again = featcache.sweep(
            features, heads=["logreg"], Cs=CS, folds=3, nested=False, out=cache / "x.head"
        )
    assert [each.accuracy for each in again.candidates] == [
        each.accuracy for each in found.candidates
    ]


def test_files_are_compared_on_the_images_they_share(features, found, tmp_path):
    """Two files of the same images, in any order: a candidate each, the same folds and scores."""
    other = shutil.copytree(features.path.parent, tmp_path / "data" / "copy")
    copy = featcache.load(other / "features.h5")
    options = {"heads": ["logreg"], "Cs": [0.1], "folds": 3, "nested": False}
    both = featcache.sweep([features, copy[::-1]], **options, out=tmp_path / "x.head")
    assert [each.path for each in both.candidates] == [features.path, copy.path]
    assert {each.accuracy for each in both.candidates} == {found.candidates[-1].accuracy}
    part = featcache.sweep([copy[10:], features], **options)
    assert any("10 rows" in remark for remark in part.remarks)
    assert part.head.path == other / "sweep.head"


def test_labels_of_ones_own_are_used(features, tmp_path):
    """Labels that were replaced in Python are learned, not those of the file."""
    even = np.where(features.labels.astype(int) % 2 == 0, "even", "odd")
    options = {"heads": ["logreg"], "Cs": [0.1], "folds": 2, "nested": False}
    found = featcache.sweep(replace(features, labels=even), **options, out=tmp_path / "x.head")
    assert found.head.classes == ["even", "odd"]
    assert found.best.accuracy > 0.6


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"heads": ["logrge"]}, "logrge"),
        ({"Cs": [0.0]}, "--C 0"),
        ({"folds": 1}, "--folds 1"),
        ({"folds": 200}, "--folds 200"),
    ],
)
def test_wrong_options_get_a_sentence(features, options, words):
    """The message names the option and what was expected."""
    with pytest.raises(FeatcacheError, match=words):
        featcache.sweep(features, **options)


def test_features_that_do_not_match_are_refused(features):
    """Other images, or the same ones with other labels: the first difference is named."""
    with pytest.raises(FeatcacheError, match="share no image"):
        featcache.sweep([features[:50], features[50:]])
    other = replace(features, labels=np.where(features.labels == "3", "three", features.labels))
    with pytest.raises(FeatcacheError, match="'three'"):
        featcache.sweep([features, other])


def test_the_command_answers_in_json_and_draws(digit_features, tmp_path):
    """`featcache sweep --json --plots` gives one object; the pictures are there."""
    arguments = [
        "sweep", "digits", "--heads", "logreg", "--C", "0.01,0.1", "--folds", "2", "--no-nested",
        "--plots", tmp_path / "p", "--out", tmp_path / "x.head", "--cache", digit_features,
    ]  # fmt: skip
    done = CliRunner().invoke(app, [*map(str, arguments), "--json"])
    answer = json.loads(done.stdout)
    assert len(answer["candidates"]) == 2
    assert answer["best"] in answer["candidates"]
    drawn = {path.name for path in (tmp_path / "p").iterdir()}
    assert {"confusion.png", "sweep.png"} <= drawn
    plain = CliRunner().invoke(app, [*map(str, arguments), "--learning-curve"])
    assert "no part in choosing" in plain.stdout
    assert "training images" in plain.stdout
    wrong = CliRunner().invoke(app, ["sweep", "digits", "--C", "a", "--cache", str(digit_features)])
    assert wrong.exit_code == 2
