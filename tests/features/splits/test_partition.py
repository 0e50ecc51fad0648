"""Splits depend on image bytes alone, and nothing that belongs together is parted."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featcache.errors import FeatcacheError
from featcache.features.splits.partition import Carve, Shares, holdout, partition, units


def key(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


rows = st.lists(
    st.tuples(st.integers(0, 30), st.sampled_from("abc"), st.sampled_from(["", "p", "q", "r"])),
    min_size=4,
    max_size=60,
)


def columns(drawn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, keys and groups; the same number is the same image."""
    labels = np.array([label for _, label, _ in drawn])
    keys = np.array([key(number) for number, _, _ in drawn])
    groups = np.array([group for _, _, group in drawn])
    return labels, keys, groups


@given(rows)
def test_no_image_and_no_group_stands_on_two_sides(drawn):
    """Copies of an image, and images of a group, are all held out or all kept."""
    labels, keys, groups = columns(drawn)
    held = holdout(labels, keys, groups, 0.3)
    assert not set(keys[held]) & set(keys[~held])
    assert not (set(groups[held]) & set(groups[~held])) - {""}


@given(rows, st.randoms())
def test_the_choice_does_not_depend_on_row_order(drawn, random):
    """Shuffling the rows holds out the same images."""
    shuffled = list(drawn)
    random.shuffle(shuffled)
    sides = []
    for order in (drawn, shuffled):
        labels, keys, groups = columns(order)
        sides.append(set(keys[holdout(labels, keys, groups, 0.3)]))
    assert sides[0] == sides[1]


def test_each_class_gives_its_share():
    """Without groups and copies, every class gives the asked fraction, to a tenth of it."""
    labels = np.repeat(["a", "b", "c"], [100, 50, 10])
    keys = np.array([key(number) for number in range(160)])
    held = holdout(labels, keys, np.full(160, ""), 0.2)
    for name, wanted in (("a", 20), ("b", 10), ("c", 2)):
        assert abs(int(held[labels == name].sum()) - wanted) <= 0.1 * wanted


@pytest.mark.parametrize("size", [2, 3, 5, 10])
def test_many_small_classes_give_about_their_share_together(size):
    """Classes of a few images each: some images are held out, and never all of a class."""
    keys = np.array([key(number) for number in range(1200)])
    labels = (np.arange(1200) // size).astype(str)
    held = holdout(labels, keys, np.full(1200, ""), 0.2)
    assert 0.15 < held.mean() < 0.35
    assert np.bincount(np.arange(1200) // size, weights=held).max() < size


def test_images_keep_their_side_when_others_are_added():
    """In a large class a side depends on the image alone; few images move in a small one."""
    keys = np.array([key(number) for number in range(11000)])
    none = np.full(11000, "")
    for classes, most in ((1, 0), (100, 250)):
        labels = (np.arange(11000) % classes).astype(str)
        before = holdout(labels[:10000], keys[:10000], none[:10000], 0.2)
        after = holdout(labels, keys, none, 0.2)[:10000]
        assert (before != after).sum() <= most


def test_a_group_keeps_its_side_when_images_join_it():
    """A group is placed by its name, not by the images that happen to be in it."""
    keys = np.array([key(number) for number in range(2000)])
    groups = np.array([f"patient {number % 200}" for number in range(2000)])
    labels = np.full(2000, "a")
    before = holdout(labels[:1000], keys[:1000], groups[:1000], 0.2)
    after = holdout(labels, keys, groups, 0.2)[:1000]
    assert (before != after).mean() < 0.02
    assert 0.15 < before.mean() < 0.25


def test_a_third_split_takes_nothing_from_the_test_split():
    """The test rows are the same with and without a validation split, which has its own share."""
    keys = np.array([key(number) for number in range(3000)])
    labels = (np.arange(3000) % 30).astype(str)
    two = partition(labels, units(keys, np.full(3000, "")), keys, Shares(0.2))
    three = partition(labels, units(keys, np.full(3000, "")), keys, Shares(0.2, 0.1))
    assert np.array_equal(two == "test", three == "test")
    assert abs((three == "validation").mean() - 0.1) < 0.01
    assert set(partition(labels, np.arange(3000), keys, Shares(0, 0.1))) == {"train", "validation"}


def test_images_that_come_one_by_one_get_their_shares():
    """A split that grows by single images has as much test and validation as one made at once."""
    shares, none = Shares(0.2, 0.1), np.full(450, "")
    keys = np.array([key(number) for number in range(450)])
    labels = (np.arange(450) % 3).astype(str)
    former = np.full(450, "", dtype="<U10")
    former[:150] = partition(labels[:150], np.arange(150), keys[:150], shares)
    started = former.copy()
    for count in range(151, 451):
        so_far = slice(count)
        unit = units(keys[so_far], none[so_far])
        former[so_far] = partition(
            labels[so_far], unit, keys[so_far], shares, former=former[so_far]
        )
    assert np.array_equal(former[:150], started[:150])
    for name in "012":
        mine = former[labels == name]
        assert abs((mine == "test").sum() - 30) <= 3
        assert abs((mine == "validation").sum() - 15) <= 2


def test_a_class_that_was_starved_is_filled_up():
    """Where a class has too little test, its new images test until it has its share."""
    keys = np.array([key(number) for number in range(120)])
    former = np.repeat(["train", ""], [100, 20])
    splits = partition(np.full(120, "a"), np.arange(120), keys, Shares(0.2), former=former)
    assert set(splits[:100]) == {"train"}
    assert (splits[100:] == "test").sum() == 20


@pytest.mark.parametrize("shares", [(0, 0), (0.5, 0.5), (-0.1, 0.2), (1, 0), (float("nan"), 0)])
def test_shares_that_do_not_fit_are_refused(shares):
    """Shares that are no shares, or leave nothing to train on, name the option."""
    with pytest.raises(FeatcacheError, match="--test"):
        Shares(*shares)


def test_twins_chain_with_groups_and_copies():
    """A pair of near duplicates joins the groups of both, and the copies of both."""
    keys = np.array([key(0), key(1), key(1), key(2), key(3)])
    groups = np.array(["p", "", "", "q", ""])
    unit = units(keys, groups, twins=np.array([[0, 1]]))
    assert len(set(unit[:3])) == 1
    assert len(set(unit)) == 3
    alone = units(keys, np.full(5, ""), twins=np.array([[3, 4]]))
    assert alone[3] == alone[4] != alone[0]


def test_groups_chain_through_shared_images():
    """Two groups that share an image are one unit; a row without a group stands for itself."""
    keys = np.array([key(0), key(1), key(1), key(2), key(3)])
    groups = np.array(["p", "p", "q", "q", ""])
    unit = units(keys, groups)
    assert len(set(unit[:4])) == 1
    assert unit[4] != unit[0]


@given(st.floats(0.05, 0.95))
def test_a_carved_split_is_about_as_large_as_asked(fraction):
    """Carving takes the asked share of each class of the source split, and nothing of another."""
    keys = np.array([key(number) for number in range(2000)])
    splits = np.repeat(["train", "validation"], 1000)
    labels = (np.arange(2000) % 4).astype(str)
    carved = Carve("validation", fraction).apply(
        splits, keys, labels=labels, groups=np.full(2000, "")
    )
    assert set(carved[:1000]) == {"train"}
    for name in "0123":
        share = (carved[1000:][labels[1000:] == name] == "test").mean()
        assert abs(share - fraction) < 0.1 * fraction + 0.01


@given(rows)
def test_carving_parts_no_copies_and_no_groups(drawn):
    """What belongs together in the source split is all carved out, or all stays."""
    labels, keys, groups = columns(drawn)
    splits = np.full(len(keys), "validation")
    carved = Carve("validation", 0.4).apply(splits, keys, labels=labels, groups=groups)
    test = carved == "test"
    assert not set(keys[test]) & set(keys[~test])
    assert not (set(groups[test]) & set(groups[~test])) - {""}


@pytest.mark.parametrize("text", ["", "validation", "validation:", "test:0.2", "train:1", "val:-1"])
def test_a_wrong_carve_is_refused(text):
    """Anything but SPLIT:FRACTION names the option and an example."""
    with pytest.raises(FeatcacheError, match=r"--test-from .*validation:0\.2"):
        Carve.parse(text)


def test_aliases_of_split_names_are_understood():
    """val and valid are validation."""
    assert Carve.parse("val:0.25") == Carve("validation", 0.25)
