"""From a network that Keras has built to a runtime, by name."""

from __future__ import annotations

from featcache.backbones import Network
from featcache.errors import FeatcacheError
from featcache.runtimes.choice import check_precision, choose_runtime
from featcache.runtimes.runtime import Runtime

_PIXEL_TYPES = ("uint8", "float32")


def open_runtime(
    name: str, network: Network, *, batch: int, pixel_type: str, precision: str = "float32"
) -> Runtime:
    """Make a network ready for batches of `batch` images of `pixel_type` ("uint8", "float32").

    `name` is "auto", "tensorflow" or "openvino". Raises `FeatcacheError` for anything else, and
    for a precision that the runtime lacks. Nothing is proven: see `proof.py`.
    """
    choice = choose_runtime(name)
    if pixel_type not in _PIXEL_TYPES:
        raise FeatcacheError(f"pixels of {pixel_type!r}: expected {' or '.join(_PIXEL_TYPES)}")
    if batch < 1:
        raise FeatcacheError(f"--batch {batch}: expected at least 1 image")
    check_precision(choice.name, precision)
    if choice.name == "tensorflow":
        from featcache.runtimes.fitting import compile_fitting

        return compile_fitting(
            network, choice, batch=batch, pixel_type=pixel_type, precision=precision
        )
    from featcache.runtimes.openvino import compile_graph, convert_network

    return compile_graph(
        convert_network(network),
        choice,
        shape=(batch, *network.size, 3),
        pixel_type=pixel_type,
        precision=precision,
    )
