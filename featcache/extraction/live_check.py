"""Checking: cached rows of the user's own images against the live Keras network (--check N)."""

from __future__ import annotations

import numpy as np

from featcache.errors import DamagedFile
from featcache.extraction.job import Extraction, Job
from featcache.images.augment import view
from featcache.images.decoder import decode
from featcache.recipe import Recipe
from featcache.runtimes.probe import measure_error
from featcache.runtimes.rounding import allowed_error, measure_rounding

#: What storing in float16 costs: half of its last bit, 2^-11, of the largest value.
STORED_TOLERANCE = 5e-4


def check_rows(job: Job, results: list[Extraction], count: int) -> list[float]:
    """The largest error of some rows of each file against live Keras, in DESIGN's norm.

    `count` rows are spread evenly over the file; their images are read and decoded again.
    Raises `DamagedFile` where a row is not what the live network gives.
    """
    return [_check_file(job, result, count) for result in results]


def _check_file(job: Job, result: Extraction, count: int) -> float:
    features, recipe = job.cache.load(result.path), result.target.recipe
    rows = features[np.unique(np.linspace(0, len(features) - 1, count).astype(int))]
    pixels = np.stack(
        [_pixels(job, recipe, *row) for row in zip(rows.names, rows.views, strict=True)]
    )
    pixels = pixels.astype(np.float32)
    network = result.target.network.only([result.target.tap])
    live = network.live(pixels)
    error = measure_error(np.asarray(rows.maps, np.float32), live[0])
    bound = allowed_error(*measure_rounding(network, pixels, live), precision=recipe.precision)
    bound += STORED_TOLERANCE if recipe.dtype == "float16" else 0.0
    if not error <= bound:
        raise DamagedFile(
            f"{result.path}: a row differs from the live Keras network by {error:.1e} (at most "
            f"{bound:.1e} is rounding). This must not happen: please report it, with the output "
            f"of `featcache info`"
        )
    return error


def _pixels(job: Job, recipe: Recipe, name: str, number: int) -> np.ndarray:
    """What the network sees of a row: the image, or one of its views."""
    image = job.images.read(job.images.names.index(name))
    pixels = decode(image.content, recipe.decoding, max_pixels=job.settings.max_pixels).pixels
    views = job.views
    if number == 0 or views.augmentation is None:
        return pixels
    return view(pixels, views.augmentation, key=image.key, seed=views.seed, number=int(number))
