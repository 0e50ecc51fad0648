"""Filling: one file of features while its rows come in. What is known, what came, what failed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from featcache.errors import StorageFailure
from featcache.extraction.job import Job, Target, Views
from featcache.extraction.known import Known
from featcache.extraction.pipeline import Batch, FinishedRows
from featcache.extraction.provenance import provenance_of
from featcache.extraction.reading import Outcome
from featcache.extraction.saving import Saver
from featcache.features.cache import note_weights
from featcache.features.store import Failure, Stamp
from featcache.images.decoder import decoder_versions
from featcache.runtimes.proof import Proven

#: Of parts that hold failures only, written before any network ran.
_EMPTY_STAMP = Stamp(provenance_of(None), np.zeros((8, 0), np.float32))


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
        """The views that an image shall have."""
        views: Views = self.job.views
        return views.of(self.job.images.splits[index])

    def missing(self, index: int, key: str) -> list[int]:
        """The views of an image that must be computed. Called from many threads."""
        return self.known.missing(key, self.wanted(index))

    def prove(self, proven: Proven, tap: int) -> None:
        """Believe a network, once it has reproduced the probe of the rows that exist."""
        self.stamp = self.known.stamp(proven, tap, self.target.recipe.precision)
        self.proven = proven
        # Before the first row: whoever finds an interrupted run can tell how to go on.
        note_weights(self.target.directory, self.target.network.weights_hint)

    def take(self, batch: Batch, tap: int) -> None:
        """Take the rows of one tap, borrow those that need no network, commit when enough wait."""
        troubled: list[Failure] = []
        for outcome in batch.others:
            if outcome.trouble is not None:
                troubled.append(self._fail(outcome, outcome.trouble))
        if batch.rows:
            rows, failures = self._computed(batch, tap)
            self.extracted += len(rows.outcomes)
            self.saver.add(rows, failures)
        self.saver.add(self._borrowed(batch), troubled)
        if self.saver.is_due:
            self.commit()

    def commit(self) -> None:
        """Begin to save what waits."""
        self.saver.commit(self.stamp or self.known.stored_stamp() or _EMPTY_STAMP)

    def _computed(self, batch: Batch, tap: int) -> tuple[FinishedRows, list[Failure]]:
        """The rows that this file lacks, in its type; rows without a finite value have failed."""
        stored, troubles = as_stored(batch.vectors[tap], self.target.recipe.dtype)
        keys = np.array([row.outcome.key.encode() for row in batch.rows], "S64")
        views = np.array([row.view for row in batch.rows], np.int32)
        lacking = self.known.own.find(keys, views) < 0
        good = [trouble is None for trouble in troubles]
        failures = [
            self._fail(row.outcome, trouble)
            for row, trouble in zip(batch.rows, troubles, strict=True)
            if trouble is not None
        ]
        chosen = np.flatnonzero(lacking & np.array(good, dtype=bool))
        outcomes = [batch.rows[place].outcome for place in chosen.tolist()]
        return FinishedRows(stored[chosen], outcomes, views[chosen].tolist()), failures

    def _borrowed(self, batch: Batch) -> FinishedRows:
        """Rows that other files of the cache have, of images that are through."""
        through = [outcome for outcome in batch.others if outcome.trouble is None]
        through += [row.outcome for row in batch.rows if row.last]
        pairs = [
            (outcome, view)
            for outcome in through
            for view in self._not_computed(outcome, batch.stream)
        ]
        if not pairs or not (self.known.siblings or self.known.plain):
            return FinishedRows(np.zeros((0, 0), np.float32), [], [])
        return self.known.borrow([outcome for outcome, _ in pairs], [view for _, view in pairs])

    def _not_computed(self, outcome: Outcome, stream: int) -> Sequence[int]:
        computed = set(outcome.needed[stream])
        return [view for view in self.wanted(outcome.index) if view not in computed]

    def _fail(self, outcome: Outcome, trouble: tuple[str, str]) -> Failure:
        name = self.job.images.names[outcome.index]
        failure = Failure(name, outcome.key, *trouble, decoder=decoder_versions())
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
    troubles: list[tuple[str, str] | None] = [None] * len(vectors)
    for row in np.flatnonzero(~fits).tolist():
        if not finite[row]:
            troubles[row] = ("non-finite", "the network gives NaN or infinity for this image")
        else:
            largest = float(np.abs(vectors[row]).max())
            troubles[row] = (
                "overflow",
                f"a feature of {largest:.6g} does not fit {dtype}: use --dtype float32",
            )
    return stored, troubles
