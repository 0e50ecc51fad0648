"""A runtime: one trace, one signature, no side effects."""

from __future__ import annotations

import weakref
from dataclasses import replace

import numpy as np
import pytest

from featcache.backbones.keras_import import import_keras
from featcache.backbones.network import Network, assemble
from featcache.errors import FeatcacheError
from featcache.runtimes.runtime import Runtime
from featcache.runtimes.throughput import open_runtime
from tests.backbones.networks import error_norm, photographs, small_network


@pytest.fixture(scope="module")
def network() -> Network:
    return small_network("mobilenet")


@pytest.fixture(scope="module", params=["tensorflow", "openvino"])
def runtime(request, network) -> Runtime:
    """Two images at a time, in each runtime."""
    return open_runtime(request.param, network, batch=2, pixel_type="uint8")


def test_many_batches_are_one_trace(runtime, network):
    """Keras calls the network's layers to make the graph, and never while batches run."""
    keras, calls = import_keras(), []

    class Counted(keras.layers.Layer):
        def call(self, rows):
            calls.append(rows)
            return rows

    rows = Counted()(network.base.output)
    counted = replace(
        network,
        build=lambda: assemble(network.base.input, [rows], network.backbone, network.size),
    )
    made = open_runtime(runtime.name, counted, batch=2, pixel_type="uint8")
    traced = len(calls)
    for number in range(10):
        made.start(np.full((2, *network.size, 3), number, np.uint8))()
    assert traced > 0
    assert len(calls) == traced


def test_uint8_and_float32_pixels_give_the_same_rows(runtime, network):
    """The pixel type is a matter of transport: whole pixels give equal rows either way."""
    pixels = photographs(network.size, 2)
    floats_in = open_runtime(runtime.name, network, batch=2, pixel_type="float32")
    rows = floats_in.start(pixels.astype("float32"))()[0]
    # OpenVINO chooses another first convolution for bytes, which sums in another order.
    assert error_norm(runtime.start(pixels)()[0], rows) <= 1e-5


def test_a_result_stays_what_it_was(runtime, network):
    """A result is owned, writable memory that later batches do not touch."""
    (first,) = runtime.start(photographs(network.size, 2))()
    kept = first.copy()
    for _ in range(runtime.lanes + 1):
        runtime.start(np.zeros((2, *network.size, 3), np.uint8))()
    np.testing.assert_array_equal(first, kept)
    assert first.dtype == np.float32
    assert first.flags.owndata
    assert first.flags.writeable


def test_batches_under_way_at_once_keep_their_results(runtime, network):
    """With every lane full, each result is that of its own batch, in whatever order it is taken."""
    batches = [photographs(network.size, 2)[::-1] + number for number in range(runtime.lanes)]
    batches = [np.ascontiguousarray(batch) for batch in batches]
    results = [runtime.start(batch) for batch in batches]
    rows = [result()[0] for result in reversed(results)]
    for row, batch in zip(reversed(rows), batches, strict=True):
        np.testing.assert_array_equal(row, runtime.start(batch)()[0])


def test_running_changes_no_weight(runtime, network):
    """BatchNorm's moving statistics, and every other weight, are the same after a run."""
    before = [weight.numpy() for weight in network.base.weights]
    runtime.start(photographs(network.size, 2))()
    network.live(photographs(network.size, 4))
    for weight, value in zip(network.base.weights, before, strict=True):
        np.testing.assert_array_equal(weight.numpy(), value)


def test_it_says_what_runs_it(runtime):
    """The runtime names itself, its device, its versions and why it was chosen."""
    assert runtime.device.startswith(("CPU", "GPU:0"))
    assert runtime.choice == f"asked for by --runtime {runtime.name}"
    assert runtime.name in runtime.versions


def test_another_shape_or_type_is_refused(runtime, network):
    """A batch of another length or pixel type is an error that says what is expected."""
    with pytest.raises(FeatcacheError, match="pad the last batch"):
        runtime.start(np.zeros((1, *network.size, 3), np.uint8))()
    with pytest.raises(FeatcacheError, match="takes uint8"):
        runtime.start(np.zeros((2, *network.size, 3), np.float32))()


def test_more_batches_than_lanes_are_refused(network):
    """One batch more than there are lanes is an error; taking a result makes room again."""
    runtime = open_runtime("openvino", network, batch=1, pixel_type="uint8")
    pixels = photographs(network.size, 1)
    results = [runtime.start(pixels) for _ in range(runtime.lanes)]
    with pytest.raises(FeatcacheError, match="at once"):
        runtime.start(pixels)
    results.pop()()
    results.append(runtime.start(pixels))
    for result in results:
        result()


@pytest.mark.parametrize(
    ("name", "batch", "pixel_type", "text"),
    [
        ("torch", 1, "uint8", "auto, tensorflow, openvino"),
        ("auto", 0, "uint8", "at least 1"),
        ("auto", 1, "int16", "uint8 or float32"),
    ],
)
def test_wrong_options_are_refused(network, name, batch, pixel_type, text):
    """An unknown runtime, batch or pixel type names the choices."""
    with pytest.raises(FeatcacheError, match=text):
        open_runtime(name, network, batch=batch, pixel_type=pixel_type)


def test_pixels_live_until_their_result_is_taken(network):
    """OpenVINO reads the caller's memory, so that memory is kept until the request is done."""
    runtime = open_runtime("openvino", network, batch=2, pixel_type="uint8")
    batch = photographs(network.size, 2).copy()
    pixels = weakref.ref(batch)
    result = runtime.start(batch)
    del batch
    assert pixels() is not None
    result()
    assert pixels() is None
