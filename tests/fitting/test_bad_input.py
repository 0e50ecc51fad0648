"""Data that no head can be made of, on the command line: each a sentence that says what to do."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from featcache.cli import app


@pytest.fixture(scope="module")
def tables(digits, digit_features, tmp_path_factory) -> Path:
    """A cache with small data sets made of digits, each under a name that says what is wrong."""
    place = tmp_path_factory.mktemp("bad")
    shutil.copytree(digit_features, place / "cache")
    images = place / "images"
    shutil.copytree(digits, images)
    names = {kind: sorted(path.name for path in (images / kind).iterdir()) for kind in "012"}

    def rows(kind: str, count: int, *cells: str) -> list[tuple[str, ...]]:
        return [(f"{kind}/{name}", *cells) for name in names[kind][:count]]

    sets = {
        "one-class": rows("0", 20, "zero", ""),
        "single": [*rows("0", 20, "zero", ""), *rows("1", 20, "one", ""), *rows("2", 1, "two", "")],
        "singles": [row for kind in "012" for row in rows(kind, 1, kind, "")],
        "no-label": rows("0", 20, "", ""),
        "few": [*rows("0", 4, "zero", ""), *rows("1", 4, "one", "")],
        "test-only": [*rows("0", 9, "zero", "test"), *rows("1", 9, "one", "test")],
        "lacking": [
            *rows("0", 20, "zero", "train"), *rows("1", 10, "one", "train"),
            *rows("2", 10, "two", "test"), *rows("0", 25, "zero", "test")[20:],
        ],
    }  # fmt: skip
    for name, lines in sets.items():
        with (images / f"{name}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([("path", "label", "split"), *lines])
        options = ["--backbone", "efficientnet_lite0", "--size", "32", "--cache"]
        arguments = ["extract", str(images / f"{name}.csv"), *options, str(place / "cache")]
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code == 0, done.output
    return place / "cache"


def run(tables: Path, *arguments: str):
    return CliRunner().invoke(app, [*arguments, "--cache", str(tables)])


@pytest.mark.parametrize("command", ["fit-head", "sweep"])
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("one-class", "one class only ('zero'), a head needs at least two: add a folder"),
        ("singles", "leave none to judge on: give more images of each class, at least two"),
        ("no-label", "no row has a label. Labels come from class folders"),
        ("test-only", "no labelled row to train on: put images under train/"),
    ],
)
def test_what_no_head_can_learn_from_is_refused(command, name, words, tables):
    """fit-head and sweep say the same sentence, with exit code 2, and save no head."""
    done = run(tables, command, name)
    assert done.exit_code == 2
    assert words in done.stderr
    assert not list((tables / name).rglob("*.head"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("fit-head", "digits", "--C", "0"), "--C 0.0: expected a number above 0, such as"),
        (("fit-head", "digits", "--head", "svm", "--C", "0"), "--C 0.0: expected a number above 0"),
        (("fit-head", "digits", "--head", "ridge", "--alpha", "0"), "--alpha 0.0: expected"),
        (("sweep", "digits", "--C", "0"), "--C 0: expected numbers above 0"),
        (("sweep", "few", "--folds", "20"), "give --folds 3, or more images"),
        (("sweep", "digits", "--folds", "1"), "--folds 1: expected at least 2"),
        (("fit-head", "few", "--calibrate"), "are left to set the temperature on, it takes"),
        (("fit-head", "few", "--head", "knn"), "--neighbors 10: there are 6 training rows only"),
    ],
)
def test_a_setting_that_cannot_be_is_refused(arguments, words, tables):
    """C = 0, more folds than rows, and their like name the option and what would do."""
    done = run(tables, *arguments)
    assert done.exit_code == 2
    assert words in done.stderr


def test_a_class_with_a_single_row_is_fitted_and_said(tables):
    """It trains, nobody judges it, and both are said."""
    done = run(tables, "fit-head", "single")
    assert done.exit_code == 0
    assert "a single training image: 'two': give them more images" in done.stderr
    assert "1 of the head's 3 classes have no image among the judged rows (two)" in done.stderr
    swept = run(tables, "sweep", "single")
    assert swept.exit_code == 0
    assert "some folds lack 'two'" in swept.stderr


def test_a_test_split_that_lacks_a_class_is_said(tables):
    """A class that only trains, and one that only tests: the accuracy counts, with both notes."""
    done = run(tables, "fit-head", "lacking", "--head", "centroid")
    assert done.exit_code == 0
    assert "among the judged rows (one)" in done.stderr
    assert "put some of their images into the test split" in done.stderr
    assert "10 images belong to classes the head has never seen (two): they count as wrong" in (
        done.stderr
    )


def test_unlabelled_rows_cannot_judge(tables, tmp_path):
    """`evaluate` says where labels come from."""
    head = str(tmp_path / "a.head")
    assert run(tables, "fit-head", "digits", "--head", "centroid", "--out", head).exit_code == 0
    done = run(tables, "evaluate", head, "no-label")
    assert done.exit_code == 2
    assert "Labels come from class folders" in done.stderr
