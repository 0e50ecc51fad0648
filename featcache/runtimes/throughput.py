"""How fast a network alone runs on this machine, opened by the name of its runtime."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass

import numpy as np

from featcache.backbones.network import Network, open_network
from featcache.backbones.table import Backbone
from featcache.errors import FeatcacheError
from featcache.runtimes.choice import check_precision, choose_runtime, default_batch
from featcache.runtimes.runtime import Runtime

#: Measured for so long after the warm-up, and for at least so many batches.
SECONDS, BATCHES = 2.0, 8

_PIXEL_TYPES = ("uint8", "float32")


@dataclass(frozen=True, slots=True)
class Throughput:
    """Images a second of a network at its default size, fed from memory."""

    images_per_second: float
    runtime: str
    batch: int


def measure_throughput(backbone: Backbone, *, runtime: str = "auto") -> Throughput:
    """Compile a network with random weights, which are as fast as trained ones, and time it."""
    size = (backbone.size, backbone.size)
    network = open_network(backbone, weights="random", size=size)
    batch = default_batch(runtime, size)
    compiled = open_runtime(runtime, network, batch=batch, pixel_type="uint8")
    _timed(compiled, batches=2 * compiled.lanes, seconds=0.0)
    speed = _timed(compiled, batches=BATCHES, seconds=SECONDS)
    return Throughput(speed, compiled.name, batch)


def _timed(runtime: Runtime, *, batches: int, seconds: float) -> float:
    """Images a second over at least so many batches and seconds, with all lanes in use."""
    pixels = np.random.default_rng(0).integers(0, 256, runtime.shape, dtype=np.uint8)
    under_way = deque([runtime.start(pixels) for _ in range(runtime.lanes)])
    started, done = time.perf_counter(), 0
    while done < batches or time.perf_counter() - started < seconds:
        under_way.popleft()()
        under_way.append(runtime.start(pixels))
        done += 1
    elapsed = time.perf_counter() - started
    for result in under_way:
        result()
    return done * runtime.batch / elapsed


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
        from featcache.runtimes.tensorflow import compile_fitting

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
