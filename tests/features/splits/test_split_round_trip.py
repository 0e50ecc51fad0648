"""Splits that were written to a file come back through `extract`, which computes nothing for it."""

from __future__ import annotations

import csv
import json
import shutil

import numpy as np
from typer.testing import CliRunner

import featcache
from featcache.cli import app

LITE = ("--backbone", "efficientnet_lite0", "--size", "32")


def run(*arguments):
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.output
    return done


def test_written_splits_come_back_through_extract(digits, digit_features, tmp_path):
    """`split --splits FILE`, then `extract FILE`: the same splits and labels, 0 rows extracted."""
    images, cache = tmp_path / "digits", ("--cache", tmp_path / "cache")
    shutil.copytree(digits, images)
    shutil.copytree(digit_features, tmp_path / "cache")
    run("split", "digits", "--splits", tmp_path / "a" / "new folder" / "parts.csv", *cache)
    table = images / "parts.csv"
    run("split", "digits", "--test", "0.2", "--validation", "0.1", "--splits", table, *cache)
    with table.open(encoding="utf-8", newline="") as file:
        written = {row["path"]: row for row in csv.DictReader(file)}
    extracted = json.loads(run("extract", table, *LITE, "--json", *cache).stdout)
    assert (extracted["rows"], extracted["extracted"]) == (300, 0)
    features = featcache.load("parts", cache=tmp_path / "cache")
    assert features.splits.tolist() == [written[name]["split"] for name in features.names]
    assert features.labels.tolist() == [written[name]["label"] for name in features.names]
    assert set(features.splits) == {"train", "validation", "test"}
    # And once more: splits that the file has stay as they are.
    again = images / "again.csv"
    run("split", "parts", "--splits-from", table, "--splits", again, *cache)
    assert again.read_text() == table.read_text()
    assert np.array_equal(features.indices["test"], np.flatnonzero(features.splits == "test"))


def test_a_split_comes_into_the_data_set_it_was_made_of(digits, digit_features, tmp_path):
    """With --name, no second copy of the vectors is made: the data set itself has the splits."""
    images, cache = tmp_path / "digits", ("--cache", tmp_path / "cache")
    shutil.copytree(digits, images)
    shutil.copytree(digit_features, tmp_path / "cache")
    table = images / "parts.csv"
    run("split", "digits", "--test", "0.2", "--splits", table, *cache)
    named = json.loads(run("extract", table, "--name", "digits", *LITE, "--json", *cache).stdout)
    assert (named["rows"], named["extracted"]) == (300, 0)
    features = featcache.load("digits", cache=tmp_path / "cache")
    assert set(features.splits) == {"train", "test"}
    assert [path.name for path in (tmp_path / "cache").glob("*/*/features.h5")] == ["features.h5"]
    run("extract", images, *LITE, *cache)
    assert set(featcache.load("digits", cache=tmp_path / "cache").splits) == {""}
