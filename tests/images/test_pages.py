"""--pages each: every page of a file of several is an image of its own, with a name and a key."""

from __future__ import annotations

import hashlib
import pickle
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile
from specimens import picture, saved

from featcache.errors import FeatcacheError
from featcache.images import find_images
from featcache.images.decoder import decode
from featcache.images.pages import page_key, split_page
from featcache.recipe import Decoding

PAGES = [picture(30, 40, seed)[..., 0] for seed in range(12)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes: a stack of twelve pages, a stack of two, a plain TIFF and a JPEG."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    tifffile.imwrite(tmp_path / "a/stack.tif", np.stack(PAGES), photometric="minisblack")
    tifffile.imwrite(tmp_path / "b/two.tif", np.stack(PAGES[:2]), photometric="minisblack")
    tifffile.imwrite(tmp_path / "b/one.tif", PAGES[0], photometric="minisblack")
    (tmp_path / "b/photo.jpg").write_bytes(saved(picture(), "JPEG"))
    return tmp_path


def test_every_page_is_an_image(folder):
    """Names, labels, keys and pixels are those of the pages; other files stay as they are."""
    images = find_images(folder, pages="each")
    plain = find_images(folder)
    assert (len(images), len(plain)) == (16, 4)
    digest = hashlib.sha256((folder / "a/stack.tif").read_bytes()).hexdigest()
    for page, pixels in enumerate(PAGES):
        at = images.names.index(f"a/stack.tif#page={page}")
        read = images.read(at)
        assert read.key == page_key(digest, page)
        assert read.key == hashlib.sha256(f"{digest}#page={page}".encode()).hexdigest()
        decoded = decode(read.content, Decoding((30, 40)))
        assert np.array_equal(decoded.pixels[..., 0], pixels)
        assert decoded.notes == ()
        assert (images.labels[at], images.groups[at]) == ("a", "a/stack.tif")
    for name in ("b/one.tif", "b/photo.jpg"):
        at, before = images.names.index(name), plain.names.index(name)
        assert images.read(at).key == plain.read(before).key
        assert images.groups[at] == ""
    assert images.names == sorted(images.names)


def test_a_stack_is_read_once_for_its_pages_and_again_when_it_changes(folder):
    """Pages one after the other share what was read; a changed file has other keys."""
    images = find_images(folder, pages="each")
    first, second = images.read(0), images.read(1)
    assert first.raw is second.raw
    assert first.key != second.key
    time.sleep(0.02)
    tifffile.imwrite(folder / "a/stack.tif", np.stack(PAGES[::-1]), photometric="minisblack")
    assert images.read(0).key != first.key


def test_pages_travel_to_other_processes(folder):
    """A set of pages pickles small, and reads the same there."""
    images = find_images(folder, pages="each")
    key = images.read(0).key
    packed = pickle.dumps(images)
    assert len(packed) < 10_000
    assert pickle.loads(packed).read(0).key == key


def test_a_file_that_cannot_be_counted_is_one_image(folder):
    """A damaged stack stays in the list, and reading it says what is wrong."""
    (folder / "a/bad.tif").write_bytes(b"II*\0" + bytes(20))
    (folder / "a/bad.dcm").write_bytes(bytes(128) + b"DICM" + bytes(9))
    names = find_images(folder, pages="each").names
    assert {"a/bad.tif", "a/bad.dcm"} <= set(names)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a/stack.tif#page=3", ("a/stack.tif", 3)), ("a/stack.tif", ("a/stack.tif", None)),
        ("x#page=.tif", ("x#page=.tif", None)), ("#page=3", ("#page=3", None)),
    ],
)  # fmt: skip
def test_a_name_is_taken_apart(name, expected):
    """The file and the page of a row's name."""
    assert split_page(name) == expected


def test_another_word_is_refused(folder):
    """--pages is first or each."""
    with pytest.raises(FeatcacheError, match="--pages 'all' is not one of first, each"):
        find_images(folder, pages="all")
