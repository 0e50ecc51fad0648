"""Vectors of any images under a recipe: from the cache where a row exists, else from the network.

Makes no data set and writes nothing: this is what `predict` stands on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from featcache.backbones import BACKBONES, Network, recall_network
from featcache.cache import FeatureCache, same_recipe
from featcache.decode import MAX_PIXELS
from featcache.errors import FeatcacheError
from featcache.images import ImageSet
from featcache.pipeline import Batch, Outcome, Work, run_pass
from featcache.probe import check_probe
from featcache.proof import open_proven
from featcache.recipe import Recipe
from featcache.runtimes import Runtime, default_batch
from featcache.store import Snapshot


@dataclass(frozen=True, slots=True)
class Source:
    """How to make vectors again: the recipe, where its weights lay, and the probe they gave."""

    recipe: Recipe
    weights_hint: str
    probe: np.ndarray

    def open_network(self, weights: str | None) -> Network:
        """The network of the recipe, with `weights` or those of the hint; the digest is checked."""
        recipe, wanted = self.recipe, weights or self.weights_hint
        backbone = BACKBONES.get(recipe.backbone)
        if backbone is None:
            raise FeatcacheError(f"this featcache has no backbone {recipe.backbone!r}: upgrade it")
        network = recall_network(
            backbone,
            weights=wanted,
            size=recipe.decoding.size,
            layer=recipe.layer,
            pooling=recipe.pooling,
        )
        if network.weights_digest != recipe.weights:
            raise FeatcacheError(
                f"the weights {wanted!r} are not those the features were made with (digest "
                f"{network.weights_digest[:12]}, expected {recipe.weights[:12]}): give the right "
                f"file with --weights"
            )
        return network

    def open_runtime(self, weights: str | None, batch: int, say: Callable[[str], None]) -> Runtime:
        """A runtime that agrees with live Keras and has reproduced the stored probe."""
        network = self.open_network(weights)
        proven = open_proven("auto", network, self.recipe, batch=batch)
        reason = "the stored one came with the head"
        check_probe(proven.probe, self.probe, reason, precision=self.recipe.precision)
        for line in (proven.runtime.choice, *proven.remarks):
            say(line)
        return proven.runtime


@dataclass(frozen=True, slots=True)
class Answer:
    """Vectors of some images: `vectors[i]` belongs to `indices[i]`; `failed` has no vector."""

    indices: list[int]
    vectors: np.ndarray
    failed: list[Outcome]


def look_up(
    images: ImageSet,
    source: Source,
    cache: FeatureCache,
    *,
    weights: str | None = None,
    batch: int | None = None,
    threads: int = 2,
    say: Callable[[str], None] = lambda line: None,
) -> Iterator[Answer]:
    """Vectors of the images, in order; the network is only built when a row is not cached."""
    recipe = source.recipe
    batch = batch or default_batch(recipe.runtime or "auto", recipe.decoding.size)
    snapshots = [
        entry.store().snapshot()
        for entry in cache.entries()
        if entry.directory.name == recipe.slug and same_recipe(entry, recipe)
    ]
    work = Work(
        decoding=recipe.decoding,
        dtype=recipe.dtype,
        known=lambda key: any(_find(snapshot, [key])[0] >= 0 for snapshot in snapshots),
        threads=threads,
        max_pixels=MAX_PIXELS,
        unique=False,
    )

    def open_runtime() -> Runtime:
        return source.open_runtime(weights, batch, say)

    for part in run_pass(images, range(len(images)), work, open_runtime, batch):
        yield _answer(part, snapshots)


def _answer(part: Batch, snapshots: list[Snapshot]) -> Answer:
    failed = [outcome for outcome in part.others if outcome.trouble is not None]
    waiting = [outcome for outcome in part.others if outcome.trouble is None]
    indices = [outcome.index for outcome in part.rows]
    vectors = [part.vectors] if part.rows else []
    for snapshot in snapshots:
        positions = _find(snapshot, [outcome.key for outcome in waiting])
        if (positions >= 0).any():
            vectors.append(snapshot.read(positions[positions >= 0]))
            indices += [o.index for o, place in zip(waiting, positions, strict=True) if place >= 0]
            waiting = [o for o, place in zip(waiting, positions, strict=True) if place < 0]
    order = np.argsort(indices, kind="stable")
    merged = np.concatenate(vectors)[order] if vectors else np.zeros((0, 0), np.float32)
    return Answer(
        indices=[indices[place] for place in order.tolist()],
        vectors=merged,
        failed=failed,
    )


def _find(snapshot: Snapshot, keys: list[str]) -> np.ndarray:
    wanted = np.array([key.encode() for key in keys], "S64")
    return snapshot.find(wanted, np.zeros(len(keys), np.int32))
