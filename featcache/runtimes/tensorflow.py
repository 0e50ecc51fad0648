"""A network as one TensorFlow graph of one fixed signature, traced once, its weights constants.

It is tried before it is used: with XLA where that compiles, at a batch that fits in memory, in
float16 or bfloat16 where it was asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np

from featcache.backbones.keras_import import import_keras, import_tensorflow
from featcache.backbones.layers import computing_in
from featcache.backbones.network import Network, each_tap
from featcache.errors import FeatcacheError
from featcache.runtimes.choice import RuntimeChoice
from featcache.runtimes.runtime import Array, Result, Runtime

#: Weights of at most so many bytes become constants of the graph; while it is made they are held
#: several times over, and a graph of more than 2 GB cannot be made at all.
CONSTANT_BYTES = 400_000_000

#: Batches under way on a GPU: while one computes, the next is copied to it. A CPU has no idle part.
GPU_LANES = 2

Made = TypeVar("Made")

#: They stay in float32: pixels before they are scaled, and sums over a whole map. (BatchNorm and
#: LayerNorm go to float32 by themselves.) Both cost nothing beside the convolutions.
_FULL = {
    "Rescaling",
    "Normalization",
    "GlobalAveragePooling2D",
    "GlobalMaxPooling2D",
}


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
    call = _inference(tensorflow, network.model)

    def forward(pixels: Any) -> list[Any]:
        with computing_in(computing_layers(network.model), precision):
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


def compile_fitting(
    network: Network,
    choice: RuntimeChoice,
    *,
    batch: int,
    pixel_type: str,
    precision: str = "float32",
) -> Runtime:
    """`compile_network`; on a GPU with XLA where that compiles, at the largest batch that fits.

    `batch` of the runtime may be smaller than was asked: halved, once or more; `remarks` says so,
    and whether XLA was refused. Raises `FeatcacheError` where not even one image fits.
    """

    def compiled(size: int, xla: bool) -> Runtime:
        return compile_network(
            network, choice, batch=size, pixel_type=pixel_type, precision=precision, xla=xla
        )

    if not import_tensorflow().config.list_physical_devices("GPU"):
        return compiled(batch, False)
    runtime = halved_until_it_fits(lambda size: with_or_without_xla(compiled, size), batch)
    if runtime.batch == batch:
        return runtime
    remark = f"a batch of {batch} images does not fit the GPU's memory: {runtime.batch} are used"
    return replace(runtime, remarks=(*runtime.remarks, remark))


def halved_until_it_fits(make: Callable[[int], Made], batch: int) -> Made:
    """What `make` gives at `batch`, or at the first of its halves that fits in memory.

    `make` raises TensorFlow's `ResourceExhaustedError` where it does not; at a batch of one image
    that becomes a `FeatcacheError`.
    """
    tensorflow = import_tensorflow()
    while True:
        try:
            return make(batch)
        except tensorflow.errors.ResourceExhaustedError as error:
            if batch == 1:
                raise FeatcacheError(
                    "not even one image fits the GPU's memory. Free it of other programs, choose "
                    "a smaller --size, or hide the GPU: CUDA_VISIBLE_DEVICES=-1"
                ) from error
        # Outside of the handler, whose error would keep the tensors of its frames in memory.
        batch //= 2


def with_or_without_xla(compiled: Callable[[int, bool], Runtime], batch: int) -> Runtime:
    """A runtime that has run a batch: compiled by XLA, or by TensorFlow alone where XLA fails.

    Raises TensorFlow's `ResourceExhaustedError` where the batch does not fit in memory.
    """
    errors = import_tensorflow().errors
    try:
        return tried(compiled(batch, True))
    except errors.ResourceExhaustedError:
        raise
    except errors.OpError as error:
        first = next(iter(str(error).splitlines()), "")[:200]
        remark = f"XLA does not compile this network ({first}): TensorFlow runs it without"
    return replace(tried(compiled(batch, False)), remarks=(remark,))


def tried(runtime: Runtime) -> Runtime:
    """The runtime, after every lane of it has run a black batch at once."""
    pixels = np.zeros(runtime.shape, runtime.pixel_type)
    for result in [runtime.start(pixels) for _ in range(runtime.lanes)]:
        result()
    return runtime


def computing_layers(model: Any) -> list[Any]:
    """The layers that compute, those of models inside the model included."""
    found = []
    for layer in model.layers:
        if hasattr(layer, "layers"):
            found += computing_layers(layer)
        elif type(layer).__name__ not in _FULL:
            found.append(layer)
    return found
