"""File names are hostile: every one is kept apart, can be UTF-8, and can be read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from featcache.errors import FeatcacheError
from featcache.images import find_images

HOSTILE = [
    "new\nline",
    "tab\t",
    "esc\x1b[31mred",
    "right\u202eto left",
    "<img src=x onerror=alert(1)>",
    "=HYPERLINK(1)",
    "+1",
    "-rf",
    "--follow-symlinks",
    "@sum",
    "x..%2f..%2fetc",
    "C:\\x",
    "con",
    " leading",
    "trailing ",
    "😀",
    "e\u0301",
    "\u00e9",
    "a" * 250,
]


def test_hostile_names_are_names(plant) -> None:
    """37-41, 44: control characters, markup, formulas, dashes, twins of Unicode: all are kept."""
    paths = [f"{name}/1.jpg" for name in HOSTILE]
    images = find_images(plant(*paths))
    assert images.names == sorted(paths, key=str.encode)
    assert set(images.labels) == set(HOSTILE)
    keys = {images.read(index).key for index in range(len(images))}
    assert len(keys) == len(HOSTILE)


def test_names_that_are_not_utf_8_are_escaped(plant) -> None:
    """36: stray bytes show as \\x.., in names and labels, and the file is still read."""
    root = plant("cats/1.jpg")
    folder = os.fsencode(root) + b"/caf\xe9"
    Path(os.fsdecode(folder)).mkdir()
    Path(os.fsdecode(folder + b"/\xff.jpg")).write_bytes(b"bytes")
    images = find_images(root)
    assert images.names == ["caf\\xe9/\\xff.jpg", "cats/1.jpg"]
    assert images.labels == ["caf\\xe9", "cats"]
    assert images.read(0).raw == b"bytes"
    assert "".join(images.names + images.labels).encode("utf-8")
    assert find_images(os.fsdecode(folder)).name == "caf\\xe9"


def test_two_files_never_share_a_name(plant) -> None:
    """36: a byte that is escaped to another file's name is an error, not a lost image."""
    root = plant("\\xff.jpg")
    Path(os.fsdecode(os.fsencode(root) + b"/\xff.jpg")).write_bytes(b"bytes")
    with pytest.raises(FeatcacheError, match="two images are called"):
        find_images(root)


def test_many_long_labels(plant) -> None:
    """42, 43: five hundred labels of 250 bytes, more than 64 KB together."""
    names = [f"{number:03d}" + "é" * 120 for number in range(500)]
    images = find_images(plant(*[f"{name}/1.jpg" for name in names]))
    assert images.classes == sorted(names)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(
        st.binary(min_size=1, max_size=12).filter(
            lambda name: not set(name) & {0, 47} and name not in (b".", b"..")
        ),
        min_size=1,
        max_size=5,
        unique=True,
    )
)
def test_any_bytes_make_a_name(tmp_path_factory, names) -> None:
    """Whatever bytes the file system allows: sorted, encodable, readable, each its own."""
    root = tmp_path_factory.mktemp("names")
    for number, name in enumerate(names):
        file = os.fsencode(root) + b"/n" + name + b".jpg"
        Path(os.fsdecode(file)).write_bytes(b"%d" % number)
    try:
        images = find_images(root)
    except FeatcacheError as error:
        assert "two images are called" in str(error)  # noqa: PT017 - both outcomes are right
        return
    assert [name.encode() for name in images.names] == sorted(n.encode() for n in images.names)
    contents = {images.read(index).raw for index in range(len(images))}
    assert len(contents) == len(images) == len(names)
