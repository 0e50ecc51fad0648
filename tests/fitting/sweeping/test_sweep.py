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
from featcache.errors import DamagedFile, FeatcacheError
from featcache.evaluation.evaluate import prefixes
from featcache.evaluation.metrics import accuracy_interval, paired_interval, wilson
from featcache.features.splits.partition import units
from featcache.fitting.sweeping.candidates import (
    Candidate,
    interval_of,
    judge_choosing,
    paired_interval_of,
)
from featcache.fitting.sweeping.folds import Part, SweepPlan, deal, growing_subsets, make_plan
from featcache.fitting.sweeping.grids import GRIDS, parse_grids, pieces_of
from featcache.fitting.sweeping.learning_curve import SHARES, Gain
from featcache.fitting.sweeping.tasks import (
    FailedTask,
    Score,
    Side,
    Task,
    join,
    run_task,
    run_tasks,
)

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


def test_a_candidates_score_is_that_of_its_folds(features, found, tmp_path):
    """Fitted by hand on the same folds, each candidate has the accuracy that the table says."""
    plan = make_plan(features, folds=3, nested=False, seed=0)
    for candidate in found.candidates:
        right = []
        for part in plan.parts:
            sides = np.full(len(features), "train")
            sides[part.judged] = "test"
            rows = np.concatenate([part.train, part.judged])
            by_hand = replace(features, splits=sides)[np.sort(rows)]
            head = featcache.fit_head(by_hand, **candidate.settings, out=tmp_path / "x.head")
            right.append(head.metrics["accuracy"] * len(part.judged))
        total = sum(len(part.judged) for part in plan.parts)
        # But for near-ties: a search ends sooner than a fit.
        assert candidate.accuracy == pytest.approx(sum(right) / total, abs=2.5 / total)


def test_values_of_c_solved_together_score_as_one_by_one(features):
    """Joined tasks call the same rows right as fits of their own, but for near-ties."""
    plan = make_plan(features, folds=3, nested=True, seed=0)
    settings = [{"C": 0.001}, {"C": 0.1}]
    tasks = [
        Task(features.path, features.identity, "logreg", settings, Side.of(features, part.train),
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
        Task(
            features.path,
            features.identity,
            "logreg",
            [{"C": 0.01}],
            Side.of(features, rows),
            judged,
            0,
        )
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
    plan = SweepPlan([Part(np.array([]), rows[each]) for each in range(3)], "", pairs, folds)
    yes, no = np.ones(2, bool), np.zeros(2, bool)
    later = [yes, no, no, *[np.concatenate([no, yes])] * 3]
    earlier = [no, no, yes, *[np.concatenate([yes, no])] * 3]
    scores = [[Score(right, 0.0) for right in each] for each in (later, earlier)]
    names = [
        Candidate("f", Path("f"), name, {}, 0.5, (0.0, 1.0), 0.0, 1)
        for name in ("later", "earlier")
    ]
    nested = judge_choosing(plan, names, scores)
    # Without fold 0 the first wins, without fold 2 the second; fold 1 is a tie: the first.
    assert nested.chosen == ["f later", "f later", "f earlier"]
    assert nested.accuracy == pytest.approx(4 / 6)


def test_a_candidate_that_failed_without_two_folds_is_not_chosen_there(features):
    """It may win the table; where an inner fit of it failed, the others are chosen among."""
    folds = np.arange(3)
    pairs = {pair: Part(np.array([]), np.array(pair)) for pair in [(0, 1), (0, 2), (1, 2)]}
    plan = SweepPlan([Part(np.array([]), np.array([each])) for each in folds], "", pairs, folds)
    one, two = Score(np.ones(1, bool), 0.0), Score(np.ones(2, bool), 0.0)
    poor = [Score(np.zeros(1, bool), 0.0)] * 3 + [Score(np.zeros(2, bool), 0.0)] * 3
    best = [one] * 3 + [FailedTask("too few"), two, two]
    names = [Candidate("f", Path("f"), name, {}, 0.5, (0.0, 1.0), 0.0, 1) for name in "ab"]
    assert judge_choosing(plan, names, [best, poor]).chosen == ["f b", "f b", "f a"]
    assert judge_choosing(plan, names[:1], [best]) is None


def few(features, **counts):
    """The first rows of some digits, so many of each: one=12 of the ones."""
    digits = {"one": "1", "eight": "8"}
    rows = [np.flatnonzero(features.labels == digits[name])[:n] for name, n in counts.items()]
    return features[np.concatenate(rows)]


def test_a_sweep_as_it_comes_copes_with_24_images(features, tmp_path):
    """Twenty neighbours cannot be found: a row with the reason; the others are compared."""
    small = few(features, one=12, eight=12)
    found = featcache.sweep(small, learning_curve=True, out=tmp_path / "x.head")
    (failed,) = found.not_fitted
    assert failed.label == "knn neighbors=20"
    assert failed.reason == "neighbors 20: there are 15 training rows only"
    assert failed.to_dict() in found.to_dict()["not_fitted"]
    assert len(found.candidates) + 1 == sum(len(GRIDS[head]) for head in ("logreg", "knn")) + 2
    assert found.nested
    assert found.learning_curve[-1].accuracy == found.best.accuracy


def test_a_rare_class_costs_the_nested_cross_validation_alone(features, tmp_path):
    """Two training images: two folds can hold both of them. Who asks for nested folds is told."""
    rare = few(features, one=29, eight=3)
    found = featcache.sweep(rare, heads=["logreg"], out=tmp_path / "x.head")
    assert found.nested is None
    assert any("leave out all 2 training images of '8'" in remark for remark in found.remarks)
    with pytest.raises(FeatcacheError, match="give more images of '8'"):
        featcache.sweep(rare, nested=True)
    splits = np.where(np.arange(len(rare)) < len(rare) - 2, "train", "test")
    with pytest.raises(FeatcacheError, match="all 1 training images of '8'"):
        featcache.sweep(replace(rare, splits=splits))


def test_where_nothing_can_be_fitted_the_reasons_are_told(features):
    """The sweep ends with them, and saves no head."""
    with pytest.raises(FeatcacheError, match=r"not one of the candidates .* neighbors 300"):
        featcache.sweep(features, heads=[], grids={"knn": [{"neighbors": 300}]}, folds=2)


def test_damage_ends_a_sweep(features, tmp_path):
    """A file that is not what was written is no matter of one candidate."""
    copy = shutil.copytree(features.path.parent, tmp_path / "data" / "copy") / "features.h5"
    damaged = featcache.load(copy)
    place = copy.read_bytes().index(np.ascontiguousarray(damaged.vectors[17]).tobytes())
    del damaged
    with copy.open("r+b") as file:
        file.seek(place)
        file.write(b"\x00\x01\x02\x03")
    with pytest.raises(DamagedFile):
        featcache.sweep(featcache.load(copy), heads=["centroid"], folds=2, nested=False)


def test_settings_of_ones_own_are_compared(features, tmp_path):
    """`grids` takes any option; values of C and of neighbours are tried together all the same."""
    grids = {
        "logreg": [
            {"C": C, "class_weight": weight} for weight in ("none", "balanced") for C in CS
        ],
        "knn": [{"neighbors": n, "metric": metric} for metric in ("cosine", "euclidean")
                for n in (3, 1)],
    }  # fmt: skip
    assert [len(piece) for piece in pieces_of("logreg", grids["logreg"])] == [2, 2]
    # Rare classes, so that balancing changes what is called what.
    uneven = features[(features.labels < "5") | (np.arange(len(features)) % 6 == 0)]
    found = featcache.sweep(
        uneven, heads=[], grids=grids, folds=2, nested=False, out=tmp_path / "x.head"
    )
    assert [each.settings for each in found.candidates] == [*grids["logreg"], *grids["knn"]]
    part = make_plan(uneven, folds=2, nested=False, seed=0).parts[0]
    sides = Side.of(uneven, part.train), Side.of(uneven, part.judged)
    for head, grid in grids.items():
        for piece in pieces_of(head, grid):
            task = Task(uneven.path, uneven.identity, head, piece, *sides, 0)
            for each, outcome in zip(piece, run_tasks([task], None, print)[0], strict=True):
                (alone,) = run_task(replace(task, settings=[each]))
                assert (alone.right != outcome.right).sum() <= 1
                assert alone.size == outcome.size > 0


def test_the_size_of_a_head_is_that_of_its_arrays(found):
    """As many bytes as the saved head's, which has no vectors to keep."""
    state = featcache.Head.load(found.head.path).model.state()
    assert found.best.size == sum(array.nbytes for array in state.values())


@pytest.mark.parametrize(
    ("texts", "Cs", "expected"),
    [
        (["dense:hidden=none,1024x64", "dense:batch-norm=true"], None,
         {"dense": [{"hidden": units, "batch_norm": True} for units in ((), (1024, 64))]}),
        (["logreg:class_weight=balanced"], [1.0, 0.1],
         {"logreg": [{"class_weight": "balanced", "C": C} for C in (0.1, 1.0)]}),
        (["ridge:alpha=none,10"], None, {"ridge": [{"alpha": None}, {"alpha": 10.0}]}),
        (["knn:neighbors=3"], None, {"knn": [{"neighbors": 3}]}),
        (["knn:metric=euclidean"], None,
         {"knn": [{"metric": "euclidean", "neighbors": n} for n in (20, 5, 1)]}),
    ],
)  # fmt: skip
def test_grids_are_read_by_the_types_of_the_options(texts, Cs, expected):
    """All combinations; what is not named keeps its usual values, or those of --C."""
    assert parse_grids(texts, Cs) == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("dense", "expected HEAD:OPTION=V1,V2"),
        ("dense:hidden=", "expected HEAD:OPTION=V1,V2"),
        ("forest:trees=1", "there is no such head"),
        ("dense:foo=1", "no head has an option --foo; dense has --hidden"),
        ("knn:C=1", "--C is an option of --head logreg, svm, not of knn"),
        ("dense:epochs=many", "many: expected a whole number"),
        ("dense:hidden=64x", "expected the units of each layer"),
        ("dense:batch_norm=maybe", "expected true or false"),
        ("dense:activation=foo", "'foo' is not one of"),
    ],
)
def test_a_wrong_grid_gets_a_sentence(text, words):
    """It names the grid as it was written, and what was expected."""
    with pytest.raises(FeatcacheError, match=f"--grid .*{text}.*{words}"):
        parse_grids([text], None)


def test_a_swept_head_says_how_it_was_chosen(features, found, tmp_path):
    """Its protocol counts the candidates; on the split that chose it, `evaluate` remarks so."""
    assert "the best of 2 candidates, chosen by 3-fold cross" in found.head.protocol
    assert featcache.Head.load(found.head.path).protocol == found.head.protocol
    splits = np.array(["train", "train", "validation", "test"])[np.arange(len(features)) % 4]
    split = replace(features, splits=splits)
    best = featcache.sweep(split, heads=["knn"], out=tmp_path / "x.head").head
    assert "the best of 3 candidates, chosen by accuracy on the validation" in best.protocol
    remarks = featcache.evaluate(best, split, split="validation").remarks
    assert any("out of 3 candidates" in remark for remark in remarks)
    assert not featcache.evaluate(best, split).remarks


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
def test_no_unit_is_split_and_order_does_not_matter(rows, folds):
    """Copies, views and groups share a fold and a subset, however the rows are ordered."""
    keys = np.array([f"{key:064x}" for key, _, _ in rows])
    # Rows of the same bytes have the same label here, as views of an image do.
    labels = np.array([f"class {key % 4}" for key, _, _ in rows])
    groups = np.array([f"group {group}" if group < 4 else "" for _, _, group in rows])
    unit = units(keys, groups)
    dealt = deal(labels, keys, unit, folds)
    subsets = growing_subsets(labels, keys, groups, SHARES)
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


def test_the_gain_of_twice_the_images_has_a_paired_interval(found):
    """It is the last two points' difference, on the same rows, and says no more than it can."""
    half, full = found.learning_curve[-2:]
    assert full.images / half.images == pytest.approx(2, rel=0.1)
    assert found.gain.difference == pytest.approx(full.accuracy - half.accuracy)
    assert found.gain.interval[0] <= found.gain.difference <= found.gain.interval[1]
    intervals = {(0.01, 0.05): "likely", (-0.01, 0.05): "cannot be told", (-0.05, -0.01): "not"}
    for interval, words in intervals.items():
        assert words in Gain(50, 100, 0.02, interval).words


def test_sizes_that_the_winner_cannot_be_fitted_on_are_left_out(features, tmp_path):
    """The curve has the others, and the sweep is not lost."""
    two = features[np.isin(features.labels, ["1", "8"])]
    grids = {"knn": [{"neighbors": 12}]}
    found = featcache.sweep(
        two, heads=[], grids=grids, folds=2, learning_curve=True, out=tmp_path / "x.head"
    )
    assert min(point.images for point in found.learning_curve) >= 12
    assert any("not with 4 images: neighbors 12" in remark for remark in found.remarks)
    assert found.head.path.is_file()


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


def test_rows_that_belong_together_widen_an_interval():
    """One fold: as `evaluate` has it; several: never shorter than that on all rows."""
    right, unit = np.repeat([True, True, False, True, True], 4), np.repeat(np.arange(5), 4)
    assert interval_of([right], [unit]) == accuracy_interval(right, unit) != interval_of([right])
    halves, units_of = [right[:10], right[10:]], [unit[:10], unit[10:]]
    low, high = accuracy_interval(right, unit)
    assert interval_of(halves, units_of)[0] <= low
    assert interval_of(halves, units_of)[1] >= high


def test_a_difference_is_paired_fold_by_fold():
    """One fold: the paired interval; several: by the differences, whatever the folds' levels."""
    easy, hard = np.ones(40, bool), np.arange(40) < 20
    assert paired_interval_of([easy], [hard]) == paired_interval(easy, hard, np.arange(40))
    # Each fold gains a fourth: that the folds themselves differ does not widen the interval.
    better = [np.arange(100) < count for count in (95, 75, 55)]
    worse = [np.arange(100) < count for count in (70, 50, 30)]
    rows = np.concatenate(better), np.concatenate(worse)
    assert paired_interval_of(better, worse) == paired_interval(*rows, np.arange(300))


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
        ({"heads": []}, "no head was named"),
        ({"Cs": []}, "no number was given"),
        ({"heads": ["knn"], "Cs": [0.1]}, "none of knn has this option"),
        ({"jobs": 0}, "--jobs 0"),
        ({"seed": -1}, "--seed -1"),
        ({"grids": {"dense": [{"C": 0.1}]}}, "the grid of dense: --C is an option of"),
        ({"grids": {"dense": [{"epochs": 0}]}}, "the grid of dense: --epochs 0"),
        ({"grids": {"knn": []}}, "the grid of knn is empty"),
        ({"grids": {"forest": [{}]}}, "forest"),
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
    assert "more images? " in plain.stdout
    for option, value in (("--C", "a"), ("--C", ""), ("--heads", ","), ("--jobs", "0")):
        wrong = ["sweep", "digits", option, value, "--cache", str(digit_features)]
        done = CliRunner().invoke(app, wrong)
        assert done.exit_code == 2
        assert option in done.stderr


@pytest.fixture(scope="module")
def grouped(digits, tmp_path_factory):
    """A cache with 40 digits of two classes in groups of two."""
    place = tmp_path_factory.mktemp("grouped")
    names = [f"{kind}/{path.name}" for kind in "18" for path in sorted((digits / kind).iterdir())]
    lines = [f"{digits / name},{name[0]},g{number // 2}" for number, name in enumerate(names)]
    (place / "g.csv").write_text("\n".join(["path,label,group", *lines]))
    featcache.extract(
        place / "g.csv", backbone="efficientnet_lite0", size=32, cache=place / "cache"
    )
    return place / "cache"


def test_the_command_gives_evaluates_interval_and_rows_that_failed(grouped, tmp_path):
    """Images of a group err together: both commands allow for it, in the same digits."""
    out, cache = str(tmp_path / "x.head"), ["--cache", str(grouped)]
    arguments = ["sweep", "g", "--grid", "knn:neighbors=1,500", "--heads", "knn", "--out", out]
    done = CliRunner().invoke(app, [*arguments, *cache])
    report = json.loads(CliRunner().invoke(app, ["evaluate", out, "g", "--json", *cache]).stdout)
    low, high = report["interval"]
    assert wilson(report["accuracy"], report["rows"]) != (low, high)
    assert f"accuracy   {report['accuracy']:.4f} ({low:.4f} to {high:.4f})" in done.stdout
    assert "not fitted: neighbors 500" in done.stdout
    head, size = next(line for line in done.stdout.splitlines() if "neighbors=1 " in line), "kB"
    assert head.endswith(size)


def test_the_pictures_of_a_dense_winner(grouped, tmp_path):
    """Its history and nine judged images are drawn beside the table."""
    arguments = [
        "sweep", "g", "--heads", "dense", "--grid", "dense:epochs=2", "--folds", "2", "--no-nested",
        "--plots", tmp_path / "p", "--out", tmp_path / "x.head", "--cache", grouped,
    ]  # fmt: skip
    done = CliRunner().invoke(app, [*map(str, arguments), "--json"])
    assert done.exit_code == 0, done.stderr
    drawn = {Path(path).name for path in json.loads(done.stdout)["plots"]}
    assert drawn == {
        "confusion.png", "reliability.png", "history.png", "predictions.png", "sweep.png"
    }  # fmt: skip
    assert {path.name for path in (tmp_path / "p").iterdir()} == drawn
