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
    run("extract", images, "--forget", *LITE, *cache)
    assert set(featcache.load("digits", cache=tmp_path / "cache").splits) == {""}


def splits_of(path):
    with path.open(encoding="utf-8", newline="") as file:
        return {row["path"]: row["split"] for row in csv.DictReader(file)}


def test_a_split_written_elsewhere_is_read_back(digits, digit_features, tmp_path):
    """Beside other files than the images its paths lead to these, for every command."""
    images, cache = tmp_path / "digits", ("--cache", tmp_path / "cache")
    shutil.copytree(digits, images)
    run("extract", images, *LITE, *cache)
    inside, outside = images / "s.csv", tmp_path / "other" / "place" / "s.csv"
    for place in (inside, outside):
        run("split", "digits", "--test", "0.2", "--splits", place, *cache)
    wanted = splits_of(inside)
    assert splits_of(outside) == {f"../../digits/{name}": each for name, each in wanted.items()}
    audited = run("split", "digits", "--audit", "--splits-from", outside, "--json", *cache)
    assert json.loads(audited.stdout)["images"]["test"] == list(wanted.values()).count("test")
    again = tmp_path / "again.csv"
    run("split", "digits", "--splits-from", outside, "--splits", again, *cache)
    assert splits_of(again) == {f"digits/{name}": each for name, each in wanted.items()}
    extracted = json.loads(run("extract", outside, *LITE, "--json", *cache).stdout)
    assert (extracted["rows"], extracted["extracted"], extracted["failed"]) == (300, 0, 0)
    found = featcache.load("s", cache=tmp_path / "cache")
    assert found.splits.tolist() == [wanted[name.split("digits/")[1]] for name in found.names]
    run("split", "s", "--audit", "--splits-from", outside, *cache)
    run("split", "s", "--splits-from", outside, "--splits", outside.parent / "t.csv", *cache)
    assert splits_of(outside.parent / "t.csv") == splits_of(outside)


def test_groups_of_a_split_go_into_the_next(digits, digit_features, tmp_path):
    """`--splits-from` writes the groups of its file too, and says which images have none."""
    images, cache = tmp_path / "digits", ("--cache", tmp_path / "cache")
    shutil.copytree(digits, images)
    run("extract", images, *LITE, *cache)
    first = images / "first.csv"
    run("split", "digits", "--test", "0.2", "--splits", first, *cache)
    with first.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    with first.open("w", encoding="utf-8", newline="") as file:
        lines = csv.DictWriter(file, ["path", "split", "label", "group"])
        lines.writeheader()
        lines.writerows({**row, "group": f"g{at // 7}"} for at, row in enumerate(rows[:250]))
    second = images / "second.csv"
    done = run("split", "digits", "--no-near", "--splits-from", first, "--splits", second, *cache)
    with second.open(encoding="utf-8", newline="") as file:
        written = {row["path"]: row for row in csv.DictReader(file)}
    assert all(written[row["path"]]["group"] == f"g{at // 7}" for at, row in enumerate(rows[:250]))
    assert {written[row["path"]]["group"] for row in rows[250:]} == {""}
    assert "50 images have no group, others have: nothing keeps these together" in done.output
    sides: dict[str, set[str]] = {}
    for row in written.values():
        sides.setdefault(row["group"], set()).add(row["split"])
    assert {len(side) for group, side in sides.items() if group} == {1}
