"""A runtime gives the vectors that Keras itself gives, for every family of networks."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from featcache.backbones.network import with_scaling
from featcache.recipe import Scaling
from featcache.runtimes.runtime import Runtime
from featcache.runtimes.throughput import open_runtime
from tests.backbones.networks import (
    FAMILIES,
    QUICK_FAMILIES,
    error_norm,
    photographs,
    small_network,
)

BOUND = 1e-5


def run_padded(runtime: Runtime, pixels: np.ndarray) -> np.ndarray:
    """All rows, batch by batch, the last batch padded and cut."""
    rows = []
    for start in range(0, len(pixels), runtime.batch):
        batch = pixels[start : start + runtime.batch]
        padding = np.zeros((runtime.batch - len(batch), *pixels.shape[1:]), pixels.dtype)
        rows.append(runtime.start(np.concatenate([batch, padding]))()[0][: len(batch)])
    return np.concatenate(rows)


def wrong_scaling(scaling: Scaling) -> Scaling:
    """A mistake that people make: the scaling of another family."""
    if scaling.order == "bgr":
        return replace(scaling, order="rgb")
    return Scaling(divisor=255.0) if scaling != Scaling(divisor=255.0) else Scaling()


#: Without `-m slow`: OpenVINO for the quick families, TensorFlow for one of each kind of scaling.
QUICK = {(name, "openvino") for name in QUICK_FAMILIES} | {
    ("efficientnet_lite0", "tensorflow"),
    ("vgg16", "tensorflow"),
    ("mobilenetv3small", "tensorflow"),
}


@pytest.mark.parametrize(
    ("name", "runtime_name"),
    [
        pytest.param(*pair, marks=[] if pair in QUICK else pytest.mark.slow)
        for pair in product(FAMILIES, ["openvino", "tensorflow"])
    ],
)
def test_every_family_matches_live_keras_and_a_wrong_scaling_does_not(name, runtime_name):
    """Rows of padded batches equal live Keras to 1e-5; with a wrong scaling they do not."""
    network = small_network(name)
    pixels = photographs(network.size, 5)
    reference = network.live(pixels)[0]
    assert reference.shape == (5, network.backbone.width)
    assert np.abs(reference).max() > 1e-3

    runtime = open_runtime(runtime_name, network, batch=3, pixel_type="uint8")
    assert error_norm(run_padded(runtime, pixels), reference) <= BOUND

    wrong = with_scaling(network.base, wrong_scaling(network.backbone.scaling), network.size)
    rows = np.asarray(wrong(pixels.astype("float32"), training=False))
    assert error_norm(rows, reference) > 10 * BOUND


@pytest.mark.parametrize(("batch", "name"), [(1, "tensorflow"), (32, "openvino")])
def test_rows_do_not_depend_on_the_batch(batch, name):
    """At batch 1, and at batch 32 with a remainder, rows equal live Keras to 1e-5."""
    network = small_network("mobilenetv2")
    pixels = photographs(network.size, 37 if batch > 1 else 3)
    runtime = open_runtime(name, network, batch=batch, pixel_type="uint8")
    assert error_norm(run_padded(runtime, pixels), network.live(pixels)[0]) <= BOUND


@pytest.mark.slow
@pytest.mark.parametrize("runtime_name", ["openvino", "tensorflow"])
@pytest.mark.parametrize("batch", [1, 32])
@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_at_every_batch(name, batch, runtime_name):
    """Each family at batch 1, and at batch 32 with a remainder, equals live Keras to 1e-5."""
    network = small_network(name)
    pixels = photographs(network.size, 37 if batch > 1 else 2)
    runtime = open_runtime(runtime_name, network, batch=batch, pixel_type="uint8")
    assert error_norm(run_padded(runtime, pixels), network.live(pixels)[0]) <= BOUND
