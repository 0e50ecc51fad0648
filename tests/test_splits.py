"""Splits depend on image bytes alone, and nothing that belongs together is parted."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featcache.errors import FeatcacheError
from featcache.splits import Carve, holdout, units


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
    """Without groups and copies, every class gives about the asked fraction."""
    labels = np.repeat(["a", "b", "c"], [100, 50, 10])
    keys = np.array([key(number) for number in range(160)])
    held = holdout(labels, keys, np.full(160, ""), 0.2)
    assert [int(held[labels == name].sum()) for name in "abc"] == [20, 10, 2]


def test_most_images_keep_their_side_when_others_are_added():
    """Growing a data set moves only a few images across the border."""
    keys = np.array([key(number) for number in range(1100)])
    none = np.full(1100, "")
    labels = np.full(1100, "a")
    before = holdout(labels[:1000], keys[:1000], none[:1000], 0.2)
    after = holdout(labels, keys, none, 0.2)[:1000]
    assert (before != after).sum() < 40


def test_groups_chain_through_shared_images():
    """Two groups that share an image are one unit; a row without a group stands for itself."""
    keys = np.array([key(0), key(1), key(1), key(2), key(3)])
    groups = np.array(["p", "p", "q", "q", ""])
    unit = units(keys, groups)
    assert len(set(unit[:4])) == 1
    assert unit[4] != unit[0]


@given(st.floats(0.05, 0.95))
def test_a_carved_split_is_about_as_large_as_asked(fraction):
    """Carving takes the asked share of the source split and nothing of another."""
    keys = [key(number) for number in range(2000)]
    splits = ["train"] * 1000 + ["validation"] * 1000
    carved = Carve("validation", fraction).apply(splits, keys)
    assert carved[:1000] == ["train"] * 1000
    assert abs(carved.count("test") / 1000 - fraction) < 0.08


@pytest.mark.parametrize("text", ["", "validation", "validation:", "test:0.2", "train:1", "val:-1"])
def test_a_wrong_carve_is_refused(text):
    """Anything but SPLIT:FRACTION names the option and an example."""
    with pytest.raises(FeatcacheError, match=r"--test-from .*validation:0\.2"):
        Carve.parse(text)


def test_aliases_of_split_names_are_understood():
    """val and valid are validation."""
    assert Carve.parse("val:0.25") == Carve("validation", 0.25)
