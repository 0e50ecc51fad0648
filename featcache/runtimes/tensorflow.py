"""A network as one TensorFlow graph of one fixed signature, traced once, its weights constants."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from featcache.backbones import Network
from featcache.backbones.keras_import import import_keras, import_tensorflow
from featcache.backbones.network import each_tap
from featcache.runtimes.choice import RuntimeChoice
from featcache.runtimes.reduced_precision import computing_in
from featcache.runtimes.runtime import Array, Result, Runtime

#: Weights of at most so many bytes become constants of the graph; while it is made they are held
#: several times over, and a graph of more than 2 GB cannot be made at all.
CONSTANT_BYTES = 400_000_000

#: Batches under way on a GPU: while one computes, the next is copied to it. A CPU has no idle part.
GPU_LANES = 2


def compile_network(
    network: Network,
    choice: RuntimeChoice,
    *,
    batch: int,
    pixel_type: str,
    precision: str = "float32",
    xla: bool = False,
) -> Runtime:
    """Trace the network for uint8 or float32 pixels, (batch, H, W, 3).

    Its layers compute in `precision`; pixels and rows are what they are in float32. `xla` has the
    graph compiled by XLA at its first run. Whether the device can do either is not checked.
    """
    tensorflow, keras = import_tensorflow(), import_keras()
    shape = (batch, *network.size, 3)
    device = device_name(tensorflow)
    traced: list[str] = []
    call = _inference(tensorflow, network.model)

    def forward(pixels: Any) -> list[Any]:
        traced.append(network.backbone.name)
        with computing_in(precision, network.model):
            rows = call(tensorflow.cast(pixels, "float32"))
        return [tensorflow.cast(each, "float32") for each in each_tap(rows)]

    # Autograph would rewrite Python that has no loops over tensors to rewrite.
    function = tensorflow.function(forward, autograph=False, jit_compile=xla or None)
    signature = tensorflow.TensorSpec(shape, pixel_type, name="pixels")
    graph = function.get_concrete_function(signature)
    return Runtime(
        name="tensorflow",
        device=device,
        choice=choice.reason,
        versions={"tensorflow": tensorflow.__version__, "keras": keras.__version__},
        shape=shape,
        pixel_type=pixel_type,
        launch=_launcher(graph, tensorflow.constant),
        count_traces=lambda: len(traced),
        precision=precision,
        lanes=1 if device == "CPU" else GPU_LANES,
    )


def _inference(tensorflow: Any, model: Any) -> Callable[[Any], Any]:
    """The model as a function of scaled or unscaled pixels, for tracing.

    Weights that are constants let TensorFlow fold BatchNorm into convolutions and lay out their
    kernels once: a tenth to a quarter faster on a CPU.
    """
    trained = [variable.numpy() for variable in model.trainable_variables]
    others = [variable.numpy() for variable in model.non_trainable_variables]
    if sum(value.nbytes for value in (*trained, *others)) > CONSTANT_BYTES:
        return lambda pixels: model(pixels, training=False)

    def call(pixels: Any) -> Any:
        constants = [[tensorflow.constant(value) for value in each] for each in (trained, others)]
        return model.stateless_call(*constants, pixels, training=False)[0]

    return call


def _launcher(graph: Callable[[Any], list[Any]], tensor: Any) -> Callable[[Array], Result]:
    """Hands a batch over; on a GPU the call returns while it still computes, and a result waits."""

    def launch(pixels: Array) -> Result:
        rows = graph(tensor(pixels))
        # On a CPU `numpy()` is a view of TensorFlow's memory, which cannot be written.
        return lambda: [np.array(each.numpy(), dtype=np.float32, copy=True) for each in rows]

    return launch


def device_name(tensorflow: Any) -> str:
    """ "CPU", or the first GPU and its name."""
    gpus = tensorflow.config.list_physical_devices("GPU")
    if not gpus:
        return "CPU"
    details = tensorflow.config.experimental.get_device_details(gpus[0])
    return f"GPU:0 {details.get('device_name', '')}".strip()
