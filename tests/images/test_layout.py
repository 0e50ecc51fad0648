"""Folders are read where they can mean one thing; where they could mean two, all stops and asks."""

from __future__ import annotations

import re
import shlex
import unicodedata

import pytest

from featcache.errors import FeatcacheError
from featcache.images import find_images
from featcache.images.class_names import one_forms
from featcache.images.layout import split_of


def options_of(error: FeatcacheError) -> list[str]:
    """The answers that an error prints, without what they mean."""
    return [line.split(": ")[0].strip() for line in error.printed[1:-1]]


def answered(root, options: str):
    """What one of the answers leads to, as a command line would have it."""
    words, kinds = shlex.split(options), {"ignore": [], "folders": None}
    while words:
        word = words.pop(0)
        if word == "--splits-from-folders":
            kinds["folders"] = "split/class"
        elif word == "--ignore":
            kinds["ignore"].append(words.pop(0))
        else:
            assert word == "--folders"
            kinds["folders"] = words.pop(0)
    return find_images(root, **kinds)


SPLITS = [
    ("train", "train"), ("Training", "train"), ("training_set", "train"), ("trainset", "train"),
    ("seg_train", "train"), ("train2017", "train"), ("train_images", "train"), ("TRAIN", "train"),
    ("training-data", "train"), ("imgs_train", "train"), ("01_train", "train"),
    ("val", "validation"), ("valid", "validation"), ("val2017", "validation"),
    ("dev", "validation"),
    ("dev_set", "validation"), ("validation_data", "validation"), ("Valid Set", "validation"),
    ("test", "test"), ("test_set", "test"), ("testset", "test"), ("eval", "test"),
    ("evaluation", "test"), ("holdout", ""), ("seg_test", "test"), ("testing images", "test"),
    ("train_station", ""), ("test_tube", ""), ("trainer", ""), ("contest", ""), ("evaluated", ""),
    ("cats_train", ""), ("value", ""), ("devil", ""), ("set", ""), ("data", ""), ("", ""),
    ("2017", ""), ("cat", ""),
]  # fmt: skip


@pytest.mark.parametrize(("name", "split"), SPLITS)
def test_names_of_splits_in_the_wild(name, split) -> None:
    """What stands around the word (set, images, seg_, years) changes nothing, other words do."""
    assert split_of(name) == split


@pytest.mark.parametrize(
    ("first", "second", "splits"),
    [
        ("training_set", "test_set", ["test", "train"]),
        ("seg_train", "seg_test", ["test", "train"]),
        ("train", "dev", ["validation", "train"]),
        ("train", "eval", ["test", "train"]),
        ("Train_data", "Val_data", ["train", "validation"]),
        ("imgs_train", "imgs_eval", ["test", "train"]),
        ("train2017", "val2017", ["train", "validation"]),
    ],
)
def test_splits_under_other_names_are_splits(plant, first, second, splits) -> None:
    """The classes are those inside, and how the folders were read is said."""
    root = plant(f"{first}/cat/1.jpg", f"{first}/dog/2.jpg", f"{second}/cat/3.jpg")
    found = find_images(root)
    assert found.classes == ["cat", "dog"]
    assert sorted(set(found.splits)) == sorted(splits)
    assert any("read as splits" in remark for remark in found.remarks)


def test_splits_that_hold_a_folder_of_their_own_name(plant) -> None:
    """seg_train/seg_train/buildings: the inner one is no class."""
    root = plant(
        "seg_train/seg_train/forest/1.jpg", "seg_train/seg_train/sea/2.jpg",
        "seg_test/seg_test/forest/3.jpg", "seg_test/seg_test/sea/4.jpg",
    )  # fmt: skip
    found = find_images(root)
    assert (found.classes, set(found.splits)) == (["forest", "sea"], {"train", "test"})
    plant("seg_train/seg_train/forest/1.jpg", "seg_pred/seg_pred/5.jpg")
    with pytest.raises(FeatcacheError, match="'seg_pred' like none") as caught:
        find_images(root)
    assert options_of(caught.value)[0] == "--splits-from-folders --ignore seg_pred"
    again = answered(root, options_of(caught.value)[0])
    assert (again.classes, len(again)) == (["forest", "sea"], 4)


def test_a_class_in_one_split_alone_is_no_wrapper(plant) -> None:
    """A split with a single class keeps it, also where that class has folders of its own."""
    root = plant("train/cat/1.jpg", "train/dog/2.jpg", "test/cat/day1/3.jpg", "test/cat/day2/4.jpg")
    assert find_images(root).labels == ["cat", "cat", "cat", "dog"]


AMBIGUOUS = {
    "one more folder": ["train/cat/1.jpg", "train/dog/2.jpg", "val/cat/3.jpg", "figures/4.jpg"],
    "one more with classes": ["train/cat/1.jpg", "test/cat/2.jpg", "extra/cat/3.jpg"],
    "a single split": ["train/cat/1.jpg", "train/dog/2.jpg", "paper/3.jpg"],
    "flat splits and another": ["train/1.jpg", "test/2.jpg", "figures/3.jpg"],
    "test among classes": ["cat/1.jpg", "dog/2.jpg", "test/3.jpg"],
    "another word": ["train/cat/1.jpg", "train/dog/2.jpg", "holdout/cat/3.jpg"],
    "dev among classes": ["cat/1.jpg", "dog/2.jpg", "dev/3.jpg"],
    "flat splits": ["train/1.jpg", "test/2.jpg"],
    "flat odd splits": ["training_set/1.jpg", "test_set/2.jpg"],
    "training images without classes": ["train/1.jpg", "test/cat/2.jpg"],
    "one flat split": ["train/1.jpg", "train/2.jpg"],
    "several odd ones": ["train/cat/1.jpg", "val/cat/2.jpg", "my figures/3.jpg", "old/4.jpg"],
    "same classes inside": ["a/cat/1.jpg", "a/dog/2.jpg", "b/cat/3.jpg", "b/dog/4.jpg"],
    "nested classes": ["animals/cat/1.jpg", "animals/dog/2.jpg", "cars/vw/3.jpg"],
    "images and masks": ["images/cat/1.png", "images/dog/1.png", "masks/cat/1.png"],
    "nested in splits": ["train/x/cat/1.jpg", "train/x/dog/2.jpg", "train/y/cat/3.jpg",
                         "test/x/cat/4.jpg"],
    "numeric nested": ["1/1/1.jpg", "1/2/2.jpg", "2/1/3.jpg", "2/2/4.jpg"],
    "wrapper with images": ["Pets/logo.jpg", "Pets/cat/1.jpg", "Pets/dog/2.jpg"],
}  # fmt: skip


@pytest.mark.parametrize("case", AMBIGUOUS)
def test_what_could_mean_two_things_stops_with_both_commands(plant, case) -> None:
    """Each answer that is printed is taken, and they lead to different readings."""
    root = plant(*AMBIGUOUS[case])
    with pytest.raises(FeatcacheError, match="could mean several things") as caught:
        find_images(root)
    answers = options_of(caught.value)
    assert len(answers) >= 2
    found = [answered(root, answer) for answer in answers]
    readings = {(tuple(each.names), tuple(each.labels), tuple(each.splits), tuple(each.groups))
                for each in found}  # fmt: skip
    assert len(readings) == len(answers)
    if "--splits-from-folders" in answers[0]:
        assert set(found[0].splits) <= {"train", "validation", "test"}
    # Where labels are of no interest, nothing needs an answer.
    assert set(find_images(root, folders="-").labels) == {""}


@pytest.mark.parametrize(
    "names", [("cats_train", "cats_test"), ("train_a", "test_a"), ("A-train", "A-val", "A-test")]
)
def test_splits_within_names_stop(plant, names) -> None:
    """A class and a split in one name need a manifest, or are classes when this is said."""
    root = plant(*[f"{name}/1.jpg" for name in names])
    with pytest.raises(FeatcacheError, match="look like splits of one thing") as caught:
        find_images(root)
    assert "path,label,split" in str(caught.value)
    assert find_images(root, folders="class").classes == sorted(names)


@pytest.mark.parametrize(
    "paths",
    [
        ["train/1.jpg", "car/2.jpg", "plane/3.jpg"],
        ["train_station/1.jpg", "test_tube/2.jpg"],
        ["cat/1.jpg", "dog/day/2.jpg"],
        ["cat/images/1.jpg", "dog/images/2.jpg"],
        ["0/1.jpg", "1/2.jpg", "10/3.jpg"],
        ["a/b/c/d/1.jpg"],
    ],
)
def test_plain_classes_stay_classes(plant, paths) -> None:
    """A class may be called train where the others are classes; odd names are names."""
    found = find_images(plant(*paths))
    assert found.labels == [name.split("/")[0] for name in found.names]
    assert set(found.splits) == {""}


def test_a_flat_test_folder_is_a_test_split_without_labels(plant) -> None:
    """train/<class>/ with test/*.jpg: the images test, and nobody knows their class."""
    for flat in ("test", "test_set", "val", "eval"):
        root = plant("train/cat/1.jpg", "train/dog/2.jpg", f"{flat}/3.jpg", f"{flat}/4.jpg")
        found = find_images(root)
        rows = dict(zip(found.names, zip(found.labels, found.splits, strict=True), strict=True))
        split = "validation" if flat == "val" else "test"
        assert rows[f"{flat}/3.jpg"] == ("", split)
        assert found.classes == ["cat", "dog"]
        assert any("without a label" in remark for remark in found.remarks)
        for name in ("3.jpg", "4.jpg"):
            (root / flat / name).unlink()


@pytest.mark.parametrize("wrapper", ["PetImages", "data/PetImages", "archive/data/images"])
@pytest.mark.parametrize("splits", [[""], ["train/", "test/"], ["train/"]])
def test_a_wrapper_folder_is_no_class(plant, wrapper, splits) -> None:
    """The folders inside are read, and it is said; what is clutter beside it does not matter."""
    paths = [f"{wrapper}/{split}{name}/1.jpg" for split in splits for name in ("cat", "dog")]
    root = plant(*paths, "__MACOSX/PetImages/cat/._1.jpg", ".ipynb_checkpoints/1.jpg")
    found = find_images(root)
    assert found.classes == ["cat", "dog"]
    assert set(found.splits) == {split.strip("/") for split in splits}
    assert f"all images lie in {wrapper!r}" in found.remarks[0]


def test_splits_below_classes(plant) -> None:
    """cat/train/1.jpg is read as it is meant."""
    found = find_images(plant("cat/train/1.jpg", "cat/test/2.jpg", "dog/train/3.jpg"))
    assert (found.labels, found.splits) == (["cat", "cat", "dog"], ["test", "train", "train"])
    assert "below the classes are splits" in found.remarks[0]


@pytest.mark.parametrize(
    ("folders", "labels", "splits", "groups"),
    [
        ("class", ["x", "x", "y"], ["", "", ""], ["", "", ""]),
        ("-/class", ["train", "test", "train"], ["", "", ""], ["", "", ""]),
        ("-/-/class", ["p1", "p2", "p3"], ["", "", ""], ["", "", ""]),
        ("class/split/group", ["x", "x", "y"], ["train", "test", "train"], ["p1", "p2", "p3"]),
        ("group/-/class", ["p1", "p2", "p3"], ["", "", ""], ["x", "x", "y"]),
        ("-", ["", "", ""], ["", "", ""], ["", "", ""]),
        ("CLASS/Split", ["x", "x", "y"], ["train", "test", "train"], ["", "", ""]),
    ],
)
def test_folders_are_what_is_said(plant, folders, labels, splits, groups) -> None:
    """A word for each level from the top decides, whatever the names suggest."""
    root = plant("x/train/p1/1.jpg", "x/test/p2/2.jpg", "y/train/p3/3.jpg")
    order = ["x/train/p1/1.jpg", "x/test/p2/2.jpg", "y/train/p3/3.jpg"]
    found = find_images(root, folders=folders)
    at = [found.names.index(name) for name in order]
    assert [found.labels[each] for each in at] == labels
    assert [found.splits[each] for each in at] == splits
    assert [found.groups[each] for each in at] == groups


@pytest.mark.parametrize("folders", ["", "classes", "class/class", "split/", "a/b"])
def test_other_words_for_folders_are_refused(plant, folders) -> None:
    """A level is one of four words."""
    with pytest.raises(FeatcacheError, match="expected a word for each level"):
        find_images(plant("cat/1.jpg"), folders=folders)


def test_a_folder_said_to_be_a_split_must_name_one(plant) -> None:
    """Nothing is guessed where the user said so."""
    root = plant("train/cat/1.jpg", "figures/2.jpg", "B/cat/3.jpg")
    with pytest.raises(FeatcacheError, match=r"'B', 'figures' names no split.*--ignore B --ign"):
        find_images(root, folders="split/class")
    with pytest.raises(FeatcacheError, match="no folders of images"):
        find_images(plant("cat/1.jpg") / "cat", folders="split/class")


def test_folders_to_ignore(plant) -> None:
    """By name at any level, or by path; one that is not there is a slip."""
    root = plant("cat/1.jpg", "cat/bad/2.jpg", "dog/bad/3.jpg", "dog/4.jpg")
    assert find_images(root, ignore=["bad"]).names == ["cat/1.jpg", "dog/4.jpg"]
    assert find_images(root, ignore=["./cat/bad/"]).names == [
        "cat/1.jpg",
        "dog/4.jpg",
        "dog/bad/3.jpg",
    ]
    assert find_images(root, ignore="bad").names == ["cat/1.jpg", "dog/4.jpg"]
    with pytest.raises(FeatcacheError, match="--ignore figures: no folder below"):
        find_images(root, ignore=["bad", "figures"])


@pytest.mark.parametrize(
    "clutter",
    ["__MACOSX/cat", ".ipynb_checkpoints", "cat/.ipynb_checkpoints", "@eaDir", "cat/@eaDir",
     "$RECYCLE.BIN", "lost+found", ".git/x"],
)  # fmt: skip
def test_what_systems_leave_behind_is_no_class(plant, clutter) -> None:
    """Nor do its images count."""
    root = plant("cat/1.jpg", "dog/2.jpg", f"{clutter}/3.jpg")
    assert find_images(root).names == ["cat/1.jpg", "dog/2.jpg"]


@pytest.mark.parametrize("copies", ["thumbs", "cat/thumbs", "cat/Thumbnails", "thumbnails/cat"])
def test_small_copies_are_left_out_and_said(plant, copies) -> None:
    """They would be a class, or copies on both sides of a split."""
    found = find_images(plant("cat/1.jpg", "dog/2.jpg", f"{copies}/1.jpg"))
    assert found.names == ["cat/1.jpg", "dog/2.jpg"]
    assert "left out 1 folder of small copies" in found.remarks[0]


NFC, NFD = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))


def test_two_forms_of_unicode_are_one_class(plant) -> None:
    """From macOS and from Linux, é is the same letter: one class, composed, and it is said."""
    root = plant(f"train/{NFC}/1.jpg", f"test/{NFD}/2.jpg", "train/thé/3.jpg", "test/thé/4.jpg")
    found = find_images(root)
    assert found.classes == [NFC, unicodedata.normalize("NFC", "thé")]
    assert "in two ways are one" in found.remarks[0]
    alone = find_images(root / "test")
    assert NFC in alone.classes
    assert find_images([root / "train" / NFC / "1.jpg"], labels=[NFD]).labels == [NFC]


def test_two_forms_beside_each_other_stay_two(plant) -> None:
    """Whoever made two folders in one place has two classes, and is told."""
    found = find_images(plant(f"{NFC}/1.jpg", f"{NFD}/2.jpg", "thé/3.jpg"))
    assert len(found.classes) == 3
    assert "are different classes here" in found.remarks[0]


@pytest.mark.parametrize(("one", "other"), [("Cat", "cat"), ("Big Cat", "big cat"), ("É", "é")])
def test_a_class_in_other_case_in_another_split_is_the_same(plant, one, other) -> None:
    """The training split's spelling counts, and it is said."""
    root = plant(f"train/{one}/1.jpg", "train/dog/2.jpg", f"test/{other}/3.jpg", "test/dog/4.jpg")
    found = find_images(root)
    assert found.classes == sorted([one, "dog"])
    assert any(f"read as one class, {one!r}" in remark for remark in found.remarks)


def test_names_in_other_case_beside_each_other_stay_two(plant) -> None:
    """a and A may be letters: they are two classes, and it is said."""
    found = find_images(plant("a/1.jpg", "A/2.jpg", "b/3.jpg"))
    assert found.classes == ["A", "a", "b"]
    assert "'A', 'a' are different classes here" in found.remarks[0]


def test_one_level_too_low(plant) -> None:
    """A single class, or a single split, says what lies beside it."""
    root = plant("pets/cat/1.jpg", "pets/dog/2.jpg", "pets/readme/3.txt")
    (remark,) = find_images(root / "pets" / "cat").remarks
    assert "no class folders: one level up, 'pets' holds 'cat', 'dog' with images" in remark
    plant("data/train/cat/1.jpg", "data/train/dog/2.jpg", "data/test/cat/3.jpg")
    (remark,) = find_images(root / "data" / "train").remarks
    assert "'train' lies beside 'test': the folder above gives the splits too" in remark
    (remark,) = find_images(root / "data" / "test").remarks
    assert "'test' lies beside 'train'" in remark


def test_one_level_too_high(plant) -> None:
    """Several data sets in one folder are no classes."""
    root = plant("pets/cat/1.jpg", "pets/dog/2.jpg", "flowers/rose/3.jpg", "flowers/tulip/4.jpg")
    with pytest.raises(
        FeatcacheError, match="'flowers', 'pets' hold folders, 'cat', 'dog', 'rose'"
    ):
        find_images(root)


def test_about_one_image_a_class_is_remarked(plant) -> None:
    """Folders of patients are no classes."""
    found = find_images(plant(*[f"{number}/{number}.jpg" for number in range(1, 13)]))
    assert any("12 images in 12 classes" in remark for remark in found.remarks)
    assert find_images(found.root, folders="group").groups == found.labels
    assert not re.search("classes", "".join(find_images(found.root, folders="group").remarks))


@pytest.mark.parametrize(
    ("names", "wanted"), [([NFD, "thé"], [NFC, "thé"]), ([NFD, NFC], [NFD, NFC]), (["a"], ["a"])]
)
def test_names_of_older_files_are_composed_where_they_stay_different(names, wanted) -> None:
    """A head of a time when names were kept as they came still knows its classes."""
    assert one_forms(names) == wanted
