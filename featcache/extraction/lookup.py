"""Vectors of any images under a recipe: from the cache where a row exists, else from the network.

Makes no data set and writes nothing: `predict` is built on it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from featcache.backbones.network import Network
from featcache.backbones.opening import recall_recipe
from featcache.errors import BadImage
from featcache.extraction.filling import as_stored
from featcache.extraction.pipeline import Batch, run_pass
from featcache.extraction.reading import AHEAD, Outcome, Reading, Stream, reading_notes
from featcache.features.cache import FeatureCache, weights_hint
from featcache.features.features import Features
from featcache.features.store.snapshot import Snapshot, found_in
from featcache.images import ImageSet
from featcache.images.decoder import MAX_PIXELS, Content
from featcache.images.earlier import reads_as_before
from featcache.recipe import PIPELINE, Recipe
from featcache.runtimes.choice import default_batch
from featcache.runtimes.proof import open_proven
from featcache.runtimes.rounding import check_probe
from featcache.runtimes.runtime import Runtime


@dataclass(frozen=True, slots=True)
class LookupOptions:
    """How missing rows are computed.

    Attributes
    ----------
    weights: where the weights are now, None = where they were.
    trusted: whether a user's own model may be run.
    batch: images in a network call, None = the runtime's best.
    threads: that read and decode.
    """

    weights: str | None = None
    trusted: bool = False
    batch: int | None = None
    threads: int = 2


@dataclass(frozen=True, slots=True)
class VectorSource:
    """How to make vectors again: the recipe, where its weights were, and the probe they gave."""

    recipe: Recipe
    weights_hint: str
    probe: np.ndarray

    @classmethod
    def of(cls, features: Features) -> VectorSource:
        """That of features: what is beside them says where the weights lay."""
        return cls(features.recipe, weights_hint(features.path.parent), features.probe)

    def open_network(self, weights: str | None, *, trusted: bool) -> Network:
        """The network of the recipe, with `weights` or those of the hint; the digest is checked."""
        wanted = weights or self.weights_hint
        network, tap = recall_recipe(self.recipe, wanted, trusted=trusted)
        return network.only([tap])

    def open_runtime(self, want: LookupOptions, say: Callable[[str], None]) -> Runtime:
        """A runtime that agrees with live Keras and has reproduced the stored probe."""
        network = self.open_network(want.weights, trusted=want.trusted)
        proven = open_proven("auto", network, self.recipe, batch=want.batch)
        reason = "the stored one came with the head"
        check_probe(
            proven.probes[0],
            self.probe,
            reason,
            roundings=proven.roundings,
            precision=self.recipe.precision,
        )
        for line in (proven.runtime.choice, *proven.remarks):
            say(line)
        return proven.runtime


@dataclass(frozen=True, slots=True)
class Answer:
    """Vectors of some images: `vectors[i]` belongs to `indices[i]`; `failed` has no vector."""

    indices: list[int]
    vectors: np.ndarray
    failed: list[Outcome]


@dataclass(frozen=True, slots=True)
class _Cached:
    """View 0 of the images that the cache has rows of, under a recipe or its plain one.

    `others` are rows of other reading rules, for images whose pixels are the same under both. A
    recipe of earlier rules (`is_earlier`) answers for those images alone.
    """

    snapshots: list[Snapshot]
    others: list[Snapshot]
    is_earlier: bool

    @classmethod
    def of(cls, cache: FeatureCache, recipe: Recipe) -> _Cached:
        """What a cache has of a recipe."""
        recipes = dict.fromkeys([recipe, recipe.plain])
        is_earlier = recipe.pipeline < PIPELINE
        others = {
            other: None
            for each in recipes
            for other in ([replace(each, pipeline=PIPELINE)] if is_earlier else each.earlier)
        }
        return cls(
            [found for each in recipes for found in cache.snapshots(each)],
            [found for each in others for found in cache.snapshots(each)],
            is_earlier,
        )

    def missing(self, index: int, key: str, content: Callable[[], Content]) -> list[int]:
        """[0] where an image must go through the network. Called from many threads.

        Raises `BadImage` where earlier rules, which the head knows, read the image otherwise.
        """
        if self.is_earlier and not reads_as_before(content()):
            raise BadImage(
                "changed-reading",
                "this kind of file is read otherwise since the head was fitted, so the head cannot "
                "judge it: extract its images again, and fit again",
            )
        if self._has(self.snapshots, key):
            return []
        is_other = self._has(self.others, key) and (self.is_earlier or reads_as_before(content()))
        return [] if is_other else [0]

    def _has(self, snapshots: list[Snapshot], key: str) -> bool:
        return next(self._found(snapshots, [key]), None) is not None

    def read(self, outcomes: list[Outcome]) -> tuple[list[int], list[np.ndarray]]:
        """The rows of images that are all known: their indices and their vectors."""
        indices: list[int] = []
        vectors = []
        keys = [outcome.key for outcome in outcomes]
        for snapshot, positions, places in self._found([*self.snapshots, *self.others], keys):
            vectors.append(snapshot.read(positions))
            indices += [outcomes[place].index for place in places.tolist()]
        return indices, vectors

    @staticmethod
    def _found(
        snapshots: list[Snapshot], keys: list[str]
    ) -> Iterator[tuple[Snapshot, np.ndarray, np.ndarray]]:
        wanted = np.array([key.encode() for key in keys], "S64")
        return found_in(snapshots, wanted, np.zeros(len(keys), np.int32))


def look_up(
    images: ImageSet,
    source: VectorSource,
    cache: FeatureCache,
    want: LookupOptions,
    *,
    say: Callable[[str], None] = lambda line: None,
) -> Iterator[Answer]:
    """Vectors of the images, in order; the network is only built when a row is not cached."""
    recipe = source.recipe
    cached = _Cached.of(cache, recipe)
    size = want.batch or default_batch(recipe.runtime or "auto", recipe.decoding.size)
    stream = Stream(
        decoding=recipe.decoding,
        needs=cached.missing,
        open_runtime=lambda: source.open_runtime(want, say),
        ahead=max(2 * size, AHEAD),
        unique=False,
    )
    notes, peak, deep = Counter[str](), 0, 0
    for part in run_pass(images, range(len(images)), [stream], Reading(want.threads, MAX_PIXELS)):
        for outcome in (*part.others, *(row.outcome for row in part.rows)):
            notes.update(outcome.notes)
            peak, deep = max(peak, outcome.peak), deep + (outcome.peak > 0)
        yield _answer(part, cached, recipe.dtype)
    for line in reading_notes(notes, peak, deep, recipe.decoding.bit_depth):
        say(f"note: {line}")


def _answer(part: Batch, cached: _Cached, dtype: str) -> Answer:
    failed = [outcome for outcome in part.others if outcome.problem is not None]
    indices, vectors = cached.read([each for each in part.others if each.problem is None])
    if part.rows:
        stored, problems = as_stored(part.vectors[0], dtype)
        outcomes = [row.outcome for row in part.rows]
        for outcome, problem in zip(outcomes, problems, strict=True):
            outcome.problem = problem
        good = [place for place, problem in enumerate(problems) if problem is None]
        indices += [outcomes[place].index for place in good]
        vectors.append(stored[good])
        failed += [outcome for outcome in outcomes if outcome.problem is not None]
    order = np.argsort(indices, kind="stable")
    return Answer(
        indices=[indices[place] for place in order.tolist()],
        vectors=np.concatenate(vectors)[order] if vectors else np.zeros((0, 0), np.float32),
        failed=failed,
    )
