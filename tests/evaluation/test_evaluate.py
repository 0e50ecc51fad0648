"""evaluate: a report that says how sure it is, heads compared on the same images, exit codes."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score
from typer.testing import CliRunner

import featcache
from featcache.cli import app
from featcache.errors import FeatcacheError
from featcache.evaluation.comparison import compare
from featcache.evaluation.evaluate import unseen


def run(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def features(digit_features):
    return featcache.load("digits", cache=digit_features)


@pytest.fixture(scope="module")
def head(features, tmp_path_factory):
    return featcache.fit_head(features, C=0.01, out=tmp_path_factory.mktemp("heads") / "a.head")


@pytest.fixture(scope="module")
def weaker(features, tmp_path_factory):
    """A head trained on a third of the first one's training rows."""
    rows, _, _ = unseen(featcache.fit_head(features, C=0.01, seed=5,
                                           out=tmp_path_factory.mktemp("heads") / "x.head"),
                        features, split=None)  # fmt: skip
    return featcache.fit_head(rows, C=1e-6, out=tmp_path_factory.mktemp("heads") / "b.head")


def test_a_report_says_how_sure_it_is(head, features):
    """The interval holds the accuracy, and the figures are those of the head's own answers."""
    report = featcache.evaluate(head, features, top=3, reject_below=0.8)
    rows, _, _ = unseen(head, features)
    probabilities = head.predict_proba(rows)
    predicted = np.array(head.classes)[probabilities.argmax(axis=1)]
    low, high = report.interval
    assert low < report.accuracy < high
    assert high - low > 0.05
    assert report.balanced_accuracy == pytest.approx(
        balanced_accuracy_score(rows.labels, predicted)
    )
    best = np.array(head.classes)[np.argsort(-probabilities, axis=1)[:, :3]]
    assert report.top_accuracy == np.mean((best == rows.labels[:, np.newaxis]).any(axis=1))
    kept = probabilities.max(axis=1) >= 0.8
    assert report.rejection.kept == kept.sum()
    assert report.rejection.accuracy == np.mean((predicted == rows.labels)[kept])
    assert sum(one.images for one in report.reliability) == report.rows
    assert json.loads(json.dumps(report.to_dict())) == report.to_dict()


def test_everything_rejected_is_said_not_divided_by(head, features):
    """Where no answer is sure enough, there is no accuracy, and no error."""
    report = featcache.evaluate(head, features, reject_below=1.0)
    assert (report.rejection.kept, report.rejection.accuracy) == (0, None)


def test_classes_on_one_side_only_are_named(head, features):
    """Classes without judged images are said; classes the head does not know count as wrong."""
    rows, _, _ = unseen(head, features)
    some = rows[np.isin(rows.labels, ["1", "2"])]
    report = featcache.evaluate(head, some)
    assert any("8 of the head's 10 classes have no image" in r for r in report.remarks)
    assert report.macro_recall == pytest.approx(
        np.mean([s.recall for s in report.per_class if s.support])
    )
    other = replace(rows, labels=np.where(rows.labels == "1", "one", rows.labels))
    report = featcache.evaluate(head, other)
    assert any("never seen (one)" in remark for remark in report.remarks)
    assert report.classes == sorted(report.classes)
    ones = report.classes.index("one")
    assert sum(report.confusion[ones]) == (rows.labels == "1").sum()
    assert report.confusion[ones][ones] == 0


def test_images_of_a_group_widen_the_interval(head, features):
    """Rows in groups are not independent: the interval is wider, and says so."""
    rows, _, _ = unseen(head, features)
    grouped = replace(rows, groups=rows.labels)
    alone, together = featcache.evaluate(head, rows), featcache.evaluate(head, grouped)
    assert np.diff(together.interval) > np.diff(alone.interval)
    assert "group" in together.interval_method
    assert "group" not in alone.interval_method


def test_two_heads_are_compared_on_images_neither_has_seen(head, weaker, features):
    """The difference is that of the accuracies on the shared images, with an interval around it."""
    found = compare(head, features, weaker)
    mine, theirs = unseen(head, features)[0], unseen(weaker, features)[0]
    assert found.rows == len(set(mine.keys) & set(theirs.keys))
    assert found.difference == pytest.approx(found.accuracy - found.other_accuracy)
    assert found.interval[0] < found.difference < found.interval[1]
    assert found.only_first - found.only_other == round(found.difference * found.rows)
    back = compare(weaker, features, head)
    assert back.difference == pytest.approx(-found.difference)
    assert back.interval == pytest.approx((-found.interval[1], -found.interval[0]))
    assert back.p_value == pytest.approx(found.p_value)


def test_heads_of_other_vectors_are_compared_by_image(head, features, digits, tmp_path):
    """Two recipes of the same images: rows are matched by name and bytes, not by position."""
    others = featcache.extract(
        digits, backbone="efficientnet_lite0", size=32, pooling="max", cache=tmp_path
    )
    other = featcache.fit_head(others, C=0.01, out=tmp_path / "o.head")
    shuffled = others[np.random.default_rng(0).permutation(len(others))]
    found = compare(head, features, other, other_features=shuffled)
    assert found.rows == head.metrics["rows"]
    assert found.other_accuracy == pytest.approx(other.metrics["accuracy"])
    with pytest.raises(FeatcacheError, match="pooling"):
        compare(head, features, other)
    renamed = replace(others, labels=np.where(others.labels == "1", "7", others.labels))
    with pytest.raises(FeatcacheError, match="different labels"):
        compare(head, features, other, other_features=renamed)


def test_an_assertion_has_an_exit_code_of_its_own(head, features):
    """Met: 0. Missed: 6, the interval in the message, and the report still printed."""
    place = features.path
    assert run("evaluate", head.path, place, "--assert-accuracy", 0.3).exit_code == 0
    missed = run("evaluate", head.path, place, "--assert-accuracy", 0.999)
    assert missed.exit_code == 6
    assert "95 % interval" in missed.stderr
    assert "below --assert-accuracy 0.999" in missed.stderr
    assert "accuracy" in missed.stdout
    as_json = run("evaluate", head.path, place, "--assert-accuracy", 0.999, "--json")
    assert as_json.exit_code == 6
    assert json.loads(as_json.stdout)["assertion"] == {"accuracy": 0.999, "passed": False}


def test_the_command_prints_what_was_asked(head, weaker, features):
    """--reject-below, --top and --against each have their line, and their JSON."""
    asked = ("evaluate", head.path, features.path, "--top", 2, "--reject-below", 0.5,
             "--against", weaker.path)  # fmt: skip
    done = run(*asked)
    assert done.exit_code == 0, done.output
    for words in ("95 % interval", "top-2", "ROC AUC", "rejecting", "against", "McNemar"):
        assert words in done.stdout
    record = json.loads(run(*asked, "--json").stdout)
    assert record["against"]["rows"] > 0
    assert record["rejection"]["below"] == 0.5


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--top", 10), "1 to 9"),
        (("--top", 0), "1 to 9"),
        (("--reject-below", 90), "--reject-below 90"),
        (("--assert-accuracy", 90), "--assert-accuracy 90"),
        (("--against-features", "digits"), "give --against"),
        (("--split", "test"), "have the splits: none"),
        (("--against", "NOWHERE"), "no such head"),
    ],
)
def test_wrong_options_are_sentences(options, words, head, features):
    """Each mistake names the option and what was expected."""
    done = run("evaluate", head.path, features.path, *options)
    assert done.exit_code == 2
    assert words in done.stderr
