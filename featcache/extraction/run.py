"""Run: the state of an extraction: what is known, what the networks fill, what is saved."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from featcache.backbones.network import Network
from featcache.extraction.filling import Filling, Saver
from featcache.extraction.job import Job, Progress, Target
from featcache.extraction.known import Known
from featcache.extraction.pipeline import Batch
from featcache.extraction.reading import AHEAD, Outcome, Reading, Stream
from featcache.extraction.timing import Timing
from featcache.images import STAT_CACHE, StatCache
from featcache.images.augment import view
from featcache.images.decoder import Content
from featcache.runtimes.choice import default_batch
from featcache.runtimes.proof import open_proven
from featcache.runtimes.runtime import Runtime

STAT_CACHE_SECONDS = 60.0


@dataclass(slots=True)
class Group:
    """Files that one network fills together: its taps, in their order."""

    network: Network
    fillings: list[Filling]
    passed: int = 0

    def needs(self, index: int, key: str, content: Callable[[], Content]) -> list[int]:
        """The views of an image that any of the files lacks. Called from many threads."""
        lacking = [filling.missing(index, key, content) for filling in self.fillings]
        return sorted({view for views in lacking for view in views})


@dataclass(slots=True)
class Run:
    """The state of one run: what is known, and what came out so far.

    `notes` counts what images were told of; `peak` is the largest value of its `deep` images of
    16 bits.
    """

    job: Job
    fillings: list[Filling]
    stat_cache: StatCache
    keys: np.ndarray
    noted: np.ndarray
    computed: np.ndarray
    reading: Reading
    remarks: list[str]
    notes: Counter[str] = field(default_factory=Counter)
    peak: int = 0
    deep: int = 0
    groups: list[Group] = field(default_factory=list)
    waiting: int = 0
    started: float = field(default_factory=time.monotonic)
    compiling: float = 0.0
    stats_saved_at: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        """Time since the first read, without that of compiling and proving networks."""
        return time.monotonic() - self.started - self.compiling

    @property
    def saved(self) -> int:
        return sum(filling.saver.saved for filling in self.fillings)

    @property
    def failed(self) -> int:
        return max(len(filling.failures) for filling in self.fillings)

    def open_runtime(self, group: Group) -> Runtime:
        """Compile a network and let it prove itself before a row is added."""
        began = time.monotonic()
        settings, recipe = self.job.settings, group.fillings[0].target.recipe
        proven = open_proven(settings.runtime, group.network, recipe, batch=settings.batch)
        self.remarks.extend(proven.remarks)
        for tap, filling in enumerate(group.fillings):
            filling.prove(proven, tap)
        self.compiling += time.monotonic() - began
        return proven.runtime

    def take(self, batch: Batch) -> None:
        """Note what became of a batch's images, and hand its rows to the files."""
        group = self.groups[batch.stream]
        through = [*batch.others, *(row.outcome for row in batch.rows if row.last)]
        for outcome in through:
            self.note(outcome)
        for tap, filling in enumerate(group.fillings):
            filling.take(batch, tap)
        group.passed += len(through)
        self.computed[[row.outcome.index for row in batch.rows]] = True
        if time.monotonic() - self.stats_saved_at > STAT_CACHE_SECONDS:
            self.save_stats()

    def note(self, outcome: Outcome) -> None:
        """Remember an image's key, once, and what may be wrong with it."""
        if self.noted[outcome.index]:
            return
        self.noted[outcome.index] = True
        self.keys[outcome.index] = outcome.key.encode()
        if outcome.stamp is not None and outcome.key:
            name = self.job.images.names[outcome.index]
            self.stat_cache.remember(name, outcome.stamp, outcome.key, outcome.hashed_at)
        self.notes.update(outcome.notes)
        self.peak, self.deep = max(self.peak, outcome.peak), self.deep + (outcome.peak > 0)

    def commit(self) -> None:
        """Save what waits; after this returns it survives anything."""
        for filling in self.fillings:
            filling.commit()
        for filling in self.fillings:
            filling.saver.settle()

    def save_stats(self) -> None:
        self.stats_saved_at = time.monotonic()
        self.stat_cache.save(self.job.folder / STAT_CACHE)

    def progress(self) -> Progress:
        passed = min((group.passed for group in self.groups), default=0)
        total = len(self.job.images)
        return Progress(
            done=total - self.waiting + passed,
            total=total,
            passed=passed,
            failed=self.failed,
            saved=self.saved,
            seconds=self.seconds,
        )


@contextmanager
def open_run(job: Job) -> Iterator[Run]:
    """Look at what is there already."""
    reading = Reading(job.settings.threads, job.settings.max_pixels)
    remarks = list(job.remarks)
    with ThreadPoolExecutor(1, thread_name_prefix="featcache-write") as writer:
        fillings = [_filling(job, target, writer, reading.timing) for target in job.targets]
        for problem in (each for filling in fillings for each in filling.known.own.problems):
            remarks.append(
                f"{problem.path.name} is damaged ({problem.reason}): its rows are extracted "
                f"again; `featcache repair` saves what can be saved"
            )
        yield Run(
            job=job,
            fillings=fillings,
            stat_cache=(
                StatCache() if job.settings.rehash else StatCache.load(job.folder / STAT_CACHE)
            ),
            keys=np.zeros(len(job.images), "S64"),
            noted=np.zeros(len(job.images), bool),
            computed=np.zeros(len(job.images), bool),
            reading=reading,
            remarks=remarks,
        )


def _filling(job: Job, target: Target, writer: ThreadPoolExecutor, timing: Timing) -> Filling:
    known = Known.of(target.store, job.cache, target.recipe)
    if job.settings.retry_failed or job.settings.on_error == "fail":
        known.failures = {}
    saver = Saver(target.store, job.images, target.tap.row_shape, writer, timing)
    return Filling(job, target, known, saver)


def find_missing(state: Run) -> np.ndarray:
    """Images that must be read: (files, images) bool, True where a file has not all the rows that
    the images' time stamps promise.
    """
    images = state.job.images
    for index, name in enumerate(images.names):
        stamp = images.stat(index)
        key = state.stat_cache.key_of(name, stamp) if stamp else None
        state.keys[index] = (key or "").encode()
    counts = np.array([len(state.job.views.of(split)) for split in images.splits], np.int32)
    return np.stack([~filling.known.has_all(state.keys, counts) for filling in state.fillings])


def find_groups(state: Run, missing: np.ndarray) -> list[Group]:
    """The files that lack something, by the network that fills them."""
    groups: dict[int, Group] = {}
    for filling, lacking in zip(state.fillings, missing, strict=True):
        if lacking.any():
            network = filling.target.network
            groups.setdefault(id(network), Group(network, [])).fillings.append(filling)
    for group in groups.values():
        group.network = group.network.only([each.target.tap for each in group.fillings])
    return list(groups.values())


def stream_of(state: Run, group: Group) -> Stream:
    """How a network's images are read."""
    views, target = state.job.views, group.fillings[0].target
    batch = expected_batch(state.job, target)
    return Stream(
        decoding=target.recipe.decoding,
        needs=group.needs,
        open_runtime=partial(state.open_runtime, group),
        view=partial(_augmented, state.job) if views.augmentation else None,
        ahead=-(-max(2 * batch, AHEAD) // (1 + views.count)),
    )


def expected_batch(job: Job, target: Target) -> int:
    """Images in a network call, unless the runtime turns out to be another or to hold less."""
    settings = job.settings
    return settings.batch or default_batch(settings.runtime, target.network.size)


def _augmented(job: Job, pixels: np.ndarray, key: str, number: int) -> np.ndarray:
    if job.views.augmentation is None:
        raise ValueError("this job has no augmentation")
    return view(pixels, job.views.augmentation, key=key, seed=job.views.seed, number=number)
