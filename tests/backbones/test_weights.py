"""Weights: every format comes back as it was written, and what does not fit is refused by name."""

from __future__ import annotations

import random
import re

import h5py
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from featcache.backbones.construct import Shape, construct
from featcache.backbones.keras_import import import_keras
from featcache.backbones.network import open_network
from featcache.backbones.table import find_backbone
from featcache.backbones.weights_file import canonical_paths
from featcache.errors import FeatcacheError
from tests.backbones.networks import error_norm, photographs

#: Keras's own `save_weights` and `set_weights` give numpy variables without the copy keyword.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

SIZE = (32, 32)
BACKBONE = find_backbone("mobilenetv2")


def open_file(path, backbone=BACKBONE):
    return open_network(backbone, weights=str(path), size=SIZE)


def save_legacy(network, path):
    """The layout of Keras 1 and 2, which Keras 3 reads but does not write for weights alone."""
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [layer.name.encode() for layer in network.layers]
        for layer in network.layers:
            variables = [*layer.trainable_weights, *layer.non_trainable_weights]
            group = file.create_group(layer.name)
            names = [f"{layer.name}/{variable.name}:0" for variable in variables]
            group.attrs["weight_names"] = [name.encode() for name in names]
            for name, variable in zip(names, variables, strict=True):
                group[name] = variable.numpy()


def save(network, path):
    """Save a network in the format that the file's name says."""
    if path.suffix == ".safetensors":
        tensors = canonical_paths(network).items()
        save_file({name: np.array(v.numpy()) for name, v in tensors}, path)
    elif path.name.endswith(".weights.h5"):
        network.save_weights(path)
    else:
        save_legacy(network, path)
    return path


@pytest.fixture(scope="module")
def source():
    """A network whose every weight is its own: nothing that a fresh network has."""
    network = construct(BACKBONE, Shape(SIZE, "avg"), seed=11)
    generator = np.random.default_rng(0)
    for weight in network.weights:
        weight.assign(weight.numpy() + generator.uniform(0.01, 0.02, weight.shape))
    return network


FORMATS = ["w.weights.h5", "w.h5", "w.safetensors"]


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_comes_back(source, name, tmp_path):
    """Weights saved in any format open to the same values, digest and rows."""
    path = save(source, tmp_path / name)
    network = open_file(path)
    for mine, theirs in zip(network.base.weights, source.weights, strict=True):
        np.testing.assert_array_equal(mine.numpy(), theirs.numpy())
    scaled = photographs(SIZE, 2) / np.float32(127.5) - np.float32(1)
    rows = np.asarray(source(scaled, training=False))
    assert error_norm(network.live(photographs(SIZE, 2))[0], rows) <= 1e-5
    assert network.weights_hint == str(path)


@pytest.mark.parametrize(("name", "classes"), [("w.h5", 7), ("w.safetensors", 1000)])
def test_a_file_with_its_top_gives_the_network_below(name, classes, tmp_path):
    """Of a file with a top of any number of classes, the weights below it are used."""
    whole = construct(BACKBONE, Shape(None, include_top=True, classes=classes), seed=5)
    network = open_file(save(whole, tmp_path / name))
    below = open_network(BACKBONE, weights="random:5", size=SIZE)
    assert network.taps[0].weights == below.taps[0].weights


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["convnexttiny", "efficientnetb0", "mobilenetv3small"])
@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("top", [True, False])
def test_composite_and_derived_layers_come_back(backbone, name, top, tmp_path):
    """Nested layers, layers that derive values, and tops that are no Dense layer come back too."""
    row = find_backbone(backbone)
    shape = Shape(None, include_top=True) if top else Shape(SIZE)
    network = open_file(save(construct(row, shape, seed=5), tmp_path / name), row)
    assert (
        network.taps[0].weights == open_network(row, weights="random:5", size=SIZE).taps[0].weights
    )


def test_the_imagenet_step_of_efficientnet_follows_its_weights(tmp_path):
    """Files with EfficientNet's published statistics get the step Keras adds for "imagenet"."""
    row = find_backbone("efficientnetb0")
    network = construct(row, Shape(SIZE, "avg"), seed=5)
    (layer,) = [v for v in network.layers if type(v).__name__ == "Normalization"]
    mean, std = np.array([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])
    layer.set_weights([mean, std, np.array(0)])
    opened = open_file(save(network, tmp_path / "b0.weights.h5"), row)
    assert [type(v).__name__ for v in opened.base.layers].count("Rescaling") == 2
    # Without the step, a variance of std squared gives the same.
    layer.set_weights([mean, std**2, np.array(0)])
    layer.finalize_state()
    pixels = photographs(SIZE, 2)
    rows = np.asarray(network(pixels.astype("float32"), training=False))
    assert error_norm(opened.live(pixels)[0], rows) <= 1e-5
    plain = open_network(row, weights="random:5", size=SIZE)
    assert [type(v).__name__ for v in plain.base.layers].count("Rescaling") == 1


def test_random_weights_are_the_same_whatever_ran_before():
    """A seed gives the same weights in any session, another seed others; the user's is kept."""
    first = open_network(BACKBONE, weights="random", size=SIZE)
    import_keras().layers.Dense(3).build((None, 4))
    random.seed(123)
    state = random.getstate()
    again = open_network(BACKBONE, weights="random:0", size=SIZE, layer="Conv1")
    assert random.getstate() == state
    assert again.taps[0].weights == first.taps[0].weights
    assert first.weights_hint == again.weights_hint == "random:0"
    other = open_network(BACKBONE, weights="random:1", size=SIZE)
    assert other.taps[0].weights != first.taps[0].weights


@pytest.mark.parametrize("wrong", ["random:", "random:x", "random:-1", "random:1:2"])
def test_a_seed_must_be_a_number(wrong):
    """A malformed seed says what a seed looks like."""
    with pytest.raises(FeatcacheError, match="random:7"):
        open_network(BACKBONE, weights=wrong, size=SIZE)


def test_the_embedded_weights_have_three_names():
    """None, "imagenet" and "embedded" are the same for the embedded network."""
    lite = find_backbone("efficientnet_lite0")
    networks = [open_network(lite, weights=w, size=SIZE) for w in (None, "imagenet", "embedded")]
    assert len({network.taps[0].weights for network in networks}) == 1
    assert {network.weights_hint for network in networks} == {"embedded"}


def test_only_the_embedded_network_has_embedded_weights():
    """Asking another network for embedded weights names one that has them."""
    with pytest.raises(FeatcacheError, match="efficientnet_lite0"):
        open_network(BACKBONE, weights="embedded", size=SIZE)


def test_weights_that_cannot_be_downloaded_say_what_to_do(monkeypatch, tmp_path):
    """Without a network, the error names the folder Keras looks in and the other ways."""
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.setattr("keras.src.backend.config._KERAS_DIR", str(tmp_path), raising=False)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    with pytest.raises(FeatcacheError, match="--weights PATH") as caught:
        open_network(BACKBONE, weights=None, size=SIZE)
    assert "~/.keras/models" in str(caught.value)
    assert "efficientnet_lite0" in str(caught.value)


def refusal(path, backbone=BACKBONE) -> str:
    with pytest.raises(FeatcacheError) as caught:
        open_file(path, backbone)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_a_missing_file_is_refused(tmp_path):
    """A path that is not there is named, with what was expected."""
    assert "no such file" in refusal(tmp_path / "absent.h5")


@pytest.mark.parametrize("name", ["model.keras", "model.pt", "model.pkl"])
def test_only_weights_files_are_read(name, tmp_path):
    """Files that can hold code are refused by their kind, with the way out."""
    (tmp_path / name).write_bytes(b"anything")
    assert "save_weights" in refusal(tmp_path / name)


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_that_is_something_else_is_refused(name, tmp_path):
    """Bytes that are no weights file are refused, whatever their name."""
    (tmp_path / name).write_bytes(b"not a weights file at all" * 100)
    refusal(tmp_path / name)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize(
    "other",
    ["mobilenet", *(pytest.param(n, marks=pytest.mark.slow) for n in ("vgg16", "xception"))],
)
def test_another_networks_file_is_refused(other, name, tmp_path):
    """A file of another network names the backbone that was asked for."""
    path = save(construct(find_backbone(other), Shape((71, 71)), seed=1), tmp_path / name)
    message = refusal(path)
    assert "does not hold the weights of mobilenetv2" in message
    assert "--backbone" in message


@pytest.mark.parametrize("name", FORMATS)
def test_a_wrong_shape_names_the_layer(source, name, tmp_path):
    """One array of another shape is named with its layer."""
    path = save(source, tmp_path / name)
    if name == "w.safetensors":
        tensors = load_file(path)
        tensors["Conv1/kernel"] = tensors["Conv1/kernel"][:2]
        save_file(tensors, path)
    else:
        inside = "Conv1/Conv1/kernel:0" if name == "w.h5" else "layers/conv2d/vars/0"
        with h5py.File(path, "r+") as file:
            value = file[inside][:2]
            del file[inside]
            file[inside] = value
    assert re.search(r"Conv1.*\(3, 3, 3, 32\)", refusal(path))


@pytest.mark.parametrize("name", ["w.weights.h5", "w.h5"])
def test_layers_in_another_order_are_refused(name, tmp_path):
    """Two layers of one shape that changed places are found by their names."""
    network = construct(find_backbone("resnet50"), Shape(SIZE), seed=2)
    path = save(network, tmp_path / name)
    first, second = "conv2_block2_3_conv", "conv2_block3_3_conv"
    with h5py.File(path, "r+") as file:
        if name == "w.h5":
            names = [str(name) for name in file.attrs["layer_names"].astype(str)]
            i, j = names.index(first), names.index(second)
            names[i], names[j] = second, first
            file.attrs["layer_names"] = [n.encode() for n in names]
        else:
            groups = {file["layers"][g]["vars"].attrs.get("name"): g for g in file["layers"]}
            one, two = (file["layers"][groups[n]] for n in (first, second))
            one["vars"].attrs["name"], two["vars"].attrs["name"] = second, first
    assert first in refusal(path, find_backbone("resnet50"))


def test_a_missing_tensor_is_named(source, tmp_path):
    """A safetensors file with a tensor renamed says which one it lacks."""
    path = save(source, tmp_path / "w.safetensors")
    tensors = load_file(path)
    tensors["Conv1/other"] = tensors.pop("Conv1/kernel")
    save_file(tensors, path)
    assert "'Conv1/kernel'" in refusal(path)


def test_a_file_without_its_top_cannot_classify(source, tmp_path):
    """Class names need a top, and a file without one says so."""
    path = save(source, tmp_path / "w.weights.h5")
    with pytest.raises(FeatcacheError, match="the file has 260 weights, the network 262"):
        open_network(BACKBONE, weights=str(path), size=(BACKBONE.size,) * 2, layer="predictions")
