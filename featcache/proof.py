"""Proof: a runtime that has shown, on the probe, that it computes what live Keras computes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from featcache.backbones import Network
from featcache.pipeline import run_padded
from featcache.probe import check_parity, probe_pixels, thinned
from featcache.recipe import Decoding
from featcache.runtimes import Runtime, open_runtime


@dataclass(frozen=True, slots=True)
class Proven:
    """A runtime, its thinned probe vectors (8, k), and its largest error against live Keras."""

    runtime: Runtime
    probe: np.ndarray
    parity: float


def open_proven(name: str, network: Network, decoding: Decoding, *, batch: int) -> Proven:
    """Compile a network and compare its probe with the live one.

    Raises `FeatcacheError` where they differ by more than rounding.
    """
    runtime = open_runtime(name, network, batch=batch, pixel_type=decoding.pixel_type)
    pixels = probe_pixels(decoding)
    vectors = run_padded(runtime, pixels)
    parity = check_parity(vectors, network.live(pixels.astype(np.float32)), runtime.name)
    return Proven(runtime, thinned(vectors), parity)
