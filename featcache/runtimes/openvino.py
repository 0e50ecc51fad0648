"""A network as an OpenVINO graph: converted from Keras, kept as a file, compiled for the CPU."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np

from featcache.backbones.keras_import import import_keras, import_tensorflow
from featcache.backbones.network import Network, each_tap
from featcache.errors import FeatcacheError
from featcache.runtimes.choice import RuntimeChoice, check_precision
from featcache.runtimes.openvino_import import import_openvino
from featcache.runtimes.runtime import Array, Result, Runtime

#: The outputs of a graph are called so, with their places: tap0000, tap0001, ...
_TAP = "tap"

_TYPES = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}


def convert_network(network: Network) -> Any:
    """The OpenVINO graph of a network, float32 pixels (any, H, W, 3) in, a tap an output.

    Imports Keras. Raises `FeatcacheError` where OpenVINO has no operation for one of the
    network's.
    """
    openvino = import_openvino()
    traced = _traced(network)
    try:
        return openvino.convert_model(traced)
    except Exception as error:
        # Its converters raise whatever they like; the text says which operation it was.
        raise FeatcacheError(
            f"OpenVINO cannot convert {network.backbone.name}: {' '.join(str(error).split())[:300]}"
        ) from error


def _traced(network: Network) -> Any:
    """The model as a TensorFlow graph whose outputs are named by their places.

    OpenVINO gives them in an order of its own, and of a Keras model it gives equal ones once.
    """
    tensorflow = import_tensorflow()
    model = network.model

    def forward(pixels: Any) -> dict[str, Any]:
        taps = each_tap(model(pixels, training=False))
        return {f"{_TAP}{number:04d}": tensorflow.identity(tap) for number, tap in enumerate(taps)}

    signature = tensorflow.TensorSpec((None, *network.size, 3), "float32", name="pixels")
    return tensorflow.function(forward, autograph=False).get_concrete_function(signature)


def save_graph(graph: Any, path: Path) -> None:
    """Write the graph to an ``.xml`` and a ``.bin`` beside it, every weight in its own type.

    Raises `OSError` where the disk refuses, or takes less than all of it.
    """
    openvino = import_openvino()
    try:
        openvino.save_model(graph, path, compress_to_fp16=False)
    except RuntimeError as error:
        raise OSError(f"OpenVINO could not write it ({error})") from error


def read_graph(path: Path) -> Any:
    """The graph that `save_graph` wrote; raises `FeatcacheError` where it cannot be read."""
    openvino = import_openvino()
    try:
        return openvino.Core().read_model(path)
    except RuntimeError as error:
        raise FeatcacheError(f"{path}: not a graph of OpenVINO: {error}") from error


def compile_graph(
    graph: Any,
    choice: RuntimeChoice,
    *,
    shape: tuple[int, int, int, int],
    pixel_type: str,
    precision: str,
) -> Runtime:
    """Make a graph ready for batches of one shape; the graph itself is changed by it.

    Raises `FeatcacheError` where the device does not compute the network in that precision.
    """
    openvino = import_openvino()
    check_precision("openvino", precision)
    graph.reshape(list(shape))
    steps = openvino.preprocess.PrePostProcessor(graph)
    steps.input().tensor().set_element_type(openvino.Type(np.dtype(pixel_type)))
    settings = {
        # Always: this is bfloat16 by default where the CPU has it.
        "INFERENCE_PRECISION_HINT": _TYPES[precision],
        # Streams of few threads: while one waits between two layers, another computes.
        "PERFORMANCE_HINT": "THROUGHPUT",
        # Unlike OpenVINO's own count, this one knows the limits of a container.
        "INFERENCE_NUM_THREADS": joblib.cpu_count(),
    }
    try:
        compiled = openvino.Core().compile_model(steps.build(), "CPU", settings)
    except RuntimeError as error:
        # ONEDNN_MAX_CPU_ISA, for one, takes away what the CPU itself says it has.
        raise FeatcacheError(
            f"OpenVINO could not compile the network in {precision} for this CPU ({error}): "
            "use --precision float32, or --runtime tensorflow"
        ) from error
    # One more than there are streams: the next batch waits ready.
    lanes = compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS") + 1
    requests = [compiled.create_infer_request() for _ in range(lanes)]
    return Runtime(
        name="openvino",
        device="CPU",
        choice=choice.reason,
        versions={"openvino": openvino.__version__.split("-")[0]},
        shape=shape,
        pixel_type=pixel_type,
        launch=_launcher(requests, openvino.Tensor, _taps(compiled)),
        precision=precision,
        lanes=lanes,
    )


def _taps(compiled: Any) -> list[str]:
    """The names of the outputs, in the order of the model's; two taps may share an output."""
    names = {name for output in compiled.outputs for name in output.get_names()}
    return sorted(name for name in names if name.startswith(_TAP))


def _launcher(requests: list[Any], tensor: Any, taps: list[str]) -> Callable[[Array], Result]:
    """Starts a batch on a free request; taking the result sets the request free again."""
    free = list(requests)

    def launch(pixels: Array) -> Result:
        if not free:
            raise FeatcacheError(f"more than {len(requests)} batches were started at once")
        request = free.pop()
        request.set_input_tensor(tensor(pixels, shared_memory=True))
        request.start_async()
        held = [pixels]  # the request reads this very memory until it is done

        def result() -> list[Array]:
            try:
                request.wait()
                # An output tensor is a view of the request's own memory: the next run fills it.
                return [np.array(request.get_tensor(tap).data, np.float32) for tap in taps]
            finally:
                held.clear()
                free.append(request)

        return result

    return launch


def versions() -> dict[str, str]:
    """Of the libraries that make a graph and prove it."""
    openvino, keras, tensorflow = import_openvino(), import_keras(), import_tensorflow()
    return {
        "openvino": openvino.__version__.split("-")[0],
        "keras": keras.__version__,
        "tensorflow": tensorflow.__version__,
    }
