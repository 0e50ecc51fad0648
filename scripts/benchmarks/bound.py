"""What bounds extraction on this machine, measured without a line of featcache.

    python scripts/benchmarks/bound.py network GRAPH.xml SIDE BATCH PRECISION
    python scripts/benchmarks/bound.py decode FOLDER SIDE
    python scripts/benchmarks/bound.py matrix

Each prints one JSON object: images a second of the network, fed from memory; seconds an image on
one core; float32 operations a second of `@`. The network runs as a plain OpenVINO program runs it:
fixed batch, throughput hint, all cores, one request more than there are streams. The decoder is
libjpeg-turbo's fast DCT and OpenCV's bilinear on float32, which gives Keras's own pixels.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections import deque
from pathlib import Path

import numpy as np

#: Of measuring; the network once more to warm up.
SECONDS = 3.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["network", "decode", "matrix"])
    parser.add_argument("of", nargs="*", help="GRAPH.xml SIDE BATCH PRECISION, or FOLDER SIDE")
    options = parser.parse_args()
    measure = {"network": network, "decode": decode, "matrix": matrix}[options.what]
    print(json.dumps(measure(*options.of)))


def network(graph: str, side: str, batch: str, precision: str) -> dict:
    """Images per second of a compiled graph whose batches lie in memory."""
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # it would send events
    import openvino

    core = openvino.Core()
    model = core.read_model(graph)
    model.reshape([int(batch), int(side), int(side), 3])
    settings = {
        "INFERENCE_PRECISION_HINT": {"float32": "f32", "bfloat16": "bf16"}[precision],
        "PERFORMANCE_HINT": "THROUGHPUT",
        "INFERENCE_NUM_THREADS": os.cpu_count(),
    }
    compiled = core.compile_model(model, "CPU", settings)
    streams = compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")
    requests = [compiled.create_infer_request() for _ in range(streams + 1)]
    pixels = np.random.default_rng(0).uniform(0, 255, (int(batch), int(side), int(side), 3))
    for request in requests:
        request.set_input_tensor(openvino.Tensor(pixels.astype(np.float32)))
    _run_for(requests, 1.0)
    batches, seconds = _run_for(requests, SECONDS)
    return {"rate": batches * int(batch) / seconds}


def _run_for(requests: list, seconds: float) -> tuple[int, float]:
    """Batches that were finished, and the seconds they took; every request is busy all the time."""
    started, done = time.monotonic(), 0
    under_way = deque(requests)
    for request in requests:
        request.start_async()
    while time.monotonic() - started < seconds:
        request = under_way.popleft()
        request.wait()
        request.start_async()
        under_way.append(request)
        done += 1
    for request in under_way:
        request.wait()
    return done + len(requests), time.monotonic() - started


def decode(folder: str, side: str) -> dict:
    """Seconds of one core for one JPEG file in memory: decoded and resized."""
    import cv2
    import simplejpeg

    cv2.setNumThreads(1)
    files = [path.read_bytes() for path in sorted(Path(folder).glob("*.jpg"))[:200]]
    started, done = time.process_time(), 0
    while time.process_time() - started < SECONDS / 2:
        pixels = simplejpeg.decode_jpeg(files[done % len(files)], "RGB", fastdct=True)
        size = (int(side), int(side))
        cv2.resize(pixels.astype(np.float32), size, interpolation=cv2.INTER_LINEAR)
        done += 1
    return {"seconds": (time.process_time() - started) / done}


def matrix() -> dict:
    """Float32 operations per second, a multiply-add counted as two, of a matrix product."""
    side = 2048
    left, right = np.random.default_rng(0).random((2, side, side), np.float32)
    best = float("inf")
    for _ in range(12):
        started = time.perf_counter()
        left @ right
        best = min(best, time.perf_counter() - started)
    return {"operations": 2 * side**3 / best}


if __name__ == "__main__":
    main()
