"""Filling: one file of features while its rows come in. What is known, what came, what failed.

Finished rows wait for each other, and are committed together as a part, in a thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from featcache.errors import StorageFailure
from featcache.extraction.job import Job, Target, Views
from featcache.extraction.known import Known, provenance_of
from featcache.extraction.pipeline import Batch, FinishedRows
from featcache.extraction.reading import Outcome
from featcache.extraction.timing import Timing
from featcache.features.cache import note_weights
from featcache.features.store.recipe_store import RecipeStore
from featcache.features.store.records import Block, Failure, Stamp
from featcache.images import ImageSet
from featcache.images.decoder import Content, decoder_versions
from featcache.runtimes.proof import Proven

#: Of parts that hold failures only, written before any network ran.
_EMPTY_STAMP = Stamp(provenance_of(None), np.zeros((8, 0), np.float32))

#: A part is committed at whichever comes first.
PART_ROWS, PART_BYTES, PART_SECONDS = 1024, 16_000_000, 30.0


@dataclass(slots=True)
class Filling:
    """The rows of one target in one run."""

    job: Job
    target: Target
    known: Known
    saver: Saver
    failures: dict[int, Failure] = field(default_factory=dict)
    stamp: Stamp | None = None
    proven: Proven | None = None
    extracted: int = 0

    def wanted(self, index: int) -> range:
        """The views that an image is to have."""
        views: Views = self.job.views
        return views.of(self.job.images.splits[index])

    def missing(self, index: int, key: str, content: Callable[[], Content]) -> list[int]:
        """The views of an image that must be computed. Called from many threads."""
        return self.known.missing(key, self.wanted(index), content)

    def prove(self, proven: Proven, tap: int) -> None:
        """Accept a network, once it has reproduced the probe of the rows that exist."""
        self.stamp = self.known.stamp(proven, tap, self.target.recipe.precision)
        self.proven = proven
        # Before the first row: whoever finds an interrupted run can tell how to go on.
        note_weights(self.target.directory, self.target.network.weights_hint)

    def take(self, batch: Batch, tap: int) -> None:
        """Take the rows of one tap, reuse those that need no network, commit when enough wait."""
        failed: list[Failure] = []
        for outcome in batch.others:
            if outcome.problem is not None:
                failed.append(self._fail(outcome, outcome.problem))
        if batch.rows:
            rows, failures = self._computed(batch, tap)
            self.extracted += len(rows.outcomes)
            self.saver.add(rows, failures)
        self.saver.add(self._reused(batch), failed)
        if self.saver.is_due:
            self.commit()

    def commit(self) -> None:
        """Begin to save what waits."""
        self.saver.commit(self.stamp or self.known.stored_stamp() or _EMPTY_STAMP)

    def _computed(self, batch: Batch, tap: int) -> tuple[FinishedRows, list[Failure]]:
        """The rows that this file lacks, in its type; rows without a finite value have failed."""
        stored, problems = as_stored(batch.vectors[tap], self.target.recipe.dtype)
        keys = np.array([row.outcome.key.encode() for row in batch.rows], "S64")
        views = np.array([row.view for row in batch.rows], np.int32)
        lacking = self.known.own.find(keys, views) < 0
        good = [problem is None for problem in problems]
        failures = [
            self._fail(row.outcome, problem)
            for row, problem in zip(batch.rows, problems, strict=True)
            if problem is not None
        ]
        chosen = np.flatnonzero(lacking & np.array(good, dtype=bool))
        outcomes = [batch.rows[place].outcome for place in chosen.tolist()]
        return FinishedRows(stored[chosen], outcomes, views[chosen].tolist()), failures

    def _reused(self, batch: Batch) -> FinishedRows:
        """Rows that other files of the cache have, of images that are done."""
        through = [outcome for outcome in batch.others if outcome.problem is None]
        through += [row.outcome for row in batch.rows if row.last]
        pairs = [
            (outcome, view)
            for outcome in through
            for view in self._not_computed(outcome, batch.stream)
        ]
        if not pairs or not self.known.others:
            return FinishedRows(np.zeros((0, 0), np.float32), [], [])
        return self.known.reuse([outcome for outcome, _ in pairs], [view for _, view in pairs])

    def _not_computed(self, outcome: Outcome, stream: int) -> Sequence[int]:
        computed = set(outcome.needed[stream])
        return [view for view in self.wanted(outcome.index) if view not in computed]

    def _fail(self, outcome: Outcome, problem: tuple[str, str]) -> Failure:
        name = self.job.images.names[outcome.index]
        failure = Failure(name, outcome.key, *problem, decoder=decoder_versions())
        self.failures[outcome.index] = failure
        if outcome.key:
            self.known.failures[outcome.key] = failure
        return failure

    def reasons(self, indices: np.ndarray, keys: np.ndarray) -> list[Failure]:
        """Why each of some images lacks a row; the same bytes fail for the same reason."""
        reasons = []
        for index in indices.tolist():
            name, key = self.job.images.names[index], keys[index].decode()
            cause = self.failures.get(index) or self.known.failures.get(key)
            if cause is None:
                raise StorageFailure(
                    f"{name}: its row vanished while this run worked (another process cleaned the "
                    f"cache?). Run the same command again"
                )
            reasons.append(Failure(name, key, cause.code, cause.message, cause.decoder))
        return reasons


def as_stored(vectors: np.ndarray, dtype: str) -> tuple[np.ndarray, list[tuple[str, str] | None]]:
    """The rows in the stored type, and for each row what is wrong with it, if anything."""
    axes = tuple(range(1, vectors.ndim))
    with np.errstate(over="ignore", invalid="ignore"):
        stored = vectors.astype(dtype, copy=False)
    finite = np.isfinite(vectors).all(axis=axes)
    fits = np.isfinite(stored).all(axis=axes)
    problems: list[tuple[str, str] | None] = [None] * len(vectors)
    for row in np.flatnonzero(~fits).tolist():
        if not finite[row]:
            problems[row] = ("non-finite", "the network gives NaN or infinity for this image")
        else:
            largest = float(np.abs(vectors[row]).max())
            problems[row] = (
                "overflow",
                f"a feature of {largest:.6g} does not fit {dtype}: use --dtype float32",
            )
    return stored, problems


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
