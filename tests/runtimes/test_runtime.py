"""A runtime: one trace, one signature, no side effects."""

from __future__ import annotations

import numpy as np
import pytest

from featcache.backbones import Network
from featcache.errors import FeatcacheError
from featcache.runtimes import open_runtime
from tests.backbones.networks import error_norm, photographs, small_network


@pytest.fixture(scope="module")
def network() -> Network:
    return small_network("mobilenet")


def test_many_batches_are_one_trace(network):
    """The network is traced once, whatever the number of batches."""
    runtime = open_runtime("auto", network, batch=2, pixel_type="uint8")
    for number in range(10):
        runtime.run(np.full((2, *network.size, 3), number, np.uint8))
    assert runtime.traces == 1


def test_uint8_and_float32_pixels_give_the_same_rows(network):
    """The pixel type is a matter of transport: whole pixels give equal rows either way."""
    pixels = photographs(network.size, 2)
    bytes_in = open_runtime("auto", network, batch=2, pixel_type="uint8")
    floats_in = open_runtime("auto", network, batch=2, pixel_type="float32")
    rows = floats_in.run(pixels.astype("float32"))[0]
    assert error_norm(bytes_in.run(pixels)[0], rows) <= 1e-6


def test_a_result_stays_what_it_was(network):
    """A result is owned, writable memory that later batches do not touch."""
    runtime = open_runtime("auto", network, batch=1, pixel_type="uint8")
    (first,) = runtime.run(photographs(network.size, 1))
    kept = first.copy()
    runtime.run(np.zeros((1, *network.size, 3), np.uint8))
    np.testing.assert_array_equal(first, kept)
    assert first.dtype == np.float32
    assert first.flags.owndata
    assert first.flags.writeable


def test_running_changes_no_weight(network):
    """BatchNorm's moving statistics, and every other weight, are the same after a run."""
    before = [weight.numpy() for weight in network.base.weights]
    runtime = open_runtime("auto", network, batch=4, pixel_type="uint8")
    runtime.run(photographs(network.size, 4))
    network.live(photographs(network.size, 4))
    for weight, value in zip(network.base.weights, before, strict=True):
        np.testing.assert_array_equal(weight.numpy(), value)


def test_it_says_what_runs_it(network):
    """The runtime names itself, its device, its versions and why it was chosen."""
    runtime = open_runtime("auto", network, batch=1, pixel_type="uint8")
    assert runtime.name == "tensorflow"
    assert runtime.device.startswith(("CPU", "GPU:0"))
    assert "auto" in runtime.choice
    assert {"tensorflow", "keras"} <= set(runtime.versions)


def test_another_shape_or_type_is_refused(network):
    """A batch of another length or pixel type is an error that says what is expected."""
    runtime = open_runtime("auto", network, batch=2, pixel_type="uint8")
    with pytest.raises(FeatcacheError, match="pad the last batch"):
        runtime.run(np.zeros((1, *network.size, 3), np.uint8))
    with pytest.raises(FeatcacheError, match="takes uint8"):
        runtime.run(np.zeros((2, *network.size, 3), np.float32))


@pytest.mark.parametrize(
    ("name", "batch", "pixel_type", "text"),
    [
        ("torch", 1, "uint8", "auto, tensorflow"),
        ("auto", 0, "uint8", "at least 1"),
        ("auto", 1, "int16", "uint8 or float32"),
    ],
)
def test_wrong_options_are_refused(network, name, batch, pixel_type, text):
    """An unknown runtime, batch or pixel type names the choices."""
    with pytest.raises(FeatcacheError, match=text):
        open_runtime(name, network, batch=batch, pixel_type=pixel_type)
