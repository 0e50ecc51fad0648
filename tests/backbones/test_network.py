"""An opened network: its taps, its names, its digest, its refusals."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
import skimage.data
from PIL import Image

from featcache.backbones.construct import Shape, construct
from featcache.backbones.keras_import import import_keras
from featcache.backbones.layers import canonical_layers
from featcache.backbones.network import open_network
from featcache.backbones.table import find_backbone
from featcache.errors import FeatcacheError
from tests.backbones.networks import error_norm, grace_hopper, photographs


@pytest.fixture(scope="module")
def mobilenet():
    return find_backbone("mobilenet")


def open_small(backbone, **options):
    return open_network(backbone, weights="random:3", size=(32, 32), **options)


def test_the_embedded_network_names_a_portrait_and_a_cat():
    """Grace Hopper is a military uniform (652), Chelsea an Egyptian cat (285) with p near 0.8."""
    pictures = [Image.open(grace_hopper()).convert("RGB"), Image.fromarray(skimage.data.chelsea())]
    pixels = np.stack([np.asarray(p.resize((224, 224), Image.BICUBIC)) for p in pictures])
    row = find_backbone("efficientnet_lite0")
    network = open_network(row, weights=None, size=(224, 224), layer="predictions")
    chances = np.asarray(network.model(pixels.astype("float32"), training=False))
    assert chances.argmax(axis=1).tolist() == [652, 285]
    assert 0.7 < chances[1, 285] < 0.9


def test_convnext_is_pooled_by_keras_itself():
    """ConvNeXt normalises after pooling, so its rows are not the pooled rows of its map."""
    row, size = find_backbone("convnexttiny"), (64, 64)
    pooled = open_network(row, weights="random:3", size=size)
    mapped = open_network(row, weights="random:3", size=size, pooling="none")
    assert pooled.taps[0].weights == mapped.taps[0].weights
    kind = import_keras().applications.ConvNeXtTiny
    own = kind(include_top=False, weights=None, input_shape=(*size, 3), pooling="avg")
    for mine, theirs in zip(own.weights, pooled.base.weights, strict=True):
        mine.assign(theirs)
    pixels = photographs(size, 2).astype("float32")
    rows = np.asarray(pooled.model(pixels, training=False))
    assert error_norm(rows, np.asarray(own(pixels, training=False))) <= 1e-5
    assert error_norm(mapped.live(pixels)[0].mean(axis=(1, 2)), rows) > 1e-2


@pytest.mark.parametrize(
    ("pooling", "row_shape"), [("avg", (1024,)), ("max", (1024,)), ("none", (1, 1, 1024))]
)
def test_pooling_of_the_default_tap(mobilenet, pooling, row_shape):
    """The network's own output comes averaged, as maxima, or as the whole map."""
    network = open_small(mobilenet, pooling=pooling)
    assert network.taps[0].row_shape == row_shape
    assert network.live(photographs((32, 32), 2))[0].shape == (2, *row_shape)


@pytest.mark.parametrize("pooling", ["avg", "max", "none"])
def test_a_named_layer_is_that_layers_output(mobilenet, pooling):
    """A named tap gives the layer's own map in inference mode, pooled as asked."""
    network = open_small(mobilenet, layer="conv_pw_3_relu", pooling=pooling)
    pixels = photographs((32, 32), 3)
    whole = open_small(mobilenet, pooling="none")
    keras = import_keras()
    tapped = keras.Model(whole.base.input, whole.base.get_layer("conv_pw_3_relu").output)
    maps = np.asarray(tapped(pixels / np.float32(127.5) - np.float32(1), training=False))
    pooled = {"avg": maps.mean((1, 2)), "max": maps.max((1, 2)), "none": maps}[pooling]
    rows = np.asarray(network.model(pixels.astype("float32"), training=False))
    assert error_norm(rows, pooled) <= 1e-5
    assert network.taps[0].row_shape == pooled.shape[1:]


def test_the_size_may_be_oblong(mobilenet):
    """Height and width are given in that order and need not be equal."""
    network = open_network(mobilenet, weights="random", size=(64, 96), pooling="none")
    assert network.taps[0].row_shape == (2, 3, 1024)
    assert network.size == (64, 96)


def test_layer_names_do_not_depend_on_the_session():
    """Layers that Keras numbers have the names of a fresh session, whatever was built before."""
    keras = import_keras()
    xception = find_backbone("xception")
    keras.utils.clear_session(free_memory=False)
    fresh = [layer.name for layer in construct(xception, Shape((71, 71))).layers]
    keras.layers.Conv2D(1, 1), keras.layers.BatchNormalization(), keras.layers.Add()
    later = construct(xception, Shape((71, 71)))
    assert list(canonical_layers(later)) == fresh
    assert [layer.name for layer in later.layers] != fresh
    assert "conv2d_3" in fresh


def test_a_layer_may_be_counted_from_the_end(mobilenet):
    """Layer "-1" is the last layer, and the network tells its name."""
    assert open_small(mobilenet, layer="-1").taps[0].layer == "conv_pw_13_relu"


def test_the_digest_is_of_the_weight_values(mobilenet):
    """Tap, pooling and size leave the digest alone; other weights do not."""
    plain = open_small(mobilenet).taps[0].weights
    assert open_small(mobilenet, layer="conv1", pooling="none").taps[0].weights == plain
    larger = open_network(mobilenet, weights="random:3", size=(64, 64))
    assert larger.taps[0].weights == plain
    other = open_network(mobilenet, weights="random:4", size=(32, 32))
    assert other.taps[0].weights != plain


def test_an_unknown_layer_gets_the_nearest(mobilenet):
    """An unknown layer is an error that names near ones."""
    with pytest.raises(FeatcacheError, match="conv_pw_3_relu"):
        open_small(mobilenet, layer="conv_pw_3_rellu")


@pytest.mark.parametrize("index", ["-1000", "3", "-0"])
def test_an_index_out_of_range_is_refused(mobilenet, index):
    """Only indices from the end that exist are indices."""
    with pytest.raises(FeatcacheError, match="not a layer"):
        open_small(mobilenet, layer=index)


def test_too_small_a_size_names_the_smallest():
    """A size that a network cannot take is refused with the smallest one."""
    with pytest.raises(FeatcacheError, match=r"--size 96x70 .* 71 pixels"):
        open_network(find_backbone("xception"), weights="random", size=(96, 70))


def test_an_unknown_pooling_names_the_choices(mobilenet):
    """A pooling that does not exist is refused before anything is built."""
    with pytest.raises(FeatcacheError, match="avg, max, none"):
        open_small(mobilenet, pooling="mean")


def test_another_keras_setting_is_refused(mobilenet):
    """Under a mixed-precision policy nothing is opened: the vectors would not be the recipe's."""
    keras = import_keras()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        with pytest.raises(FeatcacheError, match="set_dtype_policy"):
            open_small(mobilenet)
    finally:
        keras.config.set_dtype_policy("float32")


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run code in another process; an empty value takes the variable away."""
    variables = {k: v for k, v in {**os.environ, **environment}.items() if v}
    return subprocess.run(
        [sys.executable, "-c", code], env=variables, capture_output=True, text=True, check=False
    )


def test_another_backend_is_refused():
    """KERAS_BACKEND=jax ends in one clear sentence."""
    code = "from featcache.backbones.keras_import import import_keras; import_keras()"
    done = run_python(code, KERAS_BACKEND="jax")
    assert "KERAS_BACKEND=tensorflow" in done.stderr.splitlines()[-1]


def test_opening_a_network_leaves_the_terminal_clean():
    """Opening and running a network prints nothing, neither to stdout nor to stderr."""
    code = (
        "import numpy as np\n"
        "from featcache.backbones.network import open_network\n"
        "from featcache.backbones.table import find_backbone\n"
        "from featcache.runtimes.throughput import open_runtime\n"
        "n = open_network(find_backbone('mobilenet'), weights='random', size=(32, 32))\n"
        "r = open_runtime('auto', n, batch=1, pixel_type='uint8')\n"
        "r.start(np.zeros((1, 32, 32, 3), np.uint8))(); n.live(np.zeros((1, 32, 32, 3)))[0]\n"
    )
    done = run_python(code, TF_CPP_MIN_LOG_LEVEL="")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
