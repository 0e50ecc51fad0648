"""Extraction: bring the features of a data set up to date.

known rows --> images that are missing --> pipeline --> parts --> features.h5
"""

from __future__ import annotations

import json
import platform
import shutil
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from featcache.backbones import Network
from featcache.cache import FeatureCache, note_weights
from featcache.decode import MAX_PIXELS, decoder_versions
from featcache.errors import FeatcacheError, ImageFailure, StorageFailure
from featcache.identity import identify
from featcache.images import ImageSet, StatCache, label_conflicts
from featcache.interruption import watch_for_interruption
from featcache.known import Known
from featcache.pipeline import Batch, Outcome, Work, run_pass
from featcache.proof import Proven, open_proven
from featcache.provenance import merged, provenance_of
from featcache.recipe import Recipe
from featcache.runtimes import Runtime
from featcache.saving import Saver
from featcache.splits import Carve
from featcache.store import Failure, RecipeStore, Stamp

STAT_CACHE = "scan.json.gz"
STAT_CACHE_SECONDS = 60.0
SHOWN_CONFLICTS = 3


@dataclass(frozen=True, slots=True)
class Settings:
    """How a run works; nothing here changes a vector."""

    batch: int = 32
    threads: int = 2
    runtime: str = "auto"
    max_pixels: int = MAX_PIXELS
    on_error: str = "skip"
    retry_failed: bool = False
    carve: Carve | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """Everything an extraction needs, checked, before the first image is read."""

    images: ImageSet
    recipe: Recipe
    network: Network
    cache: FeatureCache
    directory: Path
    settings: Settings
    remarks: list[str]

    @property
    def store(self) -> RecipeStore:
        return RecipeStore(self.directory, self.recipe.to_json())

    @property
    def row_bytes(self) -> int:
        """Bytes of one stored vector."""
        return int(np.prod(self.network.row_shape)) * np.dtype(self.recipe.dtype).itemsize

    @property
    def bytes_free(self) -> int:
        """What the file system of the cache has left."""
        place = self.directory.absolute()
        while not place.exists():
            place = place.parent
        return shutil.disk_usage(place).free


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run stands; `saved` rows survive anything that happens next."""

    done: int
    total: int
    extracted: int
    failed: int
    saved: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Extraction:
    """What a run did. `extracted` counts images the network ran on; `reused` the other rows.

    `seconds` is from the first read to the packed file, without start-up; `parity` is the probe's
    largest error against live Keras, None where no network ran.
    """

    path: Path
    rows: int
    extracted: int
    reused: int
    failures: list[Failure]
    seconds: float
    runtime: str
    choice: str
    dim: int
    parity: float | None
    remarks: list[str]

    @property
    def images_per_second(self) -> float:
        """Images the network ran on in a second."""
        return self.extracted / self.seconds if self.seconds > 0 else 0.0


@dataclass(slots=True)
class Run:
    """The state of one run: what is known, and what came out so far."""

    job: Job
    known: Known
    saver: Saver
    stat_cache: StatCache
    keys: np.ndarray
    failures: dict[int, Failure] = field(default_factory=dict)
    warnings: Counter[str] = field(default_factory=Counter)
    proven: Proven | None = None
    stamp: Stamp | None = None
    extracted: int = 0
    done: int = 0
    started: float = field(default_factory=time.monotonic)
    compiling: float = 0.0
    stats_saved_at: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        """Time since the first read, without that of compiling and proving the network."""
        return time.monotonic() - self.started - self.compiling

    def open_runtime(self) -> Runtime:
        """Compile the network and let it prove itself before a row is added."""
        began = time.monotonic()
        settings, recipe = self.job.settings, self.job.recipe
        self.proven = open_proven(settings.runtime, self.job.network, recipe, batch=settings.batch)
        self.job.remarks.extend(self.proven.remarks)
        self.stamp = self.known.stamp(self.proven, recipe.precision)
        self.compiling = time.monotonic() - began
        return self.proven.runtime

    def take(self, batch: Batch) -> None:
        """Note what became of a batch's images, and commit when enough has come together."""
        whole = self.known.borrow(batch)
        failures = [
            failure
            for outcome in (*whole.rows, *whole.others)
            if (failure := self.note(outcome)) is not None
        ]
        self.saver.add(whole, failures)
        self.extracted += len(batch.rows)
        self.done += len(whole.rows) + len(whole.others)
        if self.saver.is_due:
            self.commit()

    def note(self, outcome: Outcome) -> Failure | None:
        """Remember an image's key, and why it failed if it did."""
        name = self.job.images.names[outcome.index]
        self.keys[outcome.index] = outcome.key.encode()
        if outcome.stamp is not None and outcome.key:
            self.stat_cache.remember(name, outcome.stamp, outcome.key, outcome.hashed_at)
        if outcome.warning:
            self.warnings[outcome.warning] += 1
        if outcome.trouble is None:
            return None
        failure = Failure(name, outcome.key, *outcome.trouble, decoder=decoder_versions())
        self.failures[outcome.index] = failure
        if outcome.key:
            self.known.failures[outcome.key] = failure
        return failure

    def commit(self) -> None:
        """Save what waits; after this returns it survives anything."""
        self.saver.commit(self.stamp or self.known.stored_stamp() or _EMPTY_STAMP)
        if time.monotonic() - self.stats_saved_at > STAT_CACHE_SECONDS:
            self.save_stats()

    def save_stats(self) -> None:
        self.stats_saved_at = time.monotonic()
        self.stat_cache.save(self.job.directory.parent / STAT_CACHE)

    def progress(self) -> Progress:
        return Progress(
            done=self.done,
            total=len(self.job.images),
            extracted=self.extracted,
            failed=len(self.failures),
            saved=self.saver.saved,
            seconds=self.seconds,
        )


#: Of parts that hold failures only, written before any network ran.
_EMPTY_STAMP = Stamp(provenance_of(None), np.zeros((8, 0), np.float32))


def run(job: Job, report: Callable[[Progress], None] = lambda progress: None) -> Extraction:
    """Do the work: only images without a row are put through the network.

    Raises `ImageFailure` where no image could be used (or one failed under on_error="fail"),
    `StorageFailure` where the disk refuses, `KeyboardInterrupt` after a request to stop; rows
    that were finished are saved in every case.
    """
    state = begin(job)
    missing = find_missing(state)
    state.done = len(job.images) - len(missing)
    _check_space(job, len(missing))
    try:
        _extract_missing(state, missing, report)
    finally:
        state.save_stats()
    return _finish(state)


def begin(job: Job) -> Run:
    """Look at what is there already."""
    known = Known.of(job.store, job.cache, job.recipe)
    if job.settings.retry_failed or job.settings.on_error == "fail":
        known.failures = {}
    for problem in known.own.problems:
        job.remarks.append(
            f"{problem.path.name} is damaged ({problem.reason}): its rows are extracted again; "
            f"`featcache repair` saves what can be saved"
        )
    return Run(
        job=job,
        known=known,
        saver=Saver(job.store, job.images, job.network.row_shape),
        stat_cache=StatCache.load(job.directory.parent / STAT_CACHE),
        keys=np.zeros(len(job.images), "S64"),
    )


def find_missing(state: Run) -> list[int]:
    """Images that must be read: no row is known for what their file's time stamps promise."""
    images = state.job.images
    for index, name in enumerate(images.names):
        stamp = images.stat(index)
        key = state.stat_cache.key_of(name, stamp) if stamp else None
        state.keys[index] = (key or "").encode()
    return np.flatnonzero(~state.known.has_all(state.keys)).tolist()


def work_of(job: Job, known: Callable[[str], bool]) -> Work:
    """How the images of a job are treated."""
    return Work(
        decoding=job.recipe.decoding,
        dtype=job.recipe.dtype,
        known=known,
        threads=job.settings.threads,
        max_pixels=job.settings.max_pixels,
    )


def _extract_missing(state: Run, missing: list[int], report: Callable[[Progress], None]) -> None:
    job = state.job
    work = work_of(job, state.known.has)
    with watch_for_interruption() as interruption:
        for batch in run_pass(job.images, missing, work, state.open_runtime, job.settings.batch):
            state.take(batch)
            report(state.progress())
            if interruption.requested or (state.failures and job.settings.on_error == "fail"):
                break
    state.commit()
    report(state.progress())
    if interruption.requested:
        raise KeyboardInterrupt(
            f"interrupted: {state.saver.saved:,} rows of this run are saved; "
            f"run the same command to go on"
        )
    if state.failures and job.settings.on_error == "fail":
        failure = next(iter(state.failures.values()))
        raise ImageFailure(
            f"{failure.path}: {failure.message}. The run stopped there (--on-error fail); "
            f"{state.saver.saved:,} rows of this run are saved"
        )


def _finish(state: Run) -> Extraction:
    """Pack what exists into features.h5: one row an image, sorted by path."""
    job = state.job
    snapshot = job.store.snapshot()
    positions = snapshot.find(state.keys, np.zeros(len(job.images), np.int32))
    present = np.flatnonzero(positions >= 0)
    failures = _failures(state, np.flatnonzero(positions < 0))
    if not len(present):
        raise ImageFailure(_all_failed(failures))
    identity = identify(
        job.images, state.keys, present, failures=failures, carve=job.settings.carve
    )
    if snapshot.probe is None:
        raise FeatcacheError(f"{job.directory}: no part holds a probe; run `featcache verify`")
    packed = job.store.pack(identity, Stamp(merged(snapshot.provenances), snapshot.probe))
    seconds = state.seconds
    note_weights(job.directory, job.network.weights_hint)
    _log_run(state, seconds)
    proven = state.proven
    return Extraction(
        path=packed.path,
        rows=len(present),
        extracted=state.extracted,
        reused=len(present) - state.extracted,
        failures=failures,
        seconds=seconds,
        runtime=proven.runtime.name if proven else "none",
        choice=proven.runtime.choice if proven else "every row was known: no network ran",
        dim=int(np.prod(job.network.row_shape)),
        parity=proven.parity if proven else None,
        remarks=[*job.remarks, *_warnings(state)],
    )


def _failures(state: Run, indices: np.ndarray) -> list[Failure]:
    """Why each of these images has no row; the same bytes fail for the same reason everywhere."""
    failures = []
    for index in indices.tolist():
        name, key = state.job.images.names[index], state.keys[index].decode()
        cause = state.failures.get(index) or state.known.failures.get(key)
        if cause is None:
            raise FeatcacheError(
                f"{name}: its row vanished while this run worked (another process cleaned the "
                f"cache?). Run the same command again"
            )
        failures.append(Failure(name, key, cause.code, cause.message, cause.decoder))
    return failures


def _all_failed(failures: list[Failure]) -> str:
    shown = "".join(f"\n  {failure.path}: {failure.message}" for failure in failures[:5])
    more = f"\n  and {len(failures) - 5} more" if len(failures) > 5 else ""
    return f"not one of {len(failures)} images could be used:{shown}{more}"


def _warnings(state: Run) -> list[str]:
    counted = [f"{text} ({count} images)" for text, count in sorted(state.warnings.items())]
    conflicts = label_conflicts(state.job.images, [key.decode() for key in state.keys])
    more = len(conflicts) - SHOWN_CONFLICTS
    rest = [f"and {more} more images with two labels"] if more > 0 else []
    return counted + conflicts[:SHOWN_CONFLICTS] + rest


def _log_run(state: Run, seconds: float) -> None:
    """Host, time and speed go beside the file, never inside it."""
    job = state.job
    record = {
        "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "host": platform.node(),
        "images": len(job.images),
        "extracted": state.extracted,
        "seconds": round(seconds, 3),
        "batch": job.settings.batch,
        "threads": job.settings.threads,
    }
    with (job.directory / "runs.jsonl").open("a", encoding="utf-8") as log:
        log.write(json.dumps(record) + "\n")


def _check_space(job: Job, missing: int) -> None:
    """Refuse before the work where its result cannot possibly fit."""
    need = missing * job.row_bytes
    if need > job.bytes_free:
        raise StorageFailure(
            f"{job.directory}: {missing:,} rows of {job.row_bytes:,} bytes need {need / 1e9:.2f} "
            f"GB and {job.bytes_free / 1e9:.2f} GB are free. Nothing was extracted: make room, "
            f"use another --cache, or smaller vectors (--pooling avg, --dtype float16)"
        )
