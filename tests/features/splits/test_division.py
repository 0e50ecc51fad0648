"""split: nothing that belongs together is parted, nothing moves when images are added."""

from __future__ import annotations

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
from sklearn.datasets import load_digits
from typer.testing import CliRunner

import featcache
from featcache.cli import app
from featcache.errors import FeatcacheError
from featcache.evaluation.audit import audit
from featcache.features.splits.division import divide, read_splits, write_splits
from featcache.features.splits.partition import Shares


def run(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    """240 digits: the last 40 are the first 40 a shade brighter, and 5 of those again as copies."""
    digits = load_digits()
    images = np.repeat(np.repeat(digits.images[:200] * 14, 4, axis=1), 4, axis=2)
    brighter = images[:40] * 1.03
    images = np.concatenate([images, brighter, brighter[:5]]).astype(np.uint8)
    target = [*digits.target[:200], *digits.target[:40], *digits.target[:5]]
    return featcache.extract(
        images,
        backbone="efficientnet_lite0",
        size=32,
        labels=[str(label) for label in target],
        cache=tmp_path_factory.mktemp("cache"),
    )


def test_near_duplicates_and_copies_stay_together(features):
    """Whatever the seed, an image, its brighter twin and the copy of that are on one side."""
    for seed in range(5):
        division = divide(features, Shares(0.3, 0.2), seed=seed, near=0.99)
        assert len(division.pairs) >= 36
        for one, two in division.pairs.rows:
            assert division.splits[one] == division.splits[two]
        assert np.array_equal(division.splits[200:205], division.splits[240:245])
        found = audit(features, division.splits, near=0.99)
        assert found.leaking == 0
    assert any("near duplicates" in remark for remark in division.remarks)


def test_an_audit_counts_what_a_careless_split_leaks(features):
    """Brighter twins and copies in the test split are counted and named, and groups as well."""
    careless = np.where(np.arange(245) >= 200, "test", "train")
    careless[240:] = "train"
    found = audit(features, careless, near=0.99)
    assert found.images == {"train": 205, "validation": 0, "test": 40}
    assert found.same_bytes == 5
    assert 36 <= found.near_duplicates <= 40
    assert found.leaking >= found.near_duplicates
    assert {leak.kind for leak in found.leaks} == {"same bytes", "near duplicate"}
    nearest = [leak for leak in found.leaks if leak.kind == "near duplicate"]
    assert nearest[0].similarity >= nearest[-1].similarity >= 0.99
    assert (nearest[0].split, nearest[0].other_split) == ("test", "train")
    grouped = replace(features, groups=np.where(np.arange(245) % 100 == 99, "patient", ""))
    torn = np.where(np.arange(245) < 150, "train", "test")
    assert audit(grouped, torn, near=None).shared_groups == 1


def test_accuracy_is_told_without_the_leaking_images(features, tmp_path):
    """The probe knows the twins by heart; without them it is no better than a head is."""
    careless = np.where(np.arange(245) >= 160, "test", "train")
    found = audit(features, careless, near=0.99).cleaned
    assert found.rows == 85
    assert found.clean_rows < 50
    assert found.accuracy > found.clean_accuracy
    head = featcache.fit_head(replace(features, splits=careless), C=0.01, out=tmp_path / "x.head")
    by_head = audit(features, careless, near=0.99, head=head)
    assert by_head.cleaned.clean_rows == found.clean_rows
    assert by_head.cleaned.judge.endswith("x.head")
    elsewhere = np.where(np.arange(245) >= 100, "test", "train")
    said = audit(features, elsewhere, near=None, head=head)
    assert "another split" in said.remarks[0]


def test_added_images_join_a_split_without_moving_any(features):
    """With the former split, every old image stays; new ones go to their twins, or are dealt."""
    old = features[np.arange(200)]
    former = np.full(245, "", dtype="<U10")
    former[:200] = divide(old, Shares(0.2, 0.1), near=0.99).splits
    division = divide(features, Shares(0.2, 0.1), near=0.99, former=former)
    assert np.array_equal(division.splits[:200], former[:200])
    assert set(division.splits) == {"train", "validation", "test"}
    assert division.conflicts == []
    for one, two in division.pairs.rows:
        assert division.splits[one] == division.splits[two]


def test_a_split_goes_on_with_the_shares_it_had(features, tmp_path):
    """Without --test and --validation, new images are dealt as the old ones were; it says so."""
    early, late = tmp_path / "early.csv", tmp_path / "late.csv"
    old = features[np.arange(120)]
    write_splits(early, old, divide(old, Shares(0.3, 0.2), near=None).splits)
    done = run("split", features.path, "--splits-from", early, "--splits", late, "--no-near",
               "--json")  # fmt: skip
    images = json.loads(done.stdout)["images"]
    assert abs(images["test"] - 0.3 * 245) <= 9
    assert abs(images["validation"] - 0.2 * 245) <= 9
    assert "test 0.3, validation 0.2" in done.stderr
    other = run("split", features.path, "--splits-from", early, "--validation", 0.1, "--no-near")
    assert "validation 0.1 of each class" in other.stderr


def test_augmented_views_do_not_weigh_in_the_shares(features):
    """An image counts once, so that one with many views takes no more than its place."""
    many = features[np.repeat(np.arange(200), np.where(np.arange(200) < 100, 9, 1))]
    former = np.where(np.isin(many.names, features.names[:100]), "train", "").astype("<U10")
    splits = divide(many, Shares(0.5), near=None, former=former).splits
    assert np.unique(many.names[splits == "test"]).size in range(85, 101)
    fresh = divide(many, Shares(0.3), near=None).splits
    plain = divide(features[np.arange(200)], Shares(0.3), near=None).splits
    assert set(many.names[fresh == "test"]) == set(features.names[:200][plain == "test"])


def test_an_image_that_joins_two_sides_is_said(features):
    """A new image of a group that stands on two sides: all of it trains, and a sentence says so."""
    groups = np.full(245, "", dtype="<U8")
    groups[[3, 50, 120]] = "patient"
    former = np.where(np.arange(245) < 100, "train", "test").astype("<U10")
    former[[50]] = "test"
    former[120] = ""
    grouped = replace(features, groups=groups)
    division = divide(grouped, Shares(0.2), near=None, former=former)
    assert set(division.splits[[3, 50, 120]]) == {"train"}
    (sentence,) = [line for line in division.conflicts if features.names[120] in line]
    assert "stood on 2 sides" in sentence
    assert "joined by" in sentence


def test_a_written_split_is_read_back(features, tmp_path):
    """path,split goes out and comes in; unknown and missing images are counted."""
    path = tmp_path / "s.csv"
    names = features.names.astype("<U40")
    names[:2] = "=1+1.png", 'a "b",\r\n.png'
    odd = replace(features, names=names)
    splits = divide(odd, Shares(0.3), near=None).splits
    write_splits(path, odd, splits)
    with path.open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 245
    assert lines[0].keys() == {"path", "split", "label"}
    assert lines[0]["path"] == "./=1+1.png"
    assert read_splits(path, odd)[0].tolist() == splits.tolist()
    part, remarks = read_splits(path, odd[np.arange(10)])
    assert part.tolist() == splits[:10].tolist()
    assert "235 of its 245 images have no features" in remarks[0]
    path.write_text("path,split\n./=1+1.png,val\n")
    part, remarks = read_splits(path, odd)
    assert (part[0], part[1]) == ("validation", "")
    assert "244 images have no split" in remarks[0]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "must name the columns"),
        ("path,label\na,b\n", "must name the columns"),
        ("path,split\na,train,x\n", "line 2"),
        ("path,split\na,holdout\n", "not one of train, validation, test"),
        ("path,split\na,train\n./a,test\n", "listed twice: line 3"),
        ("path,split\nnone.png,test\n", "not one of its 1 paths"),
    ],
)
def test_a_table_that_is_none_is_refused(text, words, features, tmp_path):
    """Each mistake names the file and the line."""
    path = tmp_path / "s.csv"
    path.write_text(text)
    with pytest.raises(FeatcacheError, match=words):
        read_splits(path, features)


def test_shares_without_images_are_refused(features):
    """A split that would be empty is an error; classes that a split lacks are said."""
    few = features[[0, 1, 10]]
    with pytest.raises(FeatcacheError, match="leaves none"):
        divide(few, Shares(0.01), near=None)
    some = features[np.arange(25)]
    division = divide(some, Shares(0.2), near=None)
    assert any("lacks" in remark for remark in division.remarks)
    with pytest.raises(FeatcacheError, match="no split to audit"):
        audit(features, np.full(245, "train"))


def test_the_command_writes_and_audits(features, tmp_path):
    """split --splits, then --audit --splits-from, as text and as JSON."""
    out = tmp_path / "s.csv"
    made = run("split", features.path, "--validation", 0.1, "--near", 0.99, "--splits", out)
    assert made.exit_code == 0, made.output
    assert "near duplicates" in made.stderr
    again = run("split", features.path, "--near", 0.99, "--splits-from", out, "--json")
    assert json.loads(again.stdout)["conflicts"] == []
    checked = ("split", features.path, "--audit", "--splits-from", out, "--near", 0.99)
    assert "leaking    0" in run(*checked).stdout
    assert json.loads(run(*checked, "--json").stdout)["leaking"] == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--audit",), "no split to audit"),
        (("--audit", "--test", 0.2), "--test makes one"),
        (("--head", "x.head"), "--head is for --audit"),
        (("--near", 0.9, "--no-near"), "give one of the two"),
        (("--by-group",), "no group"),
        (("--test", 0.8, "--validation", 0.3), "below 1"),
        (("--splits", "x.txt"), "ends in .csv"),
        (("--splits-from", "nowhere.csv"), "cannot be read"),
    ],
)
def test_wrong_options_are_sentences(options, words, features):
    """Each mistake has exit code 2 and names the option."""
    done = run("split", features.path, *options)
    assert done.exit_code == 2
    assert words in done.stderr
