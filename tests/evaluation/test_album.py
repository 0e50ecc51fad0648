"""The album: nine judged images with predicted and true names, from the files as they were."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import featcache
from featcache.cli import app
from featcache.evaluation.album import album_of
from featcache.features.claims import MARKER
from featcache.features.splits.partition import uniform


@pytest.fixture
def found(digits, digit_features, tmp_path):
    """Features whose images lie in a folder of the test's own, and a head on them."""
    images = tmp_path / "images"
    shutil.copytree(digits, images)
    shutil.copytree(digit_features, tmp_path / "cache")
    marker = tmp_path / "cache" / "digits" / MARKER
    marker.write_text(marker.read_text().replace(str(digits.resolve()), str(images.resolve())))
    features = featcache.load("digits", cache=tmp_path / "cache")
    head = featcache.fit_head(features, head="centroid", out=tmp_path / "a.head")
    return images, features, head


def test_nine_images_with_what_the_head_says_of_them(found):
    """The same nine in any order of the rows; names and probabilities are the head's."""
    _, features, head = found
    album = album_of(head, features)
    assert (len(album.pictures), album.remark) == (9, "")
    assert {picture.shape for picture in album.pictures} == {(160, 160, 3)}
    backwards = album_of(head, features[::-1])
    assert backwards.true == album.true
    assert all(map(np.array_equal, backwards.pictures, album.pictures))
    shown = features[np.argsort([uniform(str(key), "album") for key in features.keys])[:9]]
    probabilities = head.predict_proba(shown)
    assert album.true == shown.labels.tolist()
    assert album.predicted == [head.classes[code] for code in probabilities.argmax(axis=1)]
    assert album.probabilities == pytest.approx(probabilities.max(axis=1))
    assert len(album_of(head, features[:4]).pictures) == 4


def test_a_picture_is_of_the_very_bytes_that_were_judged(found):
    """A file that was changed or removed gives no picture, and the remark counts them."""
    images, features, head = found
    nine = album_of(head, features)
    for path in images.rglob("*.png"):
        if path.parent.name == nine.true[0]:
            path.write_bytes(path.read_bytes() + b"\0")
        elif path.parent.name != nine.true[1]:
            path.unlink()
    left = [name == nine.true[1] != nine.true[0] for name in nine.true]
    album = album_of(head, features)
    assert len(album.pictures) == sum(left) < 9
    assert f"{9 - sum(left)} of 9 images are not in {images}" in album.remark
    shutil.rmtree(images)
    assert album_of(head, features).pictures == []


def test_features_without_a_known_folder_have_no_album(found, tmp_path):
    """A cache that was mailed, or arrays: a remark, no failure."""
    _, features, head = found
    lost = replace(features, path=tmp_path / "elsewhere" / "x" / "features.h5")
    assert "no folder of images known" in album_of(head, lost).remark


@pytest.mark.parametrize("command", ["fit-head", "evaluate"])
def test_plots_hold_the_album_where_the_images_are_still_there(command, found, tmp_path):
    """predictions.png is drawn; without the images a line says so, and the rest is drawn."""
    images, _, head = found
    cache = ["--cache", str(tmp_path / "cache")]
    arguments = {
        "fit-head": ["fit-head", "digits", "--head", "centroid", "--out", str(tmp_path / "b.head")],
        "evaluate": ["evaluate", str(head.path), "digits"],
    }[command]
    for folder, there in (("with", True), ("without", False)):
        if not there:
            shutil.rmtree(images)
        done = CliRunner().invoke(app, [*arguments, *cache, "--plots", str(tmp_path / folder)])
        assert done.exit_code == 0, done.output
        assert Path(tmp_path / folder / "predictions.png").is_file() == there
        assert Path(tmp_path / folder / "confusion.png").is_file()
        assert ("note: predictions.png: 9 of 9 images are not in" in done.stderr) != there
