"""Rounding: how far a network's float32 vectors are from the exact ones, and what that allows.

Errors are those of `probe.row_error`: max|a - b| / max|b| of each row.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from featcache.backbones.keras_import import keras_versions
from featcache.backbones.network import Network
from featcache.errors import FeatcacheError
from featcache.files.home import keep, note_path, recall
from featcache.recipe import NETWORK_RULES
from featcache.runtimes.probe import measure_error, row_error

#: How many times a network's own rounding another computation of it may be away.
MULTIPLE = 4
#: What is allowed in any case: some forty last bits of float32. A mean over a large map, added up
#: in another order, can lose that in one computation and by good luck nothing in the other.
LEAST = 5e-6
#: Disturbed weights do not show how long sums round (a mean over 112 x 112 was seen to lose
#: 1.8e-5): no rounding that they give is below this.
_UNSEEN = 5e-6
#: A network whose own rounding is larger is refused: too little of float32 is left in its vectors.
LARGEST = 2.5e-4
#: The same for vectors in bfloat16 and float16, which keep 8 and 11 bits of a number: another chip
#: or library that sums in another order gives another last bit, 4e-3 of a number in bfloat16.
REDUCED = 1e-2
#: Disturbed computations of a network that cannot be computed in float64.
_SEEDS = range(4)


def rounding_of(
    network: Network, pixels: np.ndarray, live: list[np.ndarray] | None = None
) -> list[float]:
    """The rounding of each tap of a network on the probe `pixels`, measured once and then noted.

    `live` is what live Keras gives for them, where that is known. See `measure_rounding`.
    """
    note = _note_path(network)
    known = recall(note, lambda record: [float(each) for each in record["roundings"]])
    if known and len(known) == len(network.taps) and all(0 <= each < np.inf for each in known):
        return known
    roundings = measure_rounding(network, pixels, live or network.live(pixels))
    keep(note, {"roundings": roundings})
    return roundings


def _note_path(network: Network) -> Path:
    """Where the note is: its name is made of everything that the rounding depends on."""
    return note_path(
        "rounding",
        NETWORK_RULES,
        network.backbone.name,
        [(tap.layer, tap.pooling, tap.weights) for tap in network.taps],
        network.size,
        repr(network.backbone.scaling),
        keras_versions(),
    )


def measure_rounding(network: Network, pixels: np.ndarray, live: list[np.ndarray]) -> list[float]:
    """The rounding of each tap of a network: the largest error of its float32 vectors on `pixels`.

    `live` is what live Keras gives for them, (n, *row_shape) for each tap. It is compared with the
    same network in float64; where a network cannot be computed so, see `disturbed_rounding`.
    Raises `FeatcacheError` where `live` has values that are no numbers.
    """
    if not all(np.isfinite(tap).all() for tap in live):
        raise FeatcacheError(
            f"{network.name} gives values that are no numbers (NaN or infinite) on the probe "
            f"images: its weights are damaged or diverged, or --scale is not what it was trained on"
        )
    exact = network.exact(pixels)
    if exact is not None:
        return [measure_error(*pair) for pair in zip(live, exact, strict=True)]
    return [max(each, _UNSEEN) for each in disturbed_rounding(network, pixels, live)]


def disturbed_rounding(network: Network, pixels: np.ndarray, live: list[np.ndarray]) -> list[float]:
    """About what `measure_rounding` gives, by float32 alone.

    Weights and inputs are moved by their last bit: the median error over images and seeds. But for
    long sums it was 0.5 to 2 times the largest error against float64 (docs/backbones.md).
    """
    others = [network.disturbed(pixels, seed) for seed in _SEEDS]
    errors = [[row_error(*pair) for pair in zip(other, live, strict=True)] for other in others]
    return [float(each) for each in np.median(errors, axis=(0, 2))]


def allowed_error(*roundings: float, precision: str = "float32") -> float:
    """The largest difference that counts as rounding between two computations of one network.

    `roundings` are what was measured of the network, here or elsewhere; the largest counts.

    Forward error analysis bounds the error of any order of computing a network by
    condition number x length of its sums x 6e-8, and the first two are the network's own (Higham,
    Accuracy and Stability of Numerical Algorithms, 2nd ed., sections 1.6 and 3.1). So what one
    computation in float32 was measured to lose tells what another one may lose, and a constant
    does not: it would refuse good computations of one network and let slightly wrong ones of
    another pass. Live Keras and a runtime are each about one rounding away from the exact vectors;
    `MULTIPLE` covers how far the two were seen apart over all networks (docs/backbones.md).

    Raises `FeatcacheError` for a network whose rounding is above `LARGEST`.
    """
    rounding = max(roundings)
    if not rounding <= LARGEST:
        raise FeatcacheError(
            f"this network magnifies rounding too much: its vectors in float32 are {rounding:.1e} "
            f"away from those in float64, at most {LARGEST:.1e} can be told from a wrong "
            f"computation. Random weights of deep networks do so, and training that diverged; "
            f"use trained weights, or tap an earlier --layer"
        )
    return max(LEAST, MULTIPLE * rounding) if precision == "float32" else REDUCED


def check_probe(
    measured: np.ndarray,
    stored: np.ndarray,
    difference: str,
    *,
    roundings: Sequence[float],
    precision: str = "float32",
) -> None:
    """Refuse to add rows to a recipe whose probe is not reproduced.

    `roundings` are those of the network, here and where the probe was stored, if known there.
    Raises `FeatcacheError` with the measured error and `difference`, the versions that changed.
    """
    if measured.shape != stored.shape:
        raise FeatcacheError(
            f"the network gives vectors of another shape than the stored features "
            f"({measured.shape[1]} probe values, expected {stored.shape[1]}); {difference}"
        )
    error, bound = measure_error(measured, stored), allowed_error(*roundings, precision=precision)
    if not error <= bound:
        raise FeatcacheError(
            f"this installation does not reproduce the stored features: the probe differs by "
            f"{error:.1e} (at most {bound:.1e} is rounding); {difference}. Nothing was added. "
            f"Use the earlier versions, or remove the old features with `featcache rm`"
        )


def check_parity(vectors: np.ndarray, live: np.ndarray, runtime: str, *, rounding: float) -> float:
    """The largest error of a runtime's probe vectors against the live Keras network.

    Raises `FeatcacheError` where it is more than rounding: such a graph must not be used.
    """
    error, bound = measure_error(vectors, live), allowed_error(rounding)
    if not error <= bound:
        raise FeatcacheError(
            f"the {runtime} runtime does not agree with the live Keras network: the probe differs "
            f"by {error:.1e}, at most {bound:.1e} is rounding ({rounding:.1e} is the network's "
            f"own). Nothing was extracted. This is a defect of featcache or of an installed "
            f"library: please report it"
        )
    return error
