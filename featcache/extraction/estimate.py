"""Estimate: what an extraction would do (--dry-run). Measured on a few of the missing images."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from featcache.errors import BadImage
from featcache.extraction.job import Job, Target
from featcache.extraction.pipeline import run_pass
from featcache.extraction.reading import Stream, read_one
from featcache.extraction.run import (
    Group,
    Run,
    expected_batch,
    find_groups,
    find_missing,
    open_run,
    stream_of,
)
from featcache.images.decoder import Content
from featcache.images.threads import read_ahead
from featcache.runtimes.probe import KEPT

#: Images that are timed, but at least so many batches: the last one waits for nothing.
TIMED_IMAGES, TIMED_BATCHES = 64, 3


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a run would do: rows of each file and bytes of all, images to put through a network,
    and how long it takes.

    `images_per_second` is measured on `measured_on` of the missing images (None: none missing).
    """

    rows: int
    missing: int
    row_shapes: list[tuple[int, ...]]
    bytes: int
    bytes_free: int
    images_per_second: float | None
    measured_on: int
    seconds: float


def estimate(job: Job) -> Estimate:
    """What `run` would do, without extracting anything; images are hashed, as `run` would."""
    with open_run(job) as state:
        missing = _hash_all(state, find_missing(state))
        batch = max(expected_batch(job, target) for target in job.targets)
        sample = missing[: max(TIMED_IMAGES, TIMED_BATCHES * batch)]
        speed = _measured_speed(state, sample) if sample else None
    return Estimate(
        rows=job.rows,
        missing=len(missing),
        row_shapes=[target.tap.row_shape for target in job.targets],
        bytes=sum(_file_bytes(job, target) for target in job.targets),
        bytes_free=job.bytes_free,
        images_per_second=speed,
        measured_on=len(sample),
        seconds=len(missing) / speed if speed else 0.0,
    )


def _file_bytes(job: Job, target: Target) -> int:
    """Beside its vector a row has a key, a path, a checksum and a few small integers; beside its
    rows a file has the probe, the channel numbers and HDF5's own structures.
    """
    longest = max(len(name.encode()) for name in job.images.names)
    shape = target.tap.row_shape
    fixed = 8 * min(int(np.prod(shape)), KEPT) * 4 + shape[-1] * 4 + 24_000
    return job.rows * (target.row_bytes + 64 + longest + 40) + fixed


def _hash_all(state: Run, missing: np.ndarray) -> list[int]:
    """Hash the images whose key is not known; gives those that really need a network."""
    images, settings = state.job.images, state.job.settings
    indices = np.flatnonzero(missing.any(axis=0)).tolist()
    unknown = [index for index in indices if not state.keys[index]]
    hashed = partial(read_one, images, streams=(), reading=state.reading)
    for outcome in read_ahead(hashed, unknown, settings.threads, ahead=64):
        state.note(outcome)
    state.save_stats()
    needed: dict[str, int] = {}
    for index in indices:
        key = state.keys[index].decode()
        if key and _is_missing(state, index, key):
            needed.setdefault(key, index)
    return sorted(needed.values())


def _is_missing(state: Run, index: int, key: str) -> bool:
    """Whether a network must run for an image; it is read again where its header decides."""

    def content() -> Content:
        return state.job.images.read(index).content

    with suppress(BadImage):  # as `run` will say
        return any(filling.missing(index, key, content) for filling in state.fillings)
    return False


def _opened(state: Run, group: Group) -> Stream:
    """How a network's images are read, once it is compiled."""
    runtime = state.open_runtime(group)
    return replace(stream_of(state, group), open_runtime=lambda: runtime)


def _measured_speed(state: Run, sample: list[int]) -> float:
    """Images a second, decoding and networks together, once the networks are compiled."""
    everything = np.ones((len(state.fillings), len(state.job.images)), dtype=bool)
    streams = [_opened(state, group) for group in find_groups(state, everything)]
    started = time.monotonic()
    for _ in run_pass(state.job.images, sample, streams, state.reading):
        pass
    return len(sample) / (time.monotonic() - started)
