"""Fine-tuning from end to end: the parts agree, what comes out is one thing, nothing is lost."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import featcache
from featcache.backbones.keras_import import import_keras
from featcache.errors import FeatcacheError
from featcache.heads.head import Head
from featcache.images.decoder import decode
from featcache.recipe import Decoding
from tests.finetuning.tuning_samples import QUICK, save_network, striped, tuned

#: Keras's own saving and OpenVINO's conversion warn of what we cannot change.
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The structure of `inputs`:UserWarning"),
]


@pytest.fixture(scope="module")
def network(tmp_path_factory) -> Path:
    return save_network(tmp_path_factory.mktemp("network") / "own.keras")


@pytest.fixture(scope="module")
def outcome(tmp_path_factory, digits, network):
    """The digits, tuned from the cut: (what came out, the lines that were said)."""
    lines: list[str] = []
    out = tmp_path_factory.mktemp("tuned") / "out"
    return tuned(digits, network, out, unfreeze_from="last", say=lines.append), lines


def test_it_says_what_it_does(outcome):
    """Parameters, the cut and its size, and the first loss and accuracy are said beforehand."""
    _, lines = outcome
    text = "\n".join(lines)
    first = text.index("epoch 1/2")
    for words in ("trainable", "cut at joined (8x8x6)", "before the first epoch: validation loss"):
        assert 0 <= text.index(words) < first, words


def test_the_first_logits_are_the_cached_heads(outcome):
    """Before the first epoch they are, but for the rounding of float16 activations: it is said."""
    result, lines = outcome
    found = result.about["start"]
    assert found["images"] > 20
    assert found["changed"] == 0
    assert 0 < found["share"] < 1e-2
    assert any("--cut-dtype float32" in line for line in lines) == (found["share"] > 1e-3)


def test_what_comes_out_is_a_backbone(outcome, digits, network):
    """Its vectors differ from the frozen ones', its frozen layers do not, and it is found again."""
    result, _ = outcome
    cache = result.folder.parent / "cache"
    options = {"cache": cache, "trust_model": True}
    features = featcache.extract(digits, backbone=str(result.folder), **options)
    assert features.run.extracted == 0
    assert features.path.parent.name.startswith("out-")
    frozen = featcache.extract(digits, backbone=str(network), scale="0..1", **options)
    assert np.abs(features.vectors - frozen.vectors).max() > 1e-3
    load = import_keras().saving.load_model
    old, new = load(network), load(result.folder / "backbone.keras")
    for layer in ("first", "branch", "first_bn"):
        for mine, theirs in zip(
            new.get_layer(layer).get_weights(), old.get_layer(layer).get_weights(), strict=True
        ):
            assert np.array_equal(mine, theirs)
    before, after = (model.get_layer("last").get_weights()[0] for model in (old, new))
    assert np.abs(before - after).max() > 1e-4


def test_predict_and_the_bare_model_agree(digits, tmp_path):
    """On the same pixels, predict and the Keras file give the same probabilities to 1e-5."""
    out = tmp_path / "out"
    cache = tmp_path / "cache"
    features = featcache.extract(digits, backbone="efficientnet_lite0", size=32, cache=cache)
    # Large coefficients would magnify the rounding of the vectors.
    head = featcache.fit_head(features, C=0.001, out=tmp_path / "a.head")
    result = featcache.finetune(digits, head=head.path, out=out, epochs=1, cache=cache)
    model = import_keras().saving.load_model(out / "classifier.keras")
    names = sorted((digits / "3").iterdir())[:6]
    pixels = np.stack([decode(path.read_bytes(), Decoding((32, 32))).pixels for path in names])
    assert pixels.dtype == np.uint8
    given = np.asarray(model(pixels))
    answers = Head.load(out).predict_images(names, top=10, cache=tmp_path / "elsewhere")
    classes = (out / "classes.txt").read_text().split()
    for row, answer in zip(given, answers, strict=True):
        said = dict(zip(answer.classes, answer.probabilities, strict=True))
        assert np.abs(row - [said[name] for name in classes]).max() < 1e-5
    assert result.agreement < 1e-5


@pytest.mark.parametrize("resize", ["squash", "crop"])
def test_keras_resizing_goes_inside(resize, network, tmp_path):
    """With Keras's own resizing the model takes the file's own pixels, and agrees with predict."""
    images = striped(tmp_path / "images", (20, 33))
    result = tuned(
        images, network, tmp_path / "out", interpolation="keras", resize=resize, epochs=1
    )
    assert result.agreement < 1e-5
    model = import_keras().saving.load_model(result.folder / "classifier.keras")
    path = next((images / "across").iterdir())
    with Image.open(path) as image:
        raw = np.asarray(image)
    assert raw.shape == (20, 33, 3)
    (answer,) = Head.load(result.folder).predict_images(
        [path], top=10, cache=tmp_path / "cache", trust_model=True
    )
    said = dict(zip(answer.classes, answer.probabilities, strict=True))
    expected = [said[name] for name in result.head.classes]
    assert np.abs(np.asarray(model(raw[None]))[0] - expected).max() < 1e-5


def test_unrounded_pixels_stay_unrounded(network, tmp_path):
    """Where no layer of Keras resizes as the recipe does, the model takes its float32 pixels."""
    images = striped(tmp_path / "images", (20, 33))
    result = tuned(images, network, tmp_path / "out", interpolation="keras", resize="pad", epochs=1)
    assert result.agreement < 1e-5
    model = import_keras().saving.load_model(result.folder / "classifier.keras")
    assert model.inputs[0].shape[1:] == (16, 16, 3)
    assert model.inputs[0].dtype == "float32"


def test_large_images_count_to_the_end(network, tmp_path):
    """--max-pixels holds for every step, the last check included; what fails is named."""
    images = striped(tmp_path / "images", (20, 33))
    for number in range(3):
        path = images / "down" / f"large{number}.png"
        Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(path)
    (images / "down" / "junk.png").write_bytes(b"no image")
    lines: list[str] = []
    result = tuned(images, network, tmp_path / "out", max_pixels=1000, epochs=1, say=lines.append)
    assert {failure.path for failure in result.failures} == {
        "down/junk.png", *(f"down/large{number}.png" for number in range(3)),
    }  # fmt: skip
    assert sum(line.startswith("failed: down/large") for line in lines) == 3
    again = tuned(images, network, tmp_path / "more", max_pixels=1600, epochs=1)
    assert len(again.failures) == 1


#: Heads that can become layers, each by its options.
KINDS = {
    "logreg": {},
    "ridge": {},
    "svm": {},
    "dense": {"hidden": (8,), "batch_norm": True, "dropout": 0.5, "standardize": True, "epochs": 2},
    "dense, one sigmoid": {"binary_sigmoid": True, "epochs": 2},
}


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_head_is_tuned_and_saved(name, network, tmp_path):
    """From its first logits to the saved model, whatever its layers; BatchNorm among them."""
    images = striped(tmp_path / "images", (20, 33))
    options = {"backbone": str(network), "trust_model": True, "scale": "0..1"}
    features = featcache.extract(images, cache=tmp_path / "cache", **options)
    kind = name.split(",")[0]
    head = featcache.fit_head(features, head=kind, out=tmp_path / "a.head", **KINDS[name])
    result = featcache.finetune(
        images, head=head.path, out=tmp_path / "out", trust_model=True, cache=tmp_path / "cache",
        **QUICK,
    )  # fmt: skip
    assert result.about["start"]["share"] < 1e-2
    assert result.agreement < 1e-3  # 1e-5 of the size of the terms behind a logit, of some 10
    model = import_keras().saving.load_model(result.folder / "classifier.keras")
    assert model.output_shape == (None, 2)


def test_the_cut_and_the_whole_learn_the_same(digits, network, tmp_path):
    """Fed the same batches, the part above the cut and the whole network have one loss curve."""
    losses = {}
    for way in ("yes", "no"):
        result = tuned(
            digits, network, tmp_path / way, from_cut=way, epochs=3, unfreeze_from="last"
        )
        losses[way] = np.array(result.learned.history["loss"])
        assert (result.about["cut"] is None) == (way == "no")
        if way == "no":
            assert result.about["start"]["share"] < 1e-3
    assert np.abs(losses["yes"] - losses["no"]).max() < 1e-3
    assert losses["yes"][0] != losses["yes"][-1]


def test_cached_views_train_from_the_cut(digits, network, tmp_path):
    """With --views the cut has a row for each view; live ones run the whole network instead."""
    cached = tuned(digits, network, tmp_path / "a", views=2, augment="rotate=10", epochs=1)
    assert cached.about["cut"] is not None
    live = tuned(digits, network, tmp_path / "b", augment="rotate=10", epochs=1)
    assert live.about["cut"] is None
    assert cached.report.rows == live.report.rows


def test_the_count_of_epochs_goes_on(digits, network, tmp_path):
    """A dense head's own epochs come first in the history, and the count goes on from them."""
    options = {"backbone": str(network), "trust_model": True, "scale": "0..1"}
    features = featcache.extract(digits, cache=tmp_path / "cache", **options)
    head = featcache.fit_head(features, head="dense", epochs=3, out=tmp_path / "d.head")
    lines: list[str] = []
    result = featcache.finetune(
        digits, head=head.path, out=tmp_path / "out", trust_model=True, say=lines.append,
        cache=tmp_path / "cache", **QUICK,
    )  # fmt: skip
    assert result.learned.first_epoch == 3
    assert len(result.learned.history["loss"]) == 5
    assert any(line.startswith("epoch 4/5") for line in lines)
    assert result.frozen.accuracy == head.metrics["accuracy"]


def test_a_killed_run_goes_on(digits, network, tmp_path):
    """Killed after an epoch and run again, it ends as an undisturbed one does, to 1e-5."""
    calm = tuned(digits, network, tmp_path / "calm", epochs=4, augment="rotate=10")
    out = tmp_path / "killed"
    code = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[4])\n"
        "from tests.finetuning.tuning_samples import tuned\n"
        "images, network, out = map(Path, sys.argv[1:4])\n"
        "tuned(images, network, out, epochs=4, augment='rotate=10')"
    )
    root = Path(__file__).parents[2]
    process = subprocess.Popen([sys.executable, "-c", code, digits, network, out, root])
    checkpoint = out / "checkpoint.safetensors"
    deadline = time.monotonic() + 300
    while not checkpoint.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    lines: list[str] = []
    again = tuned(digits, network, out, epochs=4, augment="rotate=10", say=lines.append)
    assert any(line.startswith("going on after epoch") for line in lines)
    assert not checkpoint.exists()
    assert np.allclose(calm.learned.history["loss"], again.learned.history["loss"], atol=1e-5)
    for name, array in calm.head.model.state().items():
        assert np.abs(array - again.head.model.state()[name]).max() < 1e-5


class Interruption(Exception):
    """What ends a run in its second epoch, when the first one is saved."""


def interrupt(images: Path, network: Path, out: Path, **options: object) -> None:
    """A run that ends in its second epoch."""

    def stop(line: str) -> None:
        if line.startswith("epoch 2"):
            raise Interruption

    with pytest.raises(Interruption):
        tuned(images, network, out, say=stop, **options)


def test_a_finished_training_outlives_a_failed_proof(digits, network, tmp_path, monkeypatch):
    """Where the new network is refused, the training is written and told; the same command, run
    again, trains nothing and ends as an undisturbed one does.
    """
    import featcache.runtimes.rounding as rounding

    out, lines = tmp_path / "out", []

    def refuse_the_new_network(line: str) -> None:
        lines.append(line)
        if line.startswith("writing the new backbone"):
            monkeypatch.setattr(rounding, "LARGEST", 0.0)

    with pytest.raises(FeatcacheError, match="the training is finished and kept in") as raised:
        tuned(digits, network, out, say=refuse_the_new_network)
    assert "magnifies rounding too much" in str(raised.value)
    assert "Run the same command again" in str(raised.value)
    assert {"classifier.keras", "classes.txt", "finetuned.json"} <= {
        path.name for path in out.iterdir()
    }
    monkeypatch.undo()
    lines.clear()
    again = tuned(digits, network, out, say=lines.append)
    assert not [line for line in lines if line.startswith("epoch ")]
    calm = tuned(digits, network, tmp_path / "calm")
    assert again.report.accuracy == calm.report.accuracy
    for name, array in calm.head.model.state().items():
        assert np.abs(array - again.head.model.state()[name]).max() < 1e-5


def test_a_cut_is_kept_when_the_disk_fills(digits, network, tmp_path, monkeypatch):
    """A run goes on from the cut that it was interrupted at, whatever room there is now."""
    from featcache.extraction.job import Job

    interrupt(digits, network, tmp_path / "out", epochs=3, unfreeze_from="last")
    tuned(digits, network, tmp_path / "other", epochs=1, unfreeze_from="last")
    monkeypatch.setattr(Job, "bytes_free", 300_000)
    assert tuned(digits, network, tmp_path / "none", epochs=1).about["cut"] is None
    again = tuned(digits, network, tmp_path / "out", epochs=3, unfreeze_from="last")
    assert again.about["cut"] == "joined"


def test_wrong_options_are_refused_before_the_images_are_read(digits, network, tmp_path):
    """A layer that is not there, or a kind that cannot become layers, costs no extraction."""
    for options, words in (
        ({"unfreeze_from": "nosuch"}, "nosuch"),
        ({"unfreeze_from": "500"}, "0 to"),
        ({"head": "knn"}, "cannot become layers"),
        ({"from_cut": "yes", "unfreeze_from": "all"}, "every layer learns"),
        ({"from_cut": "no", "views": 2, "augment": "flip"}, "--views are cached"),
    ):
        with pytest.raises(FeatcacheError, match=words):
            tuned(digits, network, tmp_path / "out", **options)
    assert list(tmp_path.rglob("*.h5")) == []


def test_a_diverging_training_leaves_nothing_broken(digits, network, tmp_path):
    """With a rate far too high the first epoch is an error, and no backbone is written."""
    with pytest.raises(FeatcacheError, match=r"diverged|not a number.*--learning-rate"):
        tuned(digits, network, tmp_path / "out", learning_rate=1e4, optimizer="sgd")
    assert not (tmp_path / "out" / "finetuned.json").exists()


def test_other_settings_do_not_go_on(digits, network, tmp_path):
    """What an interrupted run left is not continued under other settings: it says which."""
    from featcache.finetuning.plan import CHECKPOINT

    interrupt(digits, network, tmp_path / "out", epochs=3)
    assert (tmp_path / "out" / CHECKPOINT).exists()
    with pytest.raises(FeatcacheError, match=r"learning_rate: 0.001 there, 0.01 now"):
        tuned(digits, network, tmp_path / "out", epochs=3, learning_rate=0.01)


def test_a_finished_run_is_not_made_again(outcome, digits, network):
    """Given again, a command answers from what is there; other settings are refused, by name."""
    result, _ = outcome
    before = {path: path.stat().st_mtime_ns for path in result.folder.rglob("*")}
    lines: list[str] = []
    again = tuned(digits, network, result.folder, unfreeze_from="last", say=lines.append)
    assert "finished already" in lines[-1]
    assert not any(line.startswith("epoch") for line in lines)
    assert {path: path.stat().st_mtime_ns for path in result.folder.rglob("*")} == before
    assert again.report.to_dict() == result.report.to_dict()
    assert again.comparison == result.comparison
    assert (again.learned, again.agreement) == (result.learned, result.agreement)
    with pytest.raises(FeatcacheError, match=r"unfreeze_from: last there, first now\)"):
        tuned(digits, network, result.folder, unfreeze_from="first")


def test_half_precision_learns_and_leaves(bfloat16, digits, network, tmp_path):
    """In mixed precision the loss falls too, and what comes out computes in float32."""
    result = tuned(digits, network, tmp_path / "out", mixed_precision="bfloat16", epochs=2)
    assert result.learned.history["loss"][-1] < result.learned.history["loss"][0] * 0.8
    model = import_keras().saving.load_model(result.folder / "classifier.keras")
    assert {layer.compute_dtype for layer in model._flatten_layers()} == {"float32"}


def test_a_tuned_backbone_names_no_imagenet_classes(outcome, digits):
    """classify refuses it, and says which command names its own classes."""
    from featcache.backbones.opening import BackboneSource
    from featcache.heads.imagenet import classify

    out = str(outcome[0].folder)
    with pytest.raises(FeatcacheError, match="featcache predict"):
        next(classify(featcache.find_images(digits), out, BackboneSource()))


@pytest.mark.parametrize(
    ("record", "words"),
    [("{", "not a record"), ('{"format": "other", "version": 1}', "upgrade it")],
)
def test_a_damaged_record_is_named(record, words, tmp_path):
    """A folder whose record is damaged, or newer, is refused by its file's name."""
    from featcache.backbones.opening import BackboneSource, recall_backbone

    (tmp_path / "finetuned.json").write_text(record)
    with pytest.raises(FeatcacheError, match=words) as caught:
        recall_backbone(str(tmp_path), [("", "avg")], BackboneSource())
    assert "finetuned.json" in str(caught.value)


BAD = {
    "head of another backbone": (["--head", "HEAD", "--size", "32"], "which is used: leave them"),
    "no backbone": ([], "--backbone: which network"),
    "a layer that is not there": (["--unfreeze-from", "lats"], "nearest are"),
    "a rate of zero": (["--learning-rate", "0"], "--learning-rate 0"),
    "cut and live views": (["--from-cut", "yes", "--augment", "flip"], "--from-cut yes with"),
    "no such kind": (["--head", "forest"], "no such head file"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_sentence(name, outcome, digits, network, tmp_path):
    """Wrong options end with exit code 2 and a sentence that says what to do."""
    words, expected = BAD[name]
    head = str(outcome[0].folder / "frozen" / "logreg.head")
    words = [head if word == "HEAD" else word for word in words]
    own = ["--backbone", str(network), "--scale", "0..1"]
    if name in ("head of another backbone", "no backbone", "no such kind"):
        own = []
    done = subprocess.run(
        [sys.executable, "-m", "featcache", "finetune", digits, "--out", tmp_path / "out", *own,
         "--trust-model", "--cache", outcome[0].folder.parent / "cache", "--json", *words],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert expected in json.loads(done.stdout)["error"]
