"""What a GPU needs, tested without one: back-off, XLA's refusal, reduced precision, threads."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from featcache.backbones.keras_import import import_tensorflow
from featcache.backbones.layers import computing_in
from featcache.errors import FeatcacheError
from featcache.runtimes.choice import RuntimeChoice
from featcache.runtimes.runtime import Runtime
from featcache.runtimes.tensorflow import (
    compile_fitting,
    compile_network,
    computing_layers,
    halved_until_it_fits,
    tried,
    with_or_without_xla,
)
from tests.backbones.networks import error_norm, photographs, small_network

CHOICE = RuntimeChoice("tensorflow", True, "asked for by --runtime tensorflow")


@pytest.fixture(scope="module")
def network():
    return small_network("mobilenetv2")


def compiled(network, batch: int, **options: object) -> Runtime:
    return compile_network(network, CHOICE, batch=batch, pixel_type="uint8", **options)


def too_large_for(limit: int, asked: list[int]):
    """A function that makes a number of up to `limit`, and notes what it was asked for."""
    tensorflow = import_tensorflow()

    def make(batch: int) -> int:
        asked.append(batch)
        if batch > limit:
            raise tensorflow.errors.ResourceExhaustedError(None, None, "OOM when allocating")
        return batch

    return make


@pytest.mark.parametrize(
    ("batch", "limit", "tries"),
    [(256, 256, [256]), (256, 100, [256, 128, 64]), (48, 5, [48, 24, 12, 6, 3]), (5, 1, [5, 2, 1])],
)
def test_a_batch_is_halved_until_it_fits(batch, limit, tries):
    """The first half that fits is used, and nothing is tried after it."""
    asked: list[int] = []
    assert halved_until_it_fits(too_large_for(limit, asked), batch) == tries[-1]
    assert asked == tries


def test_one_image_too_large_is_an_error():
    """Where not even one image fits, the error says what to do; other errors pass unchanged."""
    with pytest.raises(FeatcacheError, match="choose a smaller --size"):
        halved_until_it_fits(too_large_for(0, []), 4)

    def broken(batch: int) -> int:
        raise ValueError("something else")

    with pytest.raises(ValueError, match="something else"):
        halved_until_it_fits(broken, 4)


def test_xla_that_fails_is_replaced_aloud(network):
    """Where XLA does not compile the network, it runs without, and the runtime says so."""
    tensorflow = import_tensorflow()

    def make(batch: int, xla: bool) -> Runtime:
        if xla:
            raise tensorflow.errors.InvalidArgumentError(None, None, "no kernel for Roll\nmore")
        return compiled(network, batch)

    runtime = with_or_without_xla(make, 2)
    assert runtime.remarks == (
        "XLA does not compile this network (no kernel for Roll): TensorFlow runs it without",
    )
    pixels = photographs(network.size, 2)
    assert error_norm(runtime.start(pixels)()[0], network.live(pixels)[0]) <= 1e-5


def test_a_batch_too_large_for_xla_is_no_fault_of_xla():
    """Out of memory, the batch is what must change: it is not tried again without XLA."""
    tensorflow = import_tensorflow()
    asked: list[int] = []
    make = too_large_for(0, asked)
    with pytest.raises(tensorflow.errors.ResourceExhaustedError):
        with_or_without_xla(lambda batch, xla: make(batch), 8)
    assert asked == [8]


def test_xla_gives_the_rows_of_keras(network):
    """The graph that XLA compiles, here for the CPU, agrees with live Keras to 1e-5."""
    runtime = tried(compiled(network, 2, xla=True))
    pixels = photographs(network.size, 2)
    assert error_norm(runtime.start(pixels)()[0], network.live(pixels)[0]) <= 1e-5


def test_a_cpu_is_given_the_batch_that_was_asked_for(network):
    """Without a GPU nothing is tried, halved or remarked."""
    if import_tensorflow().config.list_physical_devices("GPU"):
        pytest.skip("this machine has a GPU")
    runtime = compile_fitting(network, CHOICE, batch=3, pixel_type="uint8")
    assert (runtime.batch, runtime.lanes, runtime.remarks) == (3, 1, ())


def test_reduced_precision_has_the_error_of_its_bits(network):
    """float16 has three bits more than bfloat16: both are far from rounding, it is nearer."""
    pixels = photographs(network.size, 4)
    live = network.live(pixels)[0]
    errors = {}
    for precision in ("bfloat16", "float16"):
        runtime = compiled(network, 4, precision=precision)
        rows = runtime.start(pixels)()[0]
        assert rows.dtype == np.float32
        assert runtime.precision == precision
        errors[precision] = error_norm(rows, live)
    assert 5e-3 < errors["bfloat16"] < 1e-1
    assert 5e-4 < errors["float16"] < 1e-2
    assert 4 < errors["bfloat16"] / errors["float16"] < 16


def test_a_network_is_what_it_was_after_reduced_precision(network):
    """Policies and weights are restored: live Keras gives the same bits."""
    pixels = photographs(network.size, 2)
    before = network.live(pixels)[0]
    policies = [layer.dtype_policy.name for layer in network.base.layers]
    for _ in range(2):
        with computing_in(computing_layers(network.model), "float16"):
            assert network.base.layers[2].dtype_policy.name == "mixed_float16"
    assert [layer.dtype_policy.name for layer in network.base.layers] == policies
    np.testing.assert_array_equal(network.live(pixels)[0], before)


def test_weights_too_large_for_constants_stay_variables(network, monkeypatch):
    """Above the limit the graph reads variables, and gives the rows of Keras."""
    monkeypatch.setattr("featcache.runtimes.tensorflow.CONSTANT_BYTES", 1000)
    pixels = photographs(network.size, 2)
    assert error_norm(compiled(network, 2).start(pixels)()[0], network.live(pixels)[0]) <= 1e-5


@pytest.mark.parametrize(
    ("before", "threads"),
    [
        ("tensorflow.config.threading.set_intra_op_parallelism_threads(1)", "1 3"),
        ("tensorflow.constant(1) + 1", "0 0"),
    ],
)
def test_tensorflow_gets_the_threads_of_the_container(before, threads):
    """As many as joblib counts, unless the user said otherwise or TensorFlow runs already."""
    code = (
        "import joblib\n"
        "import tensorflow\n"
        f"{before}\n"
        "joblib.cpu_count = lambda: 3\n"
        "from featcache.backbones.keras_import import import_tensorflow\n"
        "threading = import_tensorflow().config.threading\n"
        "print(threading.get_intra_op_parallelism_threads(),"
        " threading.get_inter_op_parallelism_threads())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == threads
