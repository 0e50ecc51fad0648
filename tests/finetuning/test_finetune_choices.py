"""Choices in a fine-tuning: two classes by one sigmoid, weighted classes, and what is printed."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import featcache
from featcache.backbones.keras_import import import_keras
from featcache.cli import app
from featcache.features.splits.roles import assign_roles
from featcache.heads.head import Head
from featcache.images.decoder import decode
from featcache.recipe import Decoding
from tests.finetuning.tuning_samples import QUICK, save_network

#: Keras's own saving and OpenVINO's conversion warn of what we cannot change.
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The structure of `inputs`:UserWarning"),
]


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with own.keras; `images` will be there too."""
    folder = tmp_path_factory.mktemp("choices")
    save_network(folder / "own.keras")
    return folder


@pytest.fixture(scope="module")
def images(digits, place) -> Path:
    """Ones and threes, more than twice as many threes."""
    for kind, count in (("1", 12), ("3", 30)):
        (place / "two classes" / kind).mkdir(parents=True)
        for path in sorted((digits / kind).iterdir())[:count]:
            (place / "two classes" / kind / path.name).write_bytes(path.read_bytes())
    return place / "two classes"


@pytest.fixture(scope="module")
def options(place) -> dict[str, object]:
    return {
        "backbone": str(place / "own.keras"), "trust_model": True, "scale": "0..1",
        "cache": place / "cache",
    }  # fmt: skip


def test_one_sigmoid_stays_one(images, options, tmp_path):
    """A head of one sigmoid output is tuned as it is; the bare model gives both probabilities."""
    head = featcache.fit_head(
        featcache.extract(images, **options), head="dense", binary_sigmoid=True, epochs=2,
        out=tmp_path / "a.head",
    )  # fmt: skip
    out = tmp_path / "out"
    result = featcache.finetune(
        images, head=head.path, out=out, trust_model=True, cache=options["cache"], **QUICK
    )
    assert result.head.model.arrays["0.kernel"].shape == (8, 1)
    model = import_keras().saving.load_model(out / "classifier.keras")
    names = sorted((images / "3").iterdir())[:4]
    pixels = np.stack([decode(path.read_bytes(), Decoding((16, 16))).pixels for path in names])
    answers = Head.load(out).predict_images(names, top=2, cache=tmp_path, trust_model=True)
    for row, answer in zip(np.asarray(model(pixels)), answers, strict=True):
        said = dict(zip(answer.classes, answer.probabilities, strict=True))
        assert np.abs(row - [said["1"], said["3"]]).max() < 1e-5


@pytest.mark.parametrize("way", ["yes", "no"])
def test_balanced_classes_count_the_same(way, images, options, tmp_path):
    """With --class-weight balanced the loss that is learned from is that of weighted classes."""
    features = featcache.extract(images, **options)
    head = featcache.fit_head(features, C=0.1, out=tmp_path / "a.head")
    result = featcache.finetune(
        images, out=tmp_path / "out", head=head.path, unfreeze_from="last", from_cut=way,
        class_weight="balanced", epochs=1, learning_rate=1e-12, trust_model=True,
        cache=options["cache"],
    )  # fmt: skip
    rows = features[assign_roles(features, 0, stopped=True).train]
    codes = np.searchsorted(rows.classes, rows.labels)
    counts = np.bincount(codes)
    assert counts[1] > 2 * counts[0]
    losses = -np.log(head.predict_proba(rows)[np.arange(len(rows)), codes])
    weighted = float((losses * (len(rows) / (2 * counts))[codes]).mean())
    assert result.learned.history["loss"][0] == pytest.approx(weighted, rel=1e-2)
    assert abs(losses.mean() / weighted - 1) > 0.05


def test_the_printed_command_works(images, options, tmp_path):
    """A high rate is remarked on, and the command for the head works as it is printed."""
    cache = ["--cache", str(options["cache"])]
    done = CliRunner().invoke(
        app,
        ["finetune", str(images), "--backbone", options["backbone"], "--scale", "0..1",
         "--trust-model", "--out", str(tmp_path / "my out"), "--epochs", "1",
         "--unfreeze-from", "all", "--learning-rate", "0.001", *cache],
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    told = " ".join(done.stderr.split())
    assert "note: every layer learns at a rate of 0.001" in told
    printed = re.search(r"\(featcache (predict .*)\)", done.stdout)
    assert printed, done.stdout
    predicted = CliRunner().invoke(app, [*shlex.split(printed[1]), *cache])
    assert predicted.exit_code == 0, predicted.stderr
    assert len(predicted.stdout.splitlines()) == len([*images.glob("*/*.png")])
