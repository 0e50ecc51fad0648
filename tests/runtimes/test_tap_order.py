"""Several taps in one pass: every output is there, in the model's order, each to 1e-5."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from featcache.backbones.keras_import import import_keras
from featcache.backbones.layers import pooled
from featcache.backbones.network import Built, Network, Tap
from featcache.backbones.table import find_backbone
from featcache.runtimes.choice import RuntimeChoice
from featcache.runtimes.openvino import compile_graph, convert_network, read_graph, save_graph
from featcache.runtimes.throughput import open_runtime
from tests.backbones.networks import error_norm, photographs

SIZE = (32, 32)
#: Which of twelve layers is tapped, in which order; one of them twice.
TAPS = (5, 11, 0, 5, 10, 9, 2)


@pytest.fixture(scope="module")
def network() -> Network:
    """Twelve convolutions, tapped out of order, pooled but for the last, which gives its map."""
    keras = import_keras()
    keras.utils.set_random_seed(2)
    pixels = keras.Input((*SIZE, 3))
    x, pooled = pixels / 255.0, []
    for number in range(12):
        x = keras.layers.Conv2D(4 + number, 3, padding="same", activation="relu")(x)
        pooled.append(keras.layers.GlobalAveragePooling2D()(x))
    model = keras.Model(pixels, [*(pooled[number] for number in TAPS), x])
    backbone = find_backbone("efficientnet_lite0")
    shapes = [tuple(output.shape[1:]) for output in model.outputs]
    taps = tuple(Tap(str(n), "avg", shape, "0" * 64) for n, shape in enumerate(shapes))
    return Network(backbone, "none", SIZE, taps, lambda: Built(model, model))


@pytest.mark.parametrize("name", ["tensorflow", "openvino"])
def test_taps_come_in_the_order_of_the_model(network, name):
    """Each tap is its own float32 array, equal to live Keras's output of the same place."""
    pixels = photographs(SIZE, 3)
    live = [np.asarray(tap) for tap in network.model(pixels.astype("float32"), training=False)]
    taps = open_runtime(name, network, batch=3, pixel_type="uint8").start(pixels)()
    assert [tap.shape for tap in taps] == [tap.shape for tap in live]
    for tap, expected in zip(taps, live, strict=True):
        assert error_norm(tap, expected) <= 1e-5
        assert tap.dtype == np.float32
        assert tap.flags.owndata


def test_a_kept_graph_gives_its_taps_in_the_same_order(network, tmp_path: Path):
    """Written to a file and read again, at another batch, the taps are where they were."""
    save_graph(convert_network(network), tmp_path / "graph.xml")
    runtime = compile_graph(
        read_graph(tmp_path / "graph.xml"),
        RuntimeChoice("openvino", True, ""),
        shape=(2, *SIZE, 3),
        pixel_type="float32",
        precision="float32",
    )
    pixels = photographs(SIZE, 2).astype("float32")
    live = network.model(pixels, training=False)
    for tap, expected in zip(runtime.start(pixels)(), live, strict=True):
        assert error_norm(tap, np.asarray(expected)) <= 1e-5


@pytest.mark.parametrize("name", ["tensorflow", "openvino"])
def test_the_mean_of_a_large_map_keeps_its_precision(name):
    """The mean of 112 x 112 numbers is the true one to 5e-7, in live Keras and in both runtimes."""
    keras = import_keras()
    size = (112, 112)
    pixels = keras.Input((*size, 3))
    # Numbers that are nearly equal are added up with errors that do not cancel.
    level = keras.initializers.Constant(0.1)
    maps = keras.layers.Conv2D(
        8, 1, kernel_initializer=keras.initializers.Constant(1e-6), bias_initializer=level
    )(pixels)
    model = keras.Model(pixels, [pooled(maps, "avg"), maps])
    taps = (Tap("0", "avg", (8,), "0" * 64), Tap("0", "none", (*size, 8), "0" * 64))
    backbone = find_backbone("efficientnet_lite0")
    network = Network(backbone, "none", size, taps, lambda: Built(model, model))
    runtime = open_runtime(name, network, batch=2, pixel_type="uint8")
    for mean, rows in (runtime.start(photographs(size, 2))(), network.live(photographs(size, 2))):
        assert error_norm(mean, rows.astype(np.float64).mean(axis=(1, 2))) <= 5e-7
