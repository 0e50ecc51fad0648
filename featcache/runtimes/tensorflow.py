"""A network as one TensorFlow graph of one fixed signature, traced once."""

from __future__ import annotations

from typing import Any

import numpy as np

from featcache.backbones import Network
from featcache.backbones.keras_import import import_keras, import_tensorflow
from featcache.backbones.network import each_tap
from featcache.runtimes.choice import Choice
from featcache.runtimes.runtime import Array, Result, Runtime


def compile_network(network: Network, choice: Choice, *, batch: int, pixel_type: str) -> Runtime:
    """Trace the network for uint8 or float32 pixels, (batch, H, W, 3)."""
    tensorflow, keras = import_tensorflow(), import_keras()
    shape = (batch, *network.size, 3)
    model = network.model
    traced: list[str] = []

    def forward(pixels: Any) -> Any:
        traced.append(network.backbone.name)
        return model(tensorflow.cast(pixels, "float32"), training=False)

    # Autograph would rewrite Python that has no loops over tensors to rewrite.
    signature = tensorflow.TensorSpec(shape, pixel_type, name="pixels")
    graph = tensorflow.function(forward, autograph=False).get_concrete_function(signature)

    def launch(pixels: Array) -> Result:
        rows = graph(tensorflow.constant(pixels))
        return lambda: [np.array(tap.numpy(), np.float32, copy=True) for tap in each_tap(rows)]

    return Runtime(
        name="tensorflow",
        device=_device(tensorflow),
        choice=choice.reason,
        versions={"tensorflow": tensorflow.__version__, "keras": keras.__version__},
        shape=shape,
        pixel_type=pixel_type,
        launch=launch,
        count_traces=lambda: len(traced),
    )


def _device(tensorflow: Any) -> str:
    """ "CPU", or the first GPU and its name."""
    gpus = tensorflow.config.list_physical_devices("GPU")
    if not gpus:
        return "CPU"
    details = tensorflow.config.experimental.get_device_details(gpus[0])
    return f"GPU:0 {details.get('device_name', '')}".strip()
