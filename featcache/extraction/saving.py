"""Saving: finished rows wait for each other, and are committed together as a part, in a thread."""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from featcache.extraction.pipeline import FinishedRows
from featcache.extraction.timing import Timing
from featcache.features.store import Block, Failure, RecipeStore, Stamp
from featcache.images import ImageSet

#: A part is committed at whichever comes first.
PART_ROWS, PART_BYTES, PART_SECONDS = 1024, 16_000_000, 30.0


@dataclass(slots=True)
class Saver:
    """Collects rows and commits them; `saved` rows survive anything that happens next.

    One commit is under way at a time, in the thread of `writer`, while the networks go on.
    """

    store: RecipeStore
    images: ImageSet
    row_shape: tuple[int, ...]
    writer: ThreadPoolExecutor
    timing: Timing
    waiting: list[FinishedRows] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    saved: int = 0
    under_way: Future[int] | None = None
    committed_at: float = field(default_factory=time.monotonic)

    def add(self, rows: FinishedRows, failures: list[Failure]) -> None:
        """Take what came out of a batch; failures of files that could not be read are not kept."""
        if rows.outcomes:
            self.waiting.append(rows)
        self.failures += [failure for failure in failures if failure.key]

    @property
    def is_due(self) -> bool:
        """Whether enough has come together, or has waited long enough, to be a part."""
        count = sum(len(rows.outcomes) for rows in self.waiting)
        size = sum(rows.vectors.nbytes for rows in self.waiting)
        late = time.monotonic() - self.committed_at > PART_SECONDS
        something = bool(self.waiting or self.failures)
        return count >= PART_ROWS or size >= PART_BYTES or (late and something)

    def commit(self, stamp: Stamp) -> None:
        """Begin to save what waits as one part, once the one before it is safe.

        Raises what went wrong with that one.
        """
        self.settle()
        if self.waiting or self.failures:
            block = self._block()
            self.waiting, self.failures = [], []
            self.under_way = self.writer.submit(self._write, block, stamp)
        self.committed_at = time.monotonic()

    def settle(self) -> None:
        """Wait until what was given to `commit` is durable; raises what went wrong with it."""
        if self.under_way is not None:
            with self.timing.measure("writing"):
                commit, self.under_way = self.under_way, None
                self.saved += commit.result()

    def _write(self, block: Block, stamp: Stamp) -> int:
        self.store.commit(block, stamp)
        return len(block.paths)

    def _block(self) -> Block:
        outcomes = [outcome for rows in self.waiting for outcome in rows.outcomes]
        vectors = [rows.vectors for rows in self.waiting]
        sizes = np.array([outcome.source_size for outcome in outcomes], np.int32)
        return Block(
            vectors=np.concatenate(vectors) if vectors else np.zeros((0, *self.row_shape), "<f4"),
            keys=np.array([outcome.key.encode() for outcome in outcomes], "S64"),
            views=np.array([view for rows in self.waiting for view in rows.views], np.int32),
            paths=[self.images.names[outcome.index] for outcome in outcomes],
            source_sizes=sizes.reshape(-1, 2),
            failures=self.failures,
        )
