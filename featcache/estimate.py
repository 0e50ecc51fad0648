"""Estimate: what an extraction would do (--dry-run). Measured on a few of the missing images."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from featcache.extraction import Job, Run, begin, find_missing, work_of
from featcache.pipeline import Outcome, read_ahead, read_key, run_pass
from featcache.probe import KEPT

#: Images that are timed, but at least so many batches: the last one waits for nothing.
TIMED_IMAGES, TIMED_BATCHES = 64, 3


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a run would do: rows and bytes of the file, images to extract, and how long it takes.

    `images_per_second` is measured on `measured_on` of the missing images (None: none missing).
    """

    rows: int
    missing: int
    row_shape: tuple[int, ...]
    bytes: int
    bytes_free: int
    images_per_second: float | None
    measured_on: int
    seconds: float


def estimate(job: Job) -> Estimate:
    """What `run` would do, without extracting anything; images are hashed, as `run` would."""
    state = begin(job)
    missing = _hash_all(state, find_missing(state))
    sample = missing[: max(TIMED_IMAGES, TIMED_BATCHES * job.settings.batch)]
    speed = _measured_speed(state, sample) if sample else None
    longest = max(len(name.encode()) for name in job.images.names)
    return Estimate(
        rows=len(job.images),
        missing=len(missing),
        row_shape=job.network.row_shape,
        # Beside its vector a row has a key, a path, a checksum and a few small integers; beside
        # its rows a file has the probe, the channel numbers and HDF5's own structures.
        bytes=len(job.images) * (job.row_bytes + 64 + longest + 40) + _fixed_bytes(job),
        bytes_free=job.bytes_free,
        images_per_second=speed,
        measured_on=len(sample),
        seconds=len(missing) / speed if speed else 0.0,
    )


def _fixed_bytes(job: Job) -> int:
    width = int(np.prod(job.network.row_shape))
    return 8 * min(width, KEPT) * 4 + job.network.row_shape[-1] * 4 + 24_000


def _hash_all(state: Run, indices: list[int]) -> list[int]:
    """Hash the images whose key is not known; gives those that really need the network."""
    images, settings = state.job.images, state.job.settings
    unknown = [index for index in indices if not state.keys[index]]

    def hashed(index: int) -> Outcome:
        return read_key(images, index)

    for outcome in read_ahead(hashed, unknown, settings.threads, ahead=64):
        state.note(outcome)
    state.save_stats()
    needed: dict[str, int] = {}
    for index in indices:
        key = state.keys[index].decode()
        if key and not state.known.has(key):
            needed.setdefault(key, index)
    return sorted(needed.values())


def _measured_speed(state: Run, sample: list[int]) -> float:
    """Images a second, decoding and network together, once the network is compiled."""
    job = state.job
    runtime = state.open_runtime()
    work = work_of(job, lambda key: False)
    started = time.monotonic()
    for _ in run_pass(job.images, sample, work, lambda: runtime, job.settings.batch):
        pass
    return len(sample) / (time.monotonic() - started)
