"""What the caller gives beside images belongs to them by name, or by place in the same list."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas
import pytest

from featcache.errors import FeatcacheError
from featcache.images import find_images

NAMES = ["10.jpg", "2.jpg", "1.jpg"]


@pytest.fixture
def root(plant) -> Path:
    """Three images, whose names sort otherwise than their numbers."""
    return plant(*NAMES)


def test_a_list_stays_in_its_order(root) -> None:
    """Paths, with their labels, splits and groups, come back as they were given."""
    paths = [root / name for name in NAMES]
    found = find_images(
        paths, labels=["j", "b", 1], splits=["val", None, "TEST"], groups=list("ghg")
    )
    assert (found.names, found.labels) == (NAMES, ["j", "b", "1"])
    assert (found.splits, found.groups) == (["validation", "", "test"], ["g", "h", "g"])
    assert [found.read(place).raw for place in range(3)] == [path.read_bytes() for path in paths]


@pytest.mark.parametrize(
    "listed",
    [
        list, tuple, np.array, pandas.Series, iter,
        lambda paths: np.array(paths, dtype=object),
        lambda paths: (path for path in paths),
        lambda paths: pandas.Series(paths, index=[7, 3, 5]),
    ],
)  # fmt: skip
def test_every_kind_of_list_has_an_order(root, listed) -> None:
    """Lists, arrays, Series and generators of paths are read from front to back."""
    assert find_images(listed([str(root / name) for name in NAMES])).names == NAMES


def test_a_path_may_be_listed_twice(root) -> None:
    """A repeated path is one image, and has one label; `distinct` has each once, by name."""
    paths = [root / NAMES[0], root / NAMES[2], root / ".." / "photos" / NAMES[0]]
    found = find_images(paths, labels=["a", "b", "a"])
    assert found.names == ["10.jpg", "1.jpg", "10.jpg"]
    once, places = found.distinct()
    assert (once.names, once.labels, places.tolist()) == (
        ["1.jpg", "10.jpg"],
        ["b", "a"],
        [1, 0, 1],
    )
    for what in ("labels", "groups"):
        with pytest.raises(
            FeatcacheError, match=rf"{what}: '10\.jpg' is listed twice, with 'a' and"
        ):
            find_images(paths, **{what: ["a", "b", "c"]}).distinct()
    with pytest.raises(FeatcacheError, match=r"splits: '10\.jpg' is listed twice"):
        find_images(paths, splits=["train", "", "test"]).distinct()


@pytest.mark.parametrize("what", ["labels", "splits", "groups"])
@pytest.mark.parametrize(
    "values",
    [
        ["train", "test", ""], ("train", "test", ""), np.array(["train", "test", ""]),
        pandas.Series(["train", "test", ""]), pandas.Series(["train", "", ""], index=[2, 0, 1]),
        range(3), [], ["train"],
    ],
)  # fmt: skip
def test_a_folder_takes_no_values_by_position(root, what, values) -> None:
    """Nobody knows a folder's order: a plain list beside it is refused, and the way out is said."""
    with pytest.raises(FeatcacheError, match=rf"{what}: .*give \{{name: value\}}, such as"):
        find_images(root, **{what: values})


def test_a_set_has_no_order(root) -> None:
    """Neither for paths nor for labels."""
    paths = {str(root / name) for name in NAMES}
    assert find_images(paths).names == sorted(NAMES)
    with pytest.raises(FeatcacheError, match="you gave these images no order"):
        find_images(paths, labels=["a", "b", "c"])
    with pytest.raises(FeatcacheError, match="a set has no order"):
        find_images(sorted(paths), labels={"a", "b", "c"})


@pytest.mark.parametrize(
    "named",
    [
        dict,
        lambda pairs: {Path(name): label for name, label in pairs.items()},
        lambda pairs: pandas.Series(pairs),
        lambda pairs: pandas.DataFrame({"label": pairs})["label"].sample(frac=1, random_state=3),
    ],
)
def test_values_by_name_find_their_images(root, monkeypatch, named) -> None:
    """{name: label} and a Series indexed by names do for a folder, as do paths that lead there."""
    labels = {"1.jpg": "a", "2.jpg": "b", "10.jpg": "j"}
    wanted = ["a", "j", "b"]
    assert find_images(root, labels=named(labels)).labels == wanted
    absolute = {str(root / name): label for name, label in labels.items()}
    assert find_images(root, labels=named(absolute)).labels == wanted
    monkeypatch.chdir(root.parent)
    below = {f"photos/{name}": label for name, label in labels.items()}
    assert find_images("photos", labels=named(below)).labels == wanted
    listed = find_images([f"photos/{name}" for name in NAMES], labels=named(below))
    assert listed.labels == ["j", "b", "a"]


def test_names_that_are_no_images_are_refused(root) -> None:
    """A label for nobody is a mistake; an image that is not named has none, which is said."""
    with pytest.raises(FeatcacheError, match=r"1 of 2 names are no images here: '3\.jpg'"):
        find_images(root, labels={"1.jpg": "a", "3.jpg": "b"})
    with pytest.raises(FeatcacheError, match="given twice: 'a' and 'b'"):
        find_images(root, labels={"1.jpg": "a", str(root / "1.jpg"): "b"})
    some = find_images(root, labels={"1.jpg": "a", "2.jpg": None})
    assert some.labels == ["a", "", ""]
    assert "labels: 1 of 3 images is not named and has none" in some.remarks


def test_two_series_must_be_of_one_table(root) -> None:
    """Series with other indices were sorted or filtered apart: they are not zipped."""
    table = pandas.DataFrame({"path": [str(root / n) for n in NAMES], "label": ["j", "b", "a"]})
    assert find_images(table["path"], labels=table["label"]).labels == ["j", "b", "a"]
    apart = table.sort_values("label")
    assert find_images(apart["path"], labels=apart["label"]).labels == ["a", "b", "j"]
    with pytest.raises(FeatcacheError, match="different indices"):
        find_images(table["path"], labels=apart["label"])


@pytest.mark.parametrize(
    "missing", [float("nan"), np.nan, np.float32("nan"), pandas.NA, pandas.NaT]
)
def test_a_missing_value_says_how_none_is_written(root, missing) -> None:
    """NaN and NA of a table are refused, with None and "" as the way out."""
    paths = [root / name for name in NAMES]
    for what in ("labels", "groups", "splits"):
        with pytest.raises(FeatcacheError, match=f'{what}: the value at 2 .*None or "" means none'):
            find_images(paths, **{what: ["train", "test", missing]})
    with pytest.raises(FeatcacheError, match='None or "" means none'):
        find_images(root, labels={"1.jpg": missing})


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (["a", "b"], "2 given for 3 images"),
        ("ab", "1 given for 3 images"),
        ([["a"], ["b"], ["c"]], "one label an image"),
        ([1.0, 2.0, 3.0], r"the number 1\.0.*Int64"),
        ([b"a", b"b", b"c"], "one label an image"),
        (3, "expected one value an image"),
        (pandas.DataFrame({"a": [1, 2, 3], "b": [1, 2, 3]}), "a table of .3, 2."),
    ],
)
def test_other_values_are_refused(root, values, words) -> None:
    """What is not one name or number an image is told."""
    paths = [root / name for name in NAMES]
    with pytest.raises(FeatcacheError, match=words):
        find_images(paths, labels=values)


@pytest.mark.parametrize(
    ("images", "words"),
    [
        ({"1.jpg": "cat"}, "the images are a dict"),
        (pandas.DataFrame({"path": ["1.jpg"], "label": ["cat"]}), "the images are a table"),
        (3, "the images are 3"),
    ],
)
def test_what_would_lose_labels_is_no_list_of_images(root, monkeypatch, images, words) -> None:
    """A dict of labels or a table is not silently read as its keys."""
    monkeypatch.chdir(root)
    with pytest.raises(FeatcacheError, match=words):
        find_images(images)


def test_an_image_set_is_taken_as_it_is(root) -> None:
    """`find_images` of what it gave changes nothing but what is asked for."""
    found = find_images([root / name for name in NAMES])
    again = find_images(found, labels=["j", "b", "a"])
    assert (again.names, again.labels) == (NAMES, ["j", "b", "a"])
    assert find_images(found) == found


def test_two_files_of_one_shown_name_are_refused(root) -> None:
    """A name in bytes that are not UTF-8 and its escape are two files: neither answers for both."""
    (root / "\\xff.jpg").write_bytes(b"one")
    (root / os.fsdecode(b"\xff.jpg")).write_bytes(b"two")
    with pytest.raises(FeatcacheError, match="two images are called"):
        find_images(root)
