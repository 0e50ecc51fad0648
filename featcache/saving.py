"""Saving: finished rows wait for each other, and are committed together as a part."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import numpy as np

from featcache.images import ImageSet
from featcache.pipeline import Batch
from featcache.store import Block, Failure, RecipeStore, Stamp

#: A part is committed at whichever comes first.
PART_ROWS, PART_BYTES, PART_SECONDS = 1024, 16_000_000, 30.0


@dataclass(slots=True)
class Saver:
    """Collects batches and commits them; `saved` rows survive anything that happens next."""

    store: RecipeStore
    images: ImageSet
    row_shape: tuple[int, ...]
    waiting: list[Batch] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    saved: int = 0
    committed_at: float = field(default_factory=time.monotonic)

    def add(self, batch: Batch, failures: list[Failure]) -> None:
        """Take what came out of a batch; failures of files that could not be read are not kept."""
        if batch.rows:
            self.waiting.append(batch)
        self.failures += [failure for failure in failures if failure.key]

    @property
    def is_due(self) -> bool:
        """Whether enough has come together, or has waited long enough, to be a part."""
        rows = sum(len(batch.rows) for batch in self.waiting)
        size = sum(batch.vectors.nbytes for batch in self.waiting)
        late = time.monotonic() - self.committed_at > PART_SECONDS
        something = bool(self.waiting or self.failures)
        return rows >= PART_ROWS or size >= PART_BYTES or (late and something)

    def commit(self, stamp: Stamp) -> None:
        """Save what waits as one part; when this returns it is durable."""
        if self.waiting or self.failures:
            block = self._block()
            self.store.commit(block, stamp)
            self.saved += len(block.paths)
            self.waiting, self.failures = [], []
        self.committed_at = time.monotonic()

    def _block(self) -> Block:
        rows = [outcome for batch in self.waiting for outcome in batch.rows]
        vectors = [batch.vectors for batch in self.waiting]
        sizes = np.array([outcome.source_size for outcome in rows], np.int32)
        return Block(
            vectors=np.concatenate(vectors) if rows else np.zeros((0, *self.row_shape), "<f4"),
            keys=np.array([outcome.key.encode() for outcome in rows], "S64"),
            views=np.zeros(len(rows), np.int32),
            paths=[self.images.names[outcome.index] for outcome in rows],
            source_sizes=sizes.reshape(-1, 2),
            failures=self.failures,
        )
