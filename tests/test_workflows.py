"""The five workflows as scripts: each runs from a folder of images to its pictures, offline."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from featcache.cli import app
from featcache.images.datasets import FASHION_PLACES, write_dataset

SCRIPTS = Path(__file__).parents[1] / "scripts" / "workflows"
COMMANDS = {command.name for command in app.registered_commands}

#: What each script is told here instead of a network that must be downloaded.
OFFLINE = {
    "w1_frozen_hub_base": {"VIEWS": "1"},
    "w2_intermediate_layer": {"LAYER": "block11_expand_activation", "VIEWS": "1"},
    "w3_classic_vgg16": {
        "LAYER": "head_activation",
        "OTHER": "block11_expand_activation",
        "UNFREEZE": "head_conv",
    },
    "w4_extract_then_fine_tune": {"VIEWS": "1", "CLASSIFIER": "efficientnet_lite0"},
    "w5_tiny_data_set": {
        "LAYER": "stride32",
        "CUTS": "block5_expand_activation block11_expand_activation",
    },
}

#: Heads that are fitted to compare layers.
COMPARED = {"w3_classic_vgg16": ["w3-other.head"], "w5_tiny_data_set": ["cut.head"]}

#: The others take longer than a default test should.
QUICK = ("w3_classic_vgg16", "w4_extract_then_fine_tune")


def deal(digits: Path, folder: Path, *splits: str) -> Path:
    """Two classes of digits: a fifth of the images for each of `splits`, the rest in train/."""
    for kind in ("3", "8"):
        for number, path in enumerate(sorted((digits / kind).iterdir())):
            split = splits[number % 5] if number % 5 < len(splits) else "train"
            (folder / split / kind).mkdir(parents=True, exist_ok=True)
            shutil.copy(path, folder / split / kind)
    return folder


def run(script: str, images: Path, out: Path, **settings: str) -> str:
    """The output of a script, which must succeed."""
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "BACKBONE": "efficientnet_lite0",
        **OFFLINE[script],
        **settings,
    }
    environment.pop("FEATCACHE_DIR", None)
    done = subprocess.run(
        ["sh", SCRIPTS / f"{script}.sh", images, out],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def epochs(command: str, wanted: str) -> str:
    """So many epochs of a step, 0 where this featcache does not have its command."""
    return wanted if command in COMMANDS else "0"


def test_each_script_is_known_here():
    """A workflow that is added is run."""
    assert {path.stem for path in SCRIPTS.glob("*.sh")} == set(OFFLINE)


@pytest.mark.parametrize(
    "script",
    [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in OFFLINE],
)
def test_a_workflow_runs_from_images_to_pictures(script, digits, tmp_path):
    """Its head is fitted on cached vectors with the workflow's settings, judged and drawn."""
    last = "test" if script.startswith("w5") else "validation"
    images = deal(digits, tmp_path / "images", "validation", last)
    tuned = script.startswith("w4")
    said = run(
        script, images, tmp_path / "out",
        SIZE="32", BASELINE_EPOCHS="0", TUNE_EPOCHS="1" if tuned else "0",
    )  # fmt: skip
    assert "accuracy   " in said
    assert ("epoch 11/11" in said) == tuned
    assert (tmp_path / "out" / "tuned-plots" / "history.png").is_file() == tuned
    for name in ("confusion", "reliability", "history", "predictions"):
        with Image.open(tmp_path / "out" / "head" / f"{name}.png") as picture:
            assert min(picture.size) > 200
    heads = {path.name for path in (tmp_path / "out").glob("*.head")}
    assert heads == {f"{script[:2]}.head", *COMPARED.get(script, ())}


def test_w4_takes_any_photographs_name_or_stops(digits, tmp_path):
    """Names such as IMG.JPG and a.jpeg will do; without an image it stops, and classifies none."""
    script = ["sh", SCRIPTS / "w4_extract_then_fine_tune.sh", tmp_path / "images", tmp_path / "out"]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "CLASSIFIER": "0", "EXTRACT": "--no-such-option"}
    (tmp_path / "images").mkdir()
    done = subprocess.run(script, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "no image in it whose name ends in" in done.stderr
    assert "featcache" not in done.stderr
    with Image.open(next(digits.glob("3/*.png"))) as image:
        image.convert("RGB").save(tmp_path / "images" / "IMG.JPG", "JPEG")
    done = subprocess.run(script, env=environment, capture_output=True, text=True, check=False)
    assert "10 pictures of" in done.stdout
    assert "IMG.JPG in" in done.stdout
    assert "featcache classify" not in done.stderr
    assert "no-such-option" in done.stderr


@pytest.fixture(scope="module")
def clothing(tmp_path_factory) -> Path:
    """A slice of Fashion-MNIST: sandals and sneakers, 200, 60 and 60 of each in three splits."""
    if not any(place.expanduser().is_dir() for place in FASHION_PLACES):
        pytest.skip("Fashion-MNIST is not on this machine")
    place = tmp_path_factory.mktemp("clothing")
    write_dataset("fashion_mnist", place / "all")
    for split, source, first, last in (
        ("train", "train", 0, 200), ("validation", "train", 200, 260), ("test", "test", 0, 60),
    ):  # fmt: skip
        for kind in ("sandal", "sneaker"):
            (place / "slice" / split / kind).mkdir(parents=True)
            for path in sorted((place / "all" / source / kind).iterdir())[first:last]:
                shutil.copy(path, place / "slice" / split / kind)
    shutil.rmtree(place / "all")
    return place / "slice"


@pytest.mark.slow
@pytest.mark.parametrize("script", OFFLINE)
def test_a_workflow_runs_to_its_end_on_pieces_of_clothing(script, clothing, tmp_path):
    """With the steps that train networks, where this featcache has them."""
    shutil.copytree(clothing, tmp_path / "images")
    if script.startswith("w4"):
        shutil.rmtree(tmp_path / "images" / "test")  # W4 makes its own test split
    said = run(
        script, tmp_path / "images", tmp_path / "out",
        SIZE="96", BASELINE_EPOCHS=epochs("baseline", "2"), TUNE_EPOCHS=epochs("finetune", "2"),
    )  # fmt: skip
    assert "accuracy   " in said
    text = (SCRIPTS / f"{script}.sh").read_text()
    for command, folder in (("baseline", "baseline"), ("finetune", "tuned-plots")):
        if command in COMMANDS and f"featcache {command}" in text:
            assert (tmp_path / "out" / folder / "history.png").is_file()
