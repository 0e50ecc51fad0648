"""The probe: eight fixed synthetic images that guard what the recipe's key leaves out.

Their vectors are stored with each recipe. Another library version, machine or runtime must
reproduce them before it may add a row, and they are the proof of parity with live Keras; both to
the network's own rounding (`rounding.py`). No image of the user's is needed for either.
"""

from __future__ import annotations

import numpy as np

from featcache.recipe import Decoding

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


def measure_error(vectors: np.ndarray, reference: np.ndarray) -> float:
    """The largest error of any row; NaN where the vectors are not finite."""
    return float(row_error(vectors, reference).max())
