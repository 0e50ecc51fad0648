"""featcache views: the picture of an image's augmented views."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from featcache.cli import app
from featcache.errors import FeatcacheError, StorageFailure
from featcache.evaluation.plots.pictures import draw_grid
from featcache.images.augment import Augmentation, view
from featcache.images.decoder import decode
from featcache.recipe import Decoding


def run(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def photo(tmp_path: Path, photographs: list[np.ndarray]) -> Path:
    path = tmp_path / "photo.png"
    Image.fromarray(photographs[0]).save(path)
    return path


def test_nine_pictures_in_one(photo, tmp_path):
    """The PNG holds three rows of three pictures; its name and the canonical text are told."""
    out = tmp_path / "grid.png"
    done = run("views", photo, "--augment", "flip-rotate", "--seed", 4, "--size", 64, "--out", out)
    assert done.exit_code == 0
    assert f"9 pictures of {photo} in {out}" in done.stdout
    assert "fill=reflect,flip,rotate=72.0, seed 4" in done.stdout
    with Image.open(out) as picture:
        assert picture.size == (750, 870)
    assert list(tmp_path.glob(".tmp-*")) == []


def test_the_pictures_are_the_views(photo, tmp_path):
    """Every view, and the plain image first, can be found in the picture pixel for pixel."""
    out, size = tmp_path / "grid.png", (240, 240)
    run("views", photo, "--count", 4, "--size", 240, "--seed", 2, "--out", out)
    with Image.open(out) as picture:
        drawn = np.asarray(picture.convert("RGB")).astype(int)
    raw = photo.read_bytes()
    plain = decode(raw, Decoding(size)).pixels
    for number, corner in enumerate([(0, 0), (0, 1), (1, 0), (1, 1)]):
        want = view(plain, Augmentation.parse("classic"), key=hashlib.sha256(raw).hexdigest(),
                    seed=2, number=number)  # fmt: skip
        half = [
            slice(c * n // 2, (c + 1) * n // 2) for c, n in zip(corner, drawn.shape, strict=False)
        ]
        assert best_match(drawn[tuple(half)], want.astype(int)) < 12


def best_match(picture: np.ndarray, want: np.ndarray) -> float:
    """The mean difference of `want`'s middle from the place in the picture where it fits best."""
    patch = want[60:180:4, 60:180:4]
    return min(
        float(np.abs(picture[y : y + 120 : 4, x : x + 120 : 4] - patch).mean())
        for y in range(picture.shape[0] - 120)
        for x in range(55, 75)
    )


def test_json_and_other_shapes(photo, tmp_path):
    """--json gives one object; any count, sides that differ and unrounded pixels are drawn."""
    out = tmp_path / "grid.png"
    done = run("views", photo, "--size", "40x80", "--count", 5, "--augment", "rotate=10",
               "--interpolation", "keras", "--resize", "pad", "--out", out, "--json")  # fmt: skip
    assert json.loads(done.stdout) == {
        "out": str(out), "views": 5, "augment": "rotate=10.0", "seed": 0, "size": [40, 80],
    }  # fmt: skip
    with Image.open(out) as picture:
        assert picture.width > picture.height


def test_the_same_command_writes_the_same_bytes(photo, tmp_path):
    """No date and no version is in the PNG."""
    for name in ("a.png", "b.png"):
        run("views", photo, "--count", 2, "--out", tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("PHOTO", "--augment", "flip,rotat=3"), 2, "did you mean rotate"),
        (("PHOTO", "--size", "12x"), 2, "--size"),
        (("PHOTO", "--size", "0"), 2, "--size 0: expected 1 to 4096"),
        (("PHOTO", "--size", "100000"), 2, "expected 1 to 4096"),
        (("PHOTO", "--resize", "stretch"), 2, "squash"),
        (("PHOTO", "--count", "0"), 2, "--count"),
        (("PHOTO", "--out", "views.jpg"), 2, "ends in .png"),
        (("PHOTO", "--out", "junk.png/views.png"), 5, "cannot write"),
        (("NOWHERE",), 2, "cannot read"),
        (("FOLDER",), 2, "expected one image"),
        (("JUNK",), 3, "not those of a JPEG"),
    ],
)
def test_wrong_input_has_an_exit_code_and_a_sentence(
    arguments, code, words, photo, tmp_path, monkeypatch
):
    """Each mistake has its exit code and words that help, and leaves no file behind."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "junk.png").write_text("no image at all")
    places = {"PHOTO": photo, "NOWHERE": "nothing.png", "FOLDER": tmp_path, "JUNK": "junk.png"}
    done = run("views", *[places.get(argument, argument) for argument in arguments])
    assert done.exit_code == code
    assert words in " ".join(done.stderr.split())
    assert {path.name for path in tmp_path.iterdir()} == {"photo.png", "junk.png"}


def test_titles_are_text_and_the_path_is_checked(tmp_path):
    """A dollar sign in a title is no formula; a name that is no PNG's is refused."""
    pictures = [np.zeros((4, 4, 3), np.uint8)] * 2
    draw_grid(pictures, ["$a_", "b$\\frac"], tmp_path / "a.png", heading="$$")
    with pytest.raises(FeatcacheError, match=r"\.png"):
        draw_grid(pictures, ["a", "b"], tmp_path / "a.gif")
    draw_grid(pictures, ["a", "b"], tmp_path / "new" / "a.png")
    with pytest.raises(StorageFailure, match="cannot write"):
        draw_grid(pictures, ["a", "b"], tmp_path / "a.png" / "a.png")
