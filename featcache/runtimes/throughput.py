"""How fast a network alone runs on this machine: no decoding, no disk."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass

import numpy as np

from featcache.backbones import Backbone, open_network
from featcache.runtimes.choice import default_batch
from featcache.runtimes.opening import open_runtime
from featcache.runtimes.runtime import Runtime

#: Measured for so long after the warm-up, and for at least so many batches.
SECONDS, BATCHES = 2.0, 8


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
