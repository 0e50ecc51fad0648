"""What a data set knows of its images is not taken away by a later call without a word."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from made_features import make_images
from typer.testing import CliRunner

import featcache
from featcache.cli import app
from featcache.errors import FeatcacheError
from featcache.images import find_images

K = {"backbone": "efficientnet_lite0", "size": 32}


@pytest.fixture(scope="module")
def slides(tmp_path_factory) -> Path:
    """Twelve images in two classes, with a table of splits, patients and sites beside them."""
    root = make_images(tmp_path_factory.mktemp("keeping") / "slides", 12)
    write(root / "splits.csv", find_images(root).names)
    return root


def write(path: Path, names: list[str], **changes: str) -> Path:
    """A manifest of some images; `changes` are cells of the last line."""
    rows = [
        {"path": name, "label": name.split("/")[0], "split": "test" if at % 3 == 0 else "train",
         "group": f"p{at // 2}", "site": "Rome"}
        for at, name in enumerate(names)
    ]  # fmt: skip
    rows[-1] |= changes
    with path.open("w", newline="") as file:
        lines = csv.DictWriter(file, list(rows[0]))
        lines.writeheader()
        lines.writerows(rows)
    return path


def known(cache: Path, name: str = "slides"):
    found = featcache.load(name, cache=cache)
    return (found.labels.tolist(), found.splits.tolist(), found.groups.tolist(),
            found.metadata["site"].tolist())  # fmt: skip


LATER = {
    "the same call": {},
    "another layer": {"layer": "stride32"},
    "other vectors": {"dtype": "float16"},
    "with the name": {"name": "slides"},
}


@pytest.mark.parametrize("later", LATER)
def test_a_folder_after_its_manifest_is_refused(slides, tmp_path, later) -> None:
    """Splits, groups and metadata would be gone: it stops, says of how many images, and how on."""
    cache = tmp_path / "cache"
    featcache.extract(slides / "splits.csv", name="slides", cache=cache, **K)
    before = known(cache)
    with pytest.raises(FeatcacheError) as caught:
        featcache.extract(slides, cache=cache, **K, **LATER[later])
    words = str(caught.value)
    assert "splits of 12 images, groups of 12 images, metadata 'site' of 12 images" in words
    assert f"featcache extract {slides / 'splits.csv'} --name slides" in words
    assert known(cache) == before
    assert len(list(cache.glob("slides/*/features.h5"))) == 1
    forgotten = featcache.extract(slides, cache=cache, forget=True, **K, **LATER[later])
    assert set(forgotten.groups) == {""}
    assert any("forgotten: splits of 12 images" in each for each in forgotten.run.remarks)


def test_what_said_it_again_is_taken_for_every_layer(slides, tmp_path) -> None:
    """The manifest itself, with its name, changes nothing and needs no word."""
    cache = tmp_path / "cache"
    first = featcache.extract(slides / "splits.csv", name="slides", cache=cache, **K)
    second = featcache.extract(
        slides / "splits.csv", name="slides", layer="stride32", cache=cache, **K
    )
    assert second.groups.tolist() == first.groups.tolist()
    assert not any("slides:" in each for each in second.run.remarks)


def test_labels_given_in_python_are_kept_too(slides, tmp_path) -> None:
    """A flat folder whose labels came from a dict does not lose them to a call without."""
    cache, root = tmp_path / "cache", tmp_path / "flat"
    root.mkdir()
    for at, name in enumerate(find_images(slides).names):
        (root / f"{at}.png").write_bytes((slides / name).read_bytes())
    labels = {f"{at}.png": "ab"[at % 2] for at in range(12)}
    featcache.extract(root, labels=labels, cache=cache, **K)
    with pytest.raises(FeatcacheError, match=r"labels of 12 images.*labels, splits and groups"):
        featcache.extract(root, cache=cache, **K)
    again = featcache.extract(root, labels=labels, cache=cache, **K)
    assert set(again.labels) == {"a", "b"}


def test_changes_are_counted(slides, tmp_path) -> None:
    """An edited manifest is taken, and it is said how many images change what."""
    cache = tmp_path / "cache"
    featcache.extract(slides / "splits.csv", name="slides", cache=cache, **K)
    names = find_images(slides).names
    edited = write(slides / "edited.csv", names, label="cow", group="", site="Oslo")
    try:
        found = featcache.extract(edited, name="slides", cache=cache, **K)
    finally:
        edited.unlink()
    told = [each for each in found.run.remarks if each.startswith("slides: ")]
    assert told == [
        "slides: labels by image: 1 changed, 0 lost",
        "slides: groups by image: 0 changed, 1 lost",
        "slides: metadata 'site' by image: 1 changed, 0 lost",
    ]


def test_images_that_left_are_no_loss(slides, tmp_path) -> None:
    """Only what is known of the images of the call counts; new ones are free to have nothing."""
    cache = tmp_path / "cache"
    names = find_images(slides).names
    featcache.extract(slides / "splits.csv", name="slides", cache=cache, **K)
    part = write(slides / "part.csv", names[:5])
    try:
        found = featcache.extract(part, name="slides", cache=cache, **K)
    finally:
        part.unlink()
    assert len(found) == 5
    assert not any(each.startswith("slides: ") for each in found.run.remarks)


def test_the_command_line_stops_likewise(slides, tmp_path) -> None:
    """Exit code 2, nothing is written; --forget goes on."""
    cache = tmp_path / "cache"

    def run(*arguments):
        lite = ("--backbone", "efficientnet_lite0", "--size", "32", "--cache", cache)
        return CliRunner().invoke(app, [str(each) for each in ("extract", *arguments, *lite)])

    assert run(slides / "splits.csv", "--name", "slides").exit_code == 0
    stopped = run(slides, "--layer", "stride16")
    assert stopped.exit_code == 2
    assert "or --forget" in stopped.output
    assert run(slides, "--layer", "stride16", "--forget").exit_code == 0


def test_a_name_does_not_change_hands_where_something_would_be_lost(slides, tmp_path) -> None:
    """Other images under --name, of which nothing else is known, are refused before."""
    cache = tmp_path / "cache"
    featcache.extract(slides / "splits.csv", name="slides", cache=cache, **K)
    marker = (cache / "slides" / "featcache.json").read_bytes()
    listed = [str(slides / name) for name in find_images(slides).names if name[:3] == "cat"]
    with pytest.raises(FeatcacheError, match="would be gone"):
        featcache.extract(listed, name="slides", cache=cache, **K)
    assert (cache / "slides" / "featcache.json").read_bytes() == marker


def test_arrays_are_known_by_their_bytes(tmp_path) -> None:
    """Other arrays in the same places are other images; the same ones do not lose their labels."""
    cache = tmp_path / "cache"
    pixels = np.random.default_rng(3).integers(0, 255, (8, 16, 16, 3), dtype=np.uint8)
    featcache.extract(pixels[:4], labels=list("abab"), cache=cache, **K)
    assert set(featcache.extract(pixels[4:], cache=cache, **K).labels) == {""}
    featcache.extract(pixels[:4], labels=list("abab"), cache=cache, **K)
    with pytest.raises(FeatcacheError, match="labels of 4 images"):
        featcache.extract(pixels[3::-1], cache=cache, **K)
