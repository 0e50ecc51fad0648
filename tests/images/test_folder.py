"""What a folder says: names, order, labels, splits, and what is left out with a remark."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from featcache.errors import FeatcacheError
from featcache.images import find_images


def test_class_folders_give_labels(plant) -> None:
    """The first level of folders is the label, and deeper folders keep it."""
    root = plant("cats/1.jpg", "dogs/2.JPG", "dogs/deep/er/3.png")
    images = find_images(root)
    assert images.names == ["cats/1.jpg", "dogs/2.JPG", "dogs/deep/er/3.png"]
    assert images.labels == ["cats", "dogs", "dogs"]
    assert images.splits == images.groups == ["", "", ""]
    assert images.classes == ["cats", "dogs"]
    assert (images.name, images.root, len(images), images.remarks) == ("photos", root, 3, [])


def test_split_folders_lie_above_class_folders(plant) -> None:
    """If all top folders are split names and hold folders they are splits, under any spelling."""
    root = plant("Train/cats/1.jpg", "valid/dogs/2.jpg", "TEST/cats/3.jpg", "TEST/4.jpg")
    images = find_images(root)
    assert images.names == ["TEST/4.jpg", "TEST/cats/3.jpg", "Train/cats/1.jpg", "valid/dogs/2.jpg"]
    assert images.splits == ["test", "test", "train", "validation"]
    assert images.labels == ["", "cats", "cats", "dogs"]
    assert images.counts() == {
        "test": {"": 1, "cats": 1},
        "train": {"cats": 1},
        "validation": {"dogs": 1},
    }
    assert images.rows()[0] == ("test", "-", 1)


def test_classes_called_train_and_test_are_classes(plant) -> None:
    """Folders with split names that hold images themselves are classes, and this is said."""
    images = find_images(plant("train/1.jpg", "test/2.jpg"))
    assert images.labels == ["test", "train"]
    assert "taken for classes, not for splits" in images.remarks[0]
    mixed = find_images(plant("train/cats/1.jpg", "other/2.jpg"))
    assert set(mixed.splits) == {""}


def test_a_folder_without_images_does_not_hide_the_splits(plant) -> None:
    """Only folders that hold images count: annotations beside train and test change nothing."""
    root = plant("train/cats/1.jpg", "test/cats/2.jpg")
    (root / "annotations").mkdir()
    (root / "annotations" / "boxes.json").write_text("{}")
    assert find_images(root).splits == ["test", "train"]


def test_a_flat_folder_is_unlabelled(plant) -> None:
    """47: images in the root only have no label, and nothing is remarked."""
    images = find_images(plant("b.jpg", "a.jpg"))
    assert (images.names, images.labels, images.remarks) == (["a.jpg", "b.jpg"], ["", ""], [])


def test_root_images_among_class_folders_are_kept_unlabelled(plant) -> None:
    """Images beside class folders are included without a label, with a remark."""
    images = find_images(plant("cats/1.jpg", "stray.jpg"))
    assert images.labels == ["cats", ""]
    assert images.remarks == ["1 of 2 images lie beside the class folders and have no label"]


def test_one_class_is_a_class(plant) -> None:
    """49: a single class folder gives one label."""
    assert find_images(plant("only/1.jpg")).classes == ["only"]


def test_fifty_levels_of_folders(plant) -> None:
    """48: deep nesting is walked, and the label is still the first level."""
    images = find_images(plant("/".join(["deep"] * 50) + "/1.jpg"))
    assert images.labels == ["deep"]
    assert images.read(0).raw


def test_empty_and_imageless_folders_are_errors(tmp_path) -> None:
    """46: the error says what was found instead of images."""
    with pytest.raises(FeatcacheError, match="it is empty"):
        find_images(tmp_path)
    (tmp_path / "notes.TXT").write_text("x")
    (tmp_path / "Makefile").write_text("x")
    (tmp_path / "more.txt").write_text("x")
    with pytest.raises(FeatcacheError, match=r"3 files .*2 \.txt, 1 without extension"):
        find_images(tmp_path)


def test_a_path_that_is_not_there_names_its_neighbour(plant) -> None:
    """A misspelt folder brings the nearest name that exists."""
    root = plant("cats/1.jpg")
    with pytest.raises(FeatcacheError, match=r"did you mean '.*/photos'"):
        find_images(root.parent / "fotos")
    with pytest.raises(FeatcacheError, match=r"did you mean '.*/cats'"):
        find_images(root / "cat" / "1.jpg")
    with pytest.raises(FeatcacheError, match=r"zzz' is not there"):
        find_images(str(root / "zzzzzzzz"))


def test_an_empty_name_is_no_folder():
    """An empty variable of a script does not mean the current folder."""
    with pytest.raises(FeatcacheError, match="the images are an empty name"):
        find_images("")


def test_clutter_is_ignored_and_other_files_are_counted(plant) -> None:
    """45: hidden files, Thumbs.db, desktop.ini and __MACOSX go silently; other files do not."""
    root = plant("cats/1.jpg", ".git/2.jpg", "__MACOSX/cats/._1.jpg", "cats/.hidden.jpg")
    for name in ("Thumbs.db", "Desktop.ini", ".DS_Store", "cats/labels.csv", "cats/readme"):
        (root / name).write_text("x")
    images = find_images(root)
    assert images.names == ["cats/1.jpg"]
    assert images.remarks == ["ignored 2 files that are no images (1 .csv, 1 without extension)"]


def test_unsupported_images_are_listed(plant) -> None:
    """26, 27: HEIC, SVG and camera files become entries, so that they fail by name."""
    root = plant("a/1.jpg", "a/2.HEIC", "a/3.svg", "a/4.cr2", "a/5.docx")
    assert find_images(root).names == ["a/1.jpg", "a/2.HEIC", "a/3.svg", "a/4.cr2"]


def test_one_file_is_a_set_of_one(plant) -> None:
    """A single image has its stem for a name, and no label."""
    images = find_images(str(plant("cats/1.jpg") / "cats" / "1.jpg"))
    assert (images.name, images.names, images.labels) == ("1", ["1.jpg"], [""])
    assert images.read(0).raw


def test_a_list_of_paths_is_relative_to_their_common_folder(plant) -> None:
    """Paths are sorted with their labels; a repeated path and an empty list are errors."""
    root = plant("x/b.jpg", "x/y/a.jpg")
    images = find_images([root / "x/y/a.jpg", str(root / "x/b.jpg")], labels=["A", None])
    assert (images.names, images.labels) == (["b.jpg", "y/a.jpg"], ["", "A"])
    assert (images.name, images.root) == ("x", root / "x")
    assert images.read(1).raw == (root / "x/y/a.jpg").read_bytes()
    with pytest.raises(FeatcacheError, match=r"two images are called 'b\.jpg'"):
        find_images([root / "x/b.jpg"] * 2)
    with pytest.raises(FeatcacheError, match="empty"):
        find_images([])
    with pytest.raises(FeatcacheError, match="1 of 1 paths"):
        find_images([root / "x/none.jpg"])
    with pytest.raises(FeatcacheError, match="list of paths or a list of uint8 arrays"):
        find_images([1, "a"])


def test_labels_given_replace_those_of_the_folder(plant) -> None:
    """Labels, splits and groups are one each an image; numbers become text."""
    root = plant("cats/1.jpg", "dogs/2.jpg")
    images = find_images(root, name="n", labels=[1, 0], splits=["VAL", ""], groups=["g", None])
    assert (images.name, images.labels) == ("n", ["1", "0"])
    assert (images.splits, images.groups) == (["validation", ""], ["g", ""])
    with pytest.raises(FeatcacheError, match="give one an image"):
        find_images(root, labels=["a"])
    with pytest.raises(FeatcacheError, match="one label an image"):
        find_images(root, labels=[[0, 1], [1, 0]])
    with pytest.raises(FeatcacheError, match="'later' not known"):
        find_images(root, splits=["later", "train"])


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_the_order_is_that_of_the_bytes(tmp_path_factory, data) -> None:
    """However files were created and listed, names come in the order of their UTF-8 bytes."""
    alphabet = st.sampled_from("aAzZ0_- éß😀\uffee~")
    names = data.draw(
        st.lists(st.text(alphabet, min_size=1, max_size=4), min_size=1, max_size=8, unique=True)
    )
    root = tmp_path_factory.mktemp("order")
    for name in data.draw(st.permutations(names)):
        folder = root / f"c{len(name) % 2}"
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.jpg").write_bytes(b"x")
    found = find_images(root).names
    expected = sorted((f"c{len(name) % 2}/{name}.jpg" for name in names), key=str.encode)
    assert found == expected


def test_adding_a_file_moves_no_other(plant) -> None:
    """A new file in the middle leaves the order of the others as it was."""
    before = find_images(plant("a/1.jpg", "a/3.jpg", "b/1.jpg")).names
    after = find_images(plant("a/1.jpg", "a/2.jpg", "a/3.jpg", "b/1.jpg")).names
    assert [name for name in after if name != "a/2.jpg"] == before


def test_a_folder_link_is_followed_only_when_asked(plant, tmp_path) -> None:
    """Without --follow-symlinks a link to a folder is one remark; with it, its images count."""
    root = plant("cats/1.jpg")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "2.jpg").write_bytes((root / "cats/1.jpg").read_bytes())
    (root / "dogs").symlink_to(tmp_path / "elsewhere")
    plain = find_images(root)
    assert plain.names == ["cats/1.jpg"]
    assert "--follow-symlinks" in plain.remarks[0]
    assert "'dogs'" in plain.remarks[0]
    followed = find_images(root, follow_symlinks=True)
    assert followed.names == ["cats/1.jpg", "dogs/2.jpg"]
    assert followed.read(1).key == followed.read(0).key


def test_cycles_of_links_end(plant) -> None:
    """A link to a folder above it is walked once and remarked."""
    root = plant("cats/1.jpg")
    (root / "cats" / "up").symlink_to(root)
    (root / "cats" / "self").symlink_to(root / "cats")
    images = find_images(root, follow_symlinks=True)
    assert images.names == ["cats/1.jpg"]
    assert "2 links not followed, leading back to a folder above" in images.remarks[0]


@pytest.mark.slow
def test_a_hundred_thousand_files_in_one_folder(tmp_path) -> None:
    """50: a large folder is listed in seconds, and its stamps too."""
    names = [f"{number:06d}.jpg" for number in range(100_000)]
    random.Random(0).shuffle(names)
    for name in names:
        Path(tmp_path, name).touch()
    start = time.perf_counter()
    images = find_images(tmp_path)
    assert time.perf_counter() - start < 5
    assert images.names == sorted(names)


def test_an_unlistable_folder_is_named(tmp_path, plant) -> None:
    """A folder that vanishes under the walk, or whose path is too long, is an error by name."""
    root = plant("cats/1.jpg")
    here = os.open(root, os.O_RDONLY)
    try:
        deep = here
        for _ in range(18):
            os.mkdir("x" * 250, dir_fd=deep)
            deep = os.open("x" * 250, os.O_RDONLY, dir_fd=deep)
        with pytest.raises(FeatcacheError, match="more than 4096 bytes"):
            find_images(root)
    finally:
        os.close(here)
