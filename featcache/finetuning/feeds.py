"""Feeds: pixels into the whole network, or cached rows into its part above a cut."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from featcache.errors import FeatcacheError
from featcache.features.features import Features
from featcache.features.rows import LazyRows
from featcache.finetuning.plan_ import FinetunePlan
from featcache.finetuning.start import Start
from featcache.heads.logistic.table import balanced_weights
from featcache.training import Feed, Pictures, PixelFeed, RowFeed


@dataclass(frozen=True, eq=False)
class Feeds:
    """What trains, and what chooses the best epoch (None: nothing could be held back)."""

    train: Feed
    validation: Feed | None


def feeds_of_rows(start: Start, activations: Features, plan: FinetunePlan) -> Feeds:
    """From the activations at a cut, which are rows of the same images (and views)."""

    def feed(mask: np.ndarray) -> RowFeed:
        rows = start.features[mask]
        same = _same_rows(rows, activations)
        return RowFeed(
            vectors=LazyRows(activations.vectors_of(same), same),
            codes=start.codes(rows),
            weights=_weights(start, rows, plan),
            images=np.unique(rows.names, return_inverse=True)[1],
            options=plan.learning,
        )

    roles = start.roles
    return Feeds(feed(roles.train), feed(roles.stop) if roles.stop.any() else None)


def feeds_of_pixels(start: Start, plan: FinetunePlan) -> Feeds:
    """From the images themselves; with `plan.augment`, another view in every epoch."""
    job, recipe = start.job, start.features.recipe
    pictures = Pictures.of(
        job.images,
        recipe.decoding,
        count=int((start.roles.train | start.roles.stop).sum()),
        max_pixels=job.settings.max_pixels,
    )
    place = {name: index for index, name in enumerate(job.images.names)}

    def feed(mask: np.ndarray, augmented: bool = False) -> PixelFeed:
        rows = start.features[mask]
        return PixelFeed(
            images=job.images,
            indices=np.array([place[name] for name in rows.names.tolist()]),
            codes=start.codes(rows),
            weights=_weights(start, rows, plan),
            decoding=recipe.decoding,
            options=plan.learning,
            augmentation=plan.augmentation if augmented else None,
            threads=job.settings.threads,
            max_pixels=job.settings.max_pixels,
            pictures=pictures,
        )

    roles = start.roles
    return Feeds(feed(roles.train, True), feed(roles.stop) if roles.stop.any() else None)


def _weights(start: Start, rows: Features, plan: FinetunePlan) -> np.ndarray | None:
    """With "balanced", each class's images together count the same (as in scikit-learn)."""
    if plan.class_weight == "none":
        return None
    trained = start.codes(start.features[start.roles.train])
    counts = np.bincount(trained, minlength=len(start.head.classes))
    balanced: np.ndarray = balanced_weights(counts)[start.codes(rows)].astype(np.float32)
    return balanced


def _same_rows(rows: Features, activations: Features) -> np.ndarray:
    """Where the same images and views stand in the activations."""
    there = {
        (name, view, key): number
        for number, (name, view, key) in enumerate(
            zip(
                activations.names.tolist(),
                activations.views.tolist(),
                activations.keys.tolist(),
                strict=True,
            )
        )
    }
    wanted = zip(rows.names.tolist(), rows.views.tolist(), rows.keys.tolist(), strict=True)
    found = [there.get(each, -1) for each in wanted]
    if -1 in found:
        name = rows.names[found.index(-1)]
        raise FeatcacheError(
            f"{name}: there are no activations of it at the cut, or the file changed meanwhile. "
            f"Numbers too large for float16 are a reason: try --cut-dtype float32, or run again"
        )
    return np.array(found, dtype=np.int64)
