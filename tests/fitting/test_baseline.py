"""The baseline: the tutorials' small network, split and judged as a head is."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import featcache
from featcache.cli import app
from featcache.errors import FeatcacheError
from featcache.features.rows import Labelled
from featcache.features.splits.partition import units
from featcache.features.splits.roles import assign_roles
from featcache.features.splits.ties import Ties
from featcache.fitting.baseline import BaselinePlan, Found, small_network, train_baseline
from featcache.images import find_images
from featcache.training.options import LearningOptions

# Keras's own, when it saves a model.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

OPTIONS = LearningOptions("adam", 2e-3, epochs=3, batch_size=32)


def test_the_network_is_that_of_the_tutorials():
    """At 150 pixels with one output it has the 9,494,561 parameters that they print."""
    assert small_network((150, 150), 1, 0).count_params() == 9_494_561


def test_its_roles_are_those_of_a_head(digits, digit_features):
    """The same images train, stop and judge as with cached features, but for near duplicates."""
    features = featcache.load("digits", cache=digit_features)
    rows = Found.look(find_images(digits), BaselinePlan((22, 22))).rows
    # Near duplicates are known by their vectors: what belongs together without them is the same.
    ties = Ties(units(features.keys, features.groups))
    theirs = assign_roles(features, 0, stopped=True, ties=ties)
    ours = assign_roles(rows, 0, stopped=True)
    assert isinstance(rows, Labelled)
    assert rows.names.tolist() == features.names.tolist()
    assert rows.keys.tolist() == features.keys.tolist()
    for role in ("train", "stop", "judge"):
        np.testing.assert_array_equal(getattr(ours, role), getattr(theirs, role))
    assert ours.protocol == theirs.protocol


def test_a_carved_test_split_is_that_of_extract(digits, tmp_path):
    """With --test-from the same images become the test split as in `extract`, and judge."""
    for number, path in enumerate(sorted(digits.glob("[38]/*.png"))):
        split = "validation" if number % 2 else "train"
        target = tmp_path / "images" / split / path.parent.name / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    features = featcache.extract(
        tmp_path / "images", backbone="efficientnet_lite0", size=32, cache=tmp_path / "cache",
        test_from="validation:0.4",
    )  # fmt: skip
    rows = Found.look(
        find_images(tmp_path / "images"), BaselinePlan((22, 22), test_from="validation:0.4")
    ).rows
    assert set(rows.splits.tolist()) == {"train", "validation", "test"}
    assert rows.splits.tolist() == features.splits.tolist()


def test_balanced_classes_count_the_same(digits):
    """With --class-weight balanced each class weighs the same, in training."""
    found = Found.look(find_images(digits), BaselinePlan((22, 22)))
    mask = np.arange(len(found.rows)) < 50
    classes = found.rows.classes
    balanced = BaselinePlan((22, 22), class_weight="balanced")
    feed = found.feed(mask, classes, balanced, trains=True)
    assert len(set(np.bincount(feed.codes))) > 1
    totals = np.bincount(feed.codes, feed.weights)
    assert np.allclose(totals[totals > 0], totals.max())
    assert found.feed(mask, classes, balanced).weights is None
    assert found.feed(mask, classes, BaselinePlan((22, 22)), trains=True).weights is None


def _run(arguments):
    # A fixture has no marks of its own, so the same warning is let through here.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "__array__ implementation", DeprecationWarning)
        return CliRunner().invoke(app, arguments)


@pytest.fixture(scope="module")
def trained(digits, tmp_path_factory):
    """The command's JSON, its words, and the file of the network."""
    folder = tmp_path_factory.mktemp("baseline")
    out = folder / "net.keras"
    done = _run(
        ["baseline", str(digits), "--size", "24", "--epochs", "4", "--optimizer", "adam",
         "--learning-rate", "0.002", "--out", str(out), "--plots", str(folder / "plots"), "--json"],
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout), done.stderr, out


def test_the_command_says_what_it_did(trained):
    """Counts, parameters, the start and every epoch; in JSON the report, history and settings."""
    record, told, out = trained
    assert record["accuracy"] > 0.6
    assert len(record["interval"]) == 2
    assert record["rows"] == 60
    assert "held out by image hash (60 rows), trained on" in record["protocol"]
    assert sum(record["counts"][""].values()) == 300
    assert record["epochs"] == len(record["history"]["loss"]) == len(record["epoch_seconds"]) == 4
    assert record["history"]["initial_val_loss"][0] == pytest.approx(np.log(10), abs=0.3)
    assert record["settings"]["learning_rate"] == 0.002
    assert record["size"] == [24, 24]
    assert record["model"] == str(out)
    for words in ("digits: 300 images", "parameters: ", "before the first epoch: ", "epoch 4/4: "):
        assert words in told
    assert [Path(path).name for path in record["plots"]] == [
        "confusion.png", "reliability.png", "history.png",
    ]  # fmt: skip


def test_the_file_holds_the_network_that_was_judged(trained, digits):
    """The .keras file takes uint8 pixels and gives probabilities with the accuracy reported."""
    import keras

    record, _, out = trained
    model = keras.models.load_model(out)
    found = Found.look(find_images(digits), BaselinePlan((24, 24)))
    judged = assign_roles(found.rows, 0, stopped=True).judge
    pixels = np.stack([found.pictures[int(index)].pixels for index in found.indices[judged]])
    probabilities = model.predict(pixels, verbose=0)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    names = np.array(record["classes"])[probabilities.argmax(axis=1)]
    assert (names == found.rows.labels[judged]).mean() == pytest.approx(record["accuracy"])
    assert [path.name for path in sorted(out.parent.iterdir())] == ["net.keras", "plots"]


def test_an_interrupted_run_goes_on(digits, tmp_path):
    """Stopped in its third epoch, the same call trains one more epoch and comes to the same end;
    with another rate it is refused, by name.
    """
    images, told = find_images(digits), []

    def plan(name: str, options: LearningOptions = OPTIONS) -> BaselinePlan:
        return BaselinePlan((24, 24), "flip,rotate=10", options, tmp_path / name)

    def impatient(line: str) -> None:
        if line.startswith("epoch 3/"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt, match="nothing is saved"):
        train_baseline(images, BaselinePlan((24, 24), options=OPTIONS), say=impatient)
    with pytest.raises(KeyboardInterrupt, match="run the same command"):
        train_baseline(images, plan("a.keras"), say=impatient)
    with pytest.raises(FeatcacheError, match=r"learning_rate: 0\.002 there, 0\.1 now"):
        train_baseline(images, plan("a.keras", LearningOptions("adam", 0.1, 3)))
    resumed = train_baseline(images, plan("a.keras"), say=told.append)
    whole = train_baseline(images, plan("b.keras"))
    assert any(line.startswith("going on after epoch 2, from") for line in told)
    for name, values in whole.learned.history.items():
        np.testing.assert_allclose(resumed.learned.history[name], values, atol=1e-5)
    assert resumed.report.accuracy == whole.report.accuracy
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.keras", "b.keras"]


def test_images_that_cannot_be_used_cost_only_themselves(digits, tmp_path):
    """A damaged file is named and left out; where all are damaged, there is an error."""
    for number in range(12):
        target = tmp_path / "two" / ("odd" if number % 2 else "even") / f"{number}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.full((30, 30), 20 * number, np.uint8)
        Image.fromarray(pixels).save(target)
    (tmp_path / "two" / "odd" / "bad.png").write_bytes(b"bad")
    told: list[str] = []
    options = LearningOptions(epochs=1)
    trained = train_baseline(
        find_images(tmp_path / "two"), BaselinePlan((22, 22), options=options), say=told.append
    )
    assert [name for name, _ in trained.failures] == ["odd/bad.png"]
    assert any(line.startswith("failed: odd/bad.png: ") for line in told)
    for path in (tmp_path / "two").rglob("*.png"):
        path.write_bytes(b"bad")
    done = CliRunner().invoke(app, ["baseline", str(tmp_path / "two")])
    assert done.exit_code == 3
    assert "not one of 13 images" in done.stderr


@pytest.mark.parametrize(
    ("images", "options", "words"),
    [
        ("FLAT", (), "no row has a label"),
        ("ONE", (), "one class only"),
        ("DIGITS", ("--size", "21"), "three poolings leave no pixel"),
        ("DIGITS", ("--size", "24x20"), "expected at least 22"),
        ("DIGITS", ("--out", "net.h5"), "ends in .keras"),
        ("DIGITS", ("--epochs", "0"), "--epochs 0"),
        ("DIGITS", ("--augment", "twist"), "--augment"),
        ("DIGITS", ("--class-weight", "heavy"), "--class-weight"),
        ("DIGITS", ("--test-from", "validation:2"), "--test-from"),
        ("DIGITS", ("--test-from", "validation:0.2"), "no image is in the split"),
        ("DIGITS", ("--max-pixels", "60"), "not one of 300 images could be used"),
        ("NOWHERE", (), "is not there"),
    ],
)
def test_wrong_input_is_a_sentence(images, options, words, digits, tmp_path):
    """Each mistake is found before the training, with exit code 2 and words that help."""
    for folder in ("flat", "one/dog"):
        (tmp_path / folder).mkdir(parents=True)
        for path in sorted((digits / "3").iterdir())[:8]:
            (tmp_path / folder / path.name).write_bytes(path.read_bytes())
    places = {"FLAT": tmp_path / "flat", "ONE": tmp_path / "one", "DIGITS": digits,
              "NOWHERE": tmp_path / "nowhere"}  # fmt: skip
    done = CliRunner().invoke(app, ["baseline", str(places[images]), *options])
    assert done.exit_code == (3 if "--max-pixels" in options else 2)
    assert words in done.stderr.replace("\n", " ")
