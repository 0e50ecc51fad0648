"""The probe: eight fixed synthetic images that guard what the recipe's key leaves out.

Their vectors are stored with each recipe. Another library version, machine or runtime must
reproduce them before it may add a row, and they are the proof of parity with live Keras. No
image of the user's is needed for either.
"""

from __future__ import annotations

import numpy as np

from featcache.errors import FeatcacheError
from featcache.recipe import Decoding

#: The largest difference that counts as rounding, in the norm of `row_error`.
TOLERANCE = 1e-5

#: The same for bfloat16 and float16, which keep 8 and 11 bits of a number: another chip or
#: library that sums in another order gives another last bit, 4e-3 of a number in bfloat16.
REDUCED_TOLERANCE = 1e-2

#: Values kept of one probe vector; large maps are thinned evenly to this many.
KEPT = 4096


def probe_pixels(decoding: Decoding) -> np.ndarray:
    """The eight images, shape (8, height, width, 3), in the recipe's pixel type.

    Integer arithmetic and raw generator output only, so that they are the same everywhere.
    """
    height, width = decoding.size
    y, x = np.indices((height, width), dtype=np.int64)
    across, down = 255 * x // max(width - 1, 1), 255 * y // max(height - 1, 1)
    noise = np.random.PCG64(7).random_raw(height * width * 3)
    grain = (noise % np.uint64(256)).astype(np.int64).reshape(height, width, 3)
    disc = ((2 * y - height) ** 2 + (2 * x - width) ** 2 < min(height, width) ** 2 // 2) * 255
    checks = ((y // 8 + x // 8) % 2) * 255
    images = [
        np.stack([across, down, 255 - across], axis=-1),
        np.stack([down, 255 - down, across], axis=-1),
        grain,
        (grain + 3 * np.stack([across, across, down], axis=-1)) // 4,
        np.stack([disc, disc // 3, 255 - disc], axis=-1),
        np.stack([checks, 255 - checks, down], axis=-1),
        np.stack([across * down // 255, (across + 2 * down) // 3, disc], axis=-1),
        np.stack([200 + 0 * x, 90 + 0 * x, 30 + across // 8], axis=-1),
    ]
    return np.stack(images).astype(decoding.pixel_type)


def thinned(vectors: np.ndarray) -> np.ndarray:
    """At most `KEPT` evenly spaced values of each row, shape (n, k) float32: what is stored."""
    flat = vectors.reshape(len(vectors), -1)
    step = -(-flat.shape[1] // KEPT)
    return np.ascontiguousarray(flat[:, ::step], dtype=np.float32)


def row_error(ours: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """max|a - b| / max|b| for each row, shape (n,): the error norm of this project."""
    ours, reference = ours.reshape(len(ours), -1), reference.reshape(len(reference), -1)
    difference = np.abs(ours.astype(np.float64) - reference).max(axis=1)
    scale = np.abs(reference.astype(np.float64)).max(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(difference == 0, 0.0, difference / scale)


def tolerance(precision: str) -> float:
    """The largest difference that counts as rounding between two runs of one recipe."""
    return TOLERANCE if precision == "float32" else REDUCED_TOLERANCE


def measure_error(vectors: np.ndarray, reference: np.ndarray) -> float:
    """The largest error of any row; NaN where the vectors are not finite."""
    return float(row_error(vectors, reference).max())


def check_probe(
    measured: np.ndarray, stored: np.ndarray, difference: str, *, precision: str = "float32"
) -> None:
    """Refuse to add rows to a recipe whose probe is not reproduced.

    Raises `FeatcacheError` with the measured error and `difference`, the versions that changed.
    """
    if measured.shape != stored.shape:
        raise FeatcacheError(
            f"the network gives vectors of another shape than the stored features "
            f"({measured.shape[1]} probe values, expected {stored.shape[1]}); {difference}"
        )
    error, bound = measure_error(measured, stored), tolerance(precision)
    if not error <= bound:
        raise FeatcacheError(
            f"this installation does not reproduce the stored features: the probe differs by "
            f"{error:.1e} (at most {bound:.0e} is rounding); {difference}. Nothing was added. "
            f"Use the earlier versions, or remove the old features with `featcache rm`"
        )


def check_parity(vectors: np.ndarray, live: np.ndarray, runtime: str) -> float:
    """The largest error of a runtime's probe vectors against the live Keras network.

    Raises `FeatcacheError` where it is more than rounding: such a graph must not be used.
    """
    error = measure_error(vectors, live)
    if not error <= TOLERANCE:
        raise FeatcacheError(
            f"the {runtime} runtime does not agree with the live Keras network: the probe differs "
            f"by {error:.1e}, at most {TOLERANCE:.0e} is rounding. Nothing was extracted. Networks "
            f"with random weights can magnify rounding so much; with trained weights this is a "
            f"defect of featcache or of an installed library: please report it"
        )
    return error
