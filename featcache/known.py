"""Known: rows that exist already, here and in the cache's other data sets; known failures."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from featcache.cache import FeatureCache, same_recipe
from featcache.decode import decoder_versions
from featcache.pipeline import Batch
from featcache.probe import check_probe
from featcache.proof import Proven
from featcache.provenance import merged, provenance_of, version_changes
from featcache.recipe import Recipe
from featcache.store import Failure, RecipeStore, Snapshot, Stamp

#: Failures that depend on the run (memory, --max-pixels), not on the bytes: tried again each time.
PASSING = frozenset({"out-of-memory", "too-many-pixels", "too-many-scans"})


@dataclass(slots=True)
class Known:
    """What needs no network.

    Attributes
    ----------
    own: the rows of this data set.
    siblings: those of other data sets under the same recipe.
    failures: by key, images that these very decoders could not decode.
    """

    own: Snapshot
    siblings: list[Snapshot]
    failures: dict[str, Failure] = field(default_factory=dict)

    @classmethod
    def of(cls, store: RecipeStore, cache: FeatureCache, recipe: Recipe) -> Known:
        """A look at everything the cache has under a recipe."""
        own = store.snapshot()
        siblings = [
            entry.store().snapshot()
            for entry in cache.siblings(store.packed_path.parent)
            if same_recipe(entry, recipe)
        ]
        current = decoder_versions()
        failures = {
            failure.key: failure
            for failure in own.failures
            if failure.key and failure.decoder == current and failure.code not in PASSING
        }
        return cls(own, siblings, failures)

    def has(self, key: str) -> bool:
        """Whether these bytes need no network. Called from many threads."""
        if key in self.failures:
            return True
        wanted = [key.encode()]
        return any(_find(snapshot, wanted)[0] >= 0 for snapshot in (self.own, *self.siblings))

    def has_all(self, keys: np.ndarray) -> np.ndarray:
        """Which of some keys (n,) 'S64' have a row of this data set, or are known to fail."""
        failed = np.array([key.decode() in self.failures for key in keys], dtype=bool)
        return failed | (_find(self.own, keys) >= 0)

    def stored_stamp(self) -> Stamp | None:
        """Provenance and probe of rows that exist, here first."""
        for snapshot in (self.own, *self.siblings):
            if snapshot.probe is not None:
                return Stamp(merged(snapshot.provenances), snapshot.probe)
        return None

    def stamp(self, proven: Proven, precision: str) -> Stamp:
        """The stamp for new rows: the stored probe, once the runtime has reproduced it.

        Raises `FeatcacheError` that names what changed where it has not.
        """
        provenance = provenance_of(proven)
        stored = self.stored_stamp()
        if stored is None:
            return Stamp(provenance, proven.probe)
        changes = version_changes(stored.provenance, provenance)
        check_probe(proven.probe, stored.probe, changes, precision=precision)
        return Stamp(provenance, stored.probe)

    def borrow(self, batch: Batch) -> Batch:
        """The batch with the rows that other data sets have for its images without a vector."""
        waiting = [outcome for outcome in batch.others if outcome.trouble is None]
        rows, vectors = [], []
        for snapshot in self.siblings:
            keys = [outcome.key.encode() for outcome in waiting]
            positions = np.where(_find(self.own, keys) < 0, _find(snapshot, keys), -1)
            there = np.flatnonzero(positions >= 0)
            if len(there):
                vectors.append(snapshot.read(positions[there]))
                sizes = snapshot.source_sizes(positions[there]).tolist()
                for place, size in zip(there.tolist(), sizes, strict=True):
                    waiting[place].source_size = (size[0], size[1])
                    rows.append(waiting[place])
            waiting = [outcome for place, outcome in enumerate(waiting) if positions[place] < 0]
        if not rows:
            return batch
        taken = {outcome.index for outcome in rows}
        every = [*vectors, batch.vectors] if batch.rows else vectors
        return Batch(
            vectors=np.concatenate(every),
            rows=[*rows, *batch.rows],
            others=[outcome for outcome in batch.others if outcome.index not in taken],
        )


def _find(snapshot: Snapshot, keys: np.ndarray | list[bytes]) -> np.ndarray:
    return snapshot.find(np.asarray(keys, "S64"), np.zeros(len(keys), np.int32))
