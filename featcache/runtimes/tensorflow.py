"""A network as one TensorFlow graph of one fixed signature, traced once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from featcache.backbones import Network
from featcache.backbones.keras_import import import_keras, import_tensorflow


@dataclass(frozen=True, slots=True)
class Compiled:
    """A traced network. `traced` gains an entry at each trace, so its length counts them."""

    compute: Callable[[np.ndarray[Any, Any]], list[np.ndarray[Any, Any]]]
    device: str
    versions: dict[str, str]
    traced: list[str]


def compile_network(network: Network, *, batch: int, pixel_type: str) -> Compiled:
    """Trace the network for uint8 or float32 pixels, (batch, H, W, 3)."""
    tensorflow, keras = import_tensorflow(), import_keras()
    signature = tensorflow.TensorSpec((batch, *network.size, 3), pixel_type, name="pixels")
    traced: list[str] = []

    def forward(pixels: Any) -> Any:
        traced.append(network.backbone.name)
        return network.model(tensorflow.cast(pixels, "float32"), training=False)

    # Autograph would rewrite Python that has no loops over tensors to rewrite.
    graph = tensorflow.function(forward, autograph=False).get_concrete_function(signature)

    def compute(pixels: np.ndarray[Any, Any]) -> list[np.ndarray[Any, Any]]:
        rows = graph(tensorflow.constant(pixels))
        return [np.array(rows.numpy(), dtype=np.float32, copy=True)]

    return Compiled(
        compute=compute,
        device=_device(tensorflow),
        versions={"tensorflow": tensorflow.__version__, "keras": keras.__version__},
        traced=traced,
    )


def _device(tensorflow: Any) -> str:
    """ "CPU", or the first GPU and its name."""
    gpus = tensorflow.config.list_physical_devices("GPU")
    if not gpus:
        return "CPU"
    details = tensorflow.config.experimental.get_device_details(gpus[0])
    return f"GPU:0 {details.get('device_name', '')}".strip()
