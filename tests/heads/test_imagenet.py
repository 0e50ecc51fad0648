"""classify: what a backbone itself sees in images."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from PIL import Image
from typer.testing import CliRunner

from featcache.backbones.opening import BackboneSource
from featcache.cli import app
from featcache.errors import FeatcacheError
from featcache.heads.imagenet import classify
from featcache.images import find_images
from tests.backbones.networks import grace_hopper

LITE = "efficientnet_lite0"
#: More images than are under way at once.
COUNT = 37


def run(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def mixture(tmp_path: Path) -> Path:
    """More files than a batch: by turns an admiral, a cat, and no image."""
    root = tmp_path / "mixture"
    root.mkdir()
    Image.fromarray(skimage.data.chelsea()).save(tmp_path / "cat.png")
    for number in range(COUNT):
        name = f"{number:02d}-{('hopper', 'cat', 'junk')[number % 3]}.jpg"
        if number % 3 == 2:
            (root / name).write_bytes(b"junk")
        else:
            shutil.copy((grace_hopper(), tmp_path / "cat.png")[number % 3], root / name)
    return root


def test_grace_hopper_wears_a_military_uniform():
    """The photograph of Admiral Hopper, offline, with the default backbone."""
    done = run("classify", grace_hopper(), "--json")
    assert done.exit_code == 0
    record = json.loads(done.stdout)
    (prediction,) = record["predictions"]
    assert record["backbone"] == "efficientnet_lite0"
    assert prediction["top"][0]["class"] == "military uniform"
    assert prediction["top"][0]["probability"] > 0.3
    assert len(prediction["top"]) == 5


def test_each_image_gets_its_own_answer(mixture):
    """Across batches and bad images no prediction is given to another image."""
    predictions = list(classify(find_images(mixture), LITE, BackboneSource(), top=1))
    assert len(predictions) == COUNT
    cats = {"tabby", "tiger cat", "Egyptian cat"}
    for prediction in predictions:
        if "junk" in prediction.name:
            assert prediction.failure
            assert prediction.classes == []
        elif "hopper" in prediction.name:
            assert prediction.classes == ["military uniform"]
        else:
            assert set(prediction.classes) <= cats


def test_a_csv_has_a_line_for_each_image(mixture, tmp_path):
    """--out writes the classes, the probabilities and the reasons of failures."""
    for path in sorted(mixture.iterdir())[3:]:
        path.unlink()
    done = run("classify", mixture, "--top", 2, "--out", tmp_path / "p.csv")
    assert done.exit_code == 0
    with (tmp_path / "p.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3
    assert rows[0]["class_1"] == "military uniform"
    assert float(rows[0]["probability_1"]) > float(rows[0]["probability_2"])
    assert rows[2]["failure"]
    assert not rows[2]["class_1"]


def test_images_of_which_none_can_be_used_are_an_error(tmp_path):
    """Exit code 3 where every image is bad."""
    (tmp_path / "bad.jpg").write_bytes(b"bad")
    assert run("classify", tmp_path).exit_code == 3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--backbone", "efficientnet_lite1"), "efficientnet_lite0"),
        (("--weights", "nowhere.h5"), "--weights"),
        (("--top", "0"), ""),
        (("--out", "p.xls"), ".csv or .json"),
    ],
)
def test_wrong_options_are_told(arguments, words):
    """Exit code 2 and a sentence."""
    done = run("classify", grace_hopper(), *arguments)
    assert done.exit_code == 2
    assert words in done.stderr


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:The structure of `inputs`:UserWarning")
def test_a_classifier_of_1001_logits_is_offset_by_one(tmp_path):
    """A hub classifier counts a background class first and gives logits: names and chances fit."""
    import keras

    pixels = keras.Input((32, 32, 3))
    mean = keras.layers.GlobalAveragePooling2D()(pixels)
    bias = np.zeros(1001, np.float32)
    bias[653], bias[286] = 9.0, 8.0  # military uniform is 652 of the 1000, Egyptian cat 285
    start = keras.initializers.Constant(bias)
    logits = keras.layers.Dense(1001, kernel_initializer="zeros", bias_initializer=start)(mean)
    keras.Model(pixels, logits).export(str(tmp_path / "hub"), verbose=False)
    source = BackboneSource(scale="0..1", trusted=True)
    (prediction,) = classify(find_images(grace_hopper()), str(tmp_path / "hub"), source, top=2)
    assert prediction.classes == ["military uniform", "Egyptian cat"]
    assert prediction.probabilities[0] == pytest.approx(1 / (1 + np.exp(-1)), rel=0.15)


def test_no_classes_are_refused():
    """From Python, too, at least one class must be asked for."""
    with pytest.raises(FeatcacheError, match="--top"):
        next(classify(find_images(grace_hopper()), LITE, BackboneSource(), top=0))


def test_the_table_of_networks_needs_no_keras():
    """`featcache backbones` lists figures, sources and whereabouts without importing Keras."""
    code = (
        "import sys; from featcache.cli import app\n"
        "try: app(['backbones', '--json'])\n"
        "except SystemExit: pass\n"
        "sys.exit(any(m.split('.')[0] in ('keras', 'tensorflow', 'sklearn') for m in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    rows = {row["name"]: row for row in json.loads(done.stdout)["backbones"]}
    assert rows["vgg16"]["parameters"] == 138_357_544
    assert (rows["vgg16"]["top1"], rows["vgg16"]["top5"]) == (71.3, 90.1)
    assert rows["convnexttiny"]["top5"] is None
    assert rows["efficientnet_lite0"]["weights"] == "embedded"
    assert "keras.io" in rows["vgg16"]["published_by"]


def test_the_table_of_networks_can_be_searched_and_measured():
    """--search narrows the list; --measure adds a plausible speed of this machine."""
    done = run("backbones", "--search", "lite0", "--measure")
    assert done.exit_code == 0
    heading, row, source = done.stdout.splitlines()
    assert row.startswith("efficientnet_lite0")
    assert "75.1" in row
    speed, runtime, batch = row.split()[-3:]
    assert "images/s" in heading
    assert 1 < float(speed) < 1e6
    assert runtime in ("openvino", "tensorflow")
    assert int(batch) >= 1
    assert "github.com/tensorflow/tpu" in source


def test_layers_can_be_searched():
    """--search looks into names, classes and aliases; --json has every column."""
    done = run("layers", "resnet50", "--search", "stride", "--json")
    rows = json.loads(done.stdout)["layers"]
    assert [row["alias"] for row in rows] == [
        "stride2",
        "stride4",
        "stride8",
        "stride16",
        "stride32",
    ]
    assert rows[-1] == {
        "name": "conv5_block3_out", "class": "Activation", "shape": [7, 7, 2048],
        "numbers": 100352, "bytes": 401408, "cut": True, "alias": "stride32", "top": False,
    }  # fmt: skip
    assert "penultimate" in run("layers", "resnet50", "--search", "avg_pool").stdout
