"""Update: bring the features of a data set up to date, and name their rows.

known rows --> images that are missing --> pipeline --> parts --> one features.h5 for each target
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace

import numpy as np

from featcache.errors import FeatcacheError, ImageFailure, StorageFailure
from featcache.extraction.filling import Filling
from featcache.extraction.job import Extraction, Job, Progress
from featcache.extraction.known import merged
from featcache.extraction.pipeline import run_pass
from featcache.extraction.reading import Stream, reading_notes
from featcache.extraction.run import Run, find_groups, find_missing, open_run, stream_of
from featcache.features.cache import note_weights
from featcache.features.claims import confirm, root_of
from featcache.features.removal import RUNS
from featcache.features.splits.partition import Carve
from featcache.features.store.packed_file import PackedFile
from featcache.features.store.records import Failure, Identity, Stamp
from featcache.features.store.snapshot import Snapshot
from featcache.files.write import append_record
from featcache.images import ImageSet
from featcache.images.first_look import none_usable
from featcache.interruption import Interruption, watch_for_interruption
from featcache.runtimes.runtime import Runtime

SHOWN_CONFLICTS = 3


def run_job(
    job: Job, report: Callable[[Progress], None] = lambda progress: None
) -> list[Extraction]:
    """Do the work: only images without a row are put through the networks; one answer a target.

    Raises `ImageFailure` where no image could be used (or one failed under on_error="fail"),
    `StorageFailure` where the disk refuses, `KeyboardInterrupt` after a request to stop; rows
    that were finished are saved in every case.
    """
    with open_run(job) as state:
        _fill(state, report)
        with state.reading.timing.measure("writing"):
            packed = [_pack(state, filling) for filling in state.fillings]
        _log_run(state)
        return [
            _result(state, filling, *each)
            for filling, each in zip(state.fillings, packed, strict=True)
        ]


@dataclass(frozen=True, slots=True)
class Added:
    """What `add` did.

    Attributes
    ----------
    extracted: rows that were computed.
    failures: images that could not be used.
    snapshot: everything that the target holds now.
    """

    extracted: int
    failures: list[Failure]
    snapshot: Snapshot


def add(job: Job) -> Added:
    """Save the rows that a job's one target lacks as parts; its file of features is left alone.

    Raises what `run_job` raises, but for images that cannot be used.
    """
    with open_run(job) as state:
        (filling,) = state.fillings
        _fill(state, lambda progress: None)
        _log_run(state)
        snapshot = filling.target.store.snapshot()
        there = snapshot.find(state.keys, np.zeros(len(job.images), np.int32)) >= 0
        failures = filling.reasons(np.flatnonzero(~there), state.keys)
        return Added(filling.extracted, failures, snapshot)


def _fill(state: Run, report: Callable[[Progress], None]) -> None:
    """Compute and save all rows that are missing."""
    missing = find_missing(state)
    _check_space(state, missing)
    try:
        _extract_missing(state, missing, report)
    finally:
        state.save_stats()


def _extract_missing(state: Run, missing: np.ndarray, report: Callable[[Progress], None]) -> None:
    job, indices = state.job, np.flatnonzero(missing.any(axis=0)).tolist()
    state.groups, state.waiting = find_groups(state, missing), len(indices)
    streams = [stream_of(state, group) for group in state.groups]
    with watch_for_interruption() as interruption:
        streams = [_stoppable(stream, state, interruption) for stream in streams]
        for batch in run_pass(job.images, indices, streams, state.reading) if streams else ():
            state.take(batch)
            report(state.progress())
            if interruption.requested or (state.failed and job.settings.on_error == "fail"):
                break
    state.commit()
    report(state.progress())
    if interruption.requested:
        raise KeyboardInterrupt(
            f"interrupted: {state.saved:,} rows of this run are saved; "
            f"run the same command to go on"
        )
    if state.failed and job.settings.on_error == "fail":
        failure = next(each for filling in state.fillings for each in filling.failures.values())
        raise ImageFailure(
            f"{failure.path}: {failure.message}. The run stopped there (--on-error fail); "
            f"{state.saved:,} rows of this run are saved"
        )


def _stoppable(stream: Stream, state: Run, interruption: Interruption) -> Stream:
    """Opening its network, which takes seconds, ends at once unless rows wait to be saved."""

    def opened() -> Runtime:
        with nullcontext() if state.computed.any() else interruption.at_once():
            return stream.open_runtime()

    return replace(stream, open_runtime=opened)


def _pack(state: Run, filling: Filling) -> tuple[PackedFile, list[Failure]]:
    """Pack what exists into features.h5: a row for each view of each image, sorted by path."""
    job, target = state.job, filling.target
    snapshot = target.store.snapshot()
    counts = [len(filling.wanted(index)) for index in range(len(job.images))]
    indices = np.repeat(np.arange(len(counts)), counts)
    views = np.concatenate([np.arange(count, dtype=np.int32) for count in counts])
    there = snapshot.find(state.keys[indices], views) >= 0
    failures = filling.reasons(np.unique(indices[~there]), state.keys)
    if not there.any():
        raise none_usable([(failure.path, failure.message) for failure in failures])
    identity = identify(
        job.images,
        state.keys,
        (indices[there], views[there]),
        failures=failures,
        carve=job.settings.carve,
    )
    if snapshot.probe is None:
        raise FeatcacheError(f"{target.directory}: no part holds a probe; run `featcache verify`")
    confirm(job.folder, root_of(job.images))
    packed = target.store.pack(identity, Stamp(merged(snapshot.provenances), snapshot.probe))
    note_weights(target.directory, target.network.weights_hint)
    return packed, failures


def _result(
    state: Run, filling: Filling, packed: PackedFile, failures: list[Failure]
) -> Extraction:
    proven, seconds = filling.proven, state.seconds
    tap = proven.taps.index(filling.target.tap) if proven else 0
    return Extraction(
        path=packed.path,
        target=filling.target,
        rows=len(packed.vectors),
        extracted=filling.extracted,
        reused=len(packed.vectors) - filling.extracted,
        failures=failures,
        computed=int(state.computed.sum()),
        seconds=seconds,
        runtime=proven.runtime.name if proven else "none",
        choice=proven.runtime.choice if proven else "every row was known: no network ran",
        parity=proven.parities[tap] if proven else None,
        rounding=proven.roundings[tap] if proven else None,
        bound=state.reading.timing.bound(seconds) if proven else None,
        remarks=[*state.remarks, *_warnings(state)],
    )


def _warnings(state: Run) -> list[str]:
    depth = state.job.targets[0].recipe.decoding.bit_depth
    counted = reading_notes(state.notes, state.peak, state.deep, depth)
    counted += dict.fromkeys(filter(None, map(_taken_over, state.fillings)))
    conflicts = label_conflicts(state.job.images, [key.decode() for key in state.keys])
    more = len(conflicts) - SHOWN_CONFLICTS
    rest = [f"and {more} more images with two labels"] if more > 0 else []
    return counted + conflicts[:SHOWN_CONFLICTS] + rest


def label_conflicts(images: ImageSet, keys: Sequence[str]) -> list[str]:
    """A sentence for each image content (`keys`, one an image) that has more than one label."""
    first: dict[str, int] = {}
    sentences = []
    for index, key in enumerate(keys):
        other = first.setdefault(key, index)
        if images.labels[other] != images.labels[index]:
            sentences.append(
                f"{images.names[other]!r} ({images.labels[other]!r}) and {images.names[index]!r} "
                f"({images.labels[index]!r}) are the same image with two labels"
            )
    return sentences


def _taken_over(filling: Filling) -> str:
    """How many rows of earlier reading rules were taken over, and how many must not be."""
    known = filling.known
    if not (known.taken_over or known.changed):
        return ""
    return (
        f"how some kinds of files are read was mended since the rows of before were made: "
        f"{known.taken_over:,} rows whose pixels are the same were taken over without the network, "
        f"{len(known.changed):,} images of changed kinds were extracted again. Heads that were "
        f"fitted before still predict unchanged kinds; the features of before stay as they are "
        f"(`featcache ls`, `featcache rm`)"
    )


def _log_run(state: Run) -> None:
    """Host, time and speed go beside the files, never inside them."""
    job, seconds = state.job, state.seconds
    for filling in state.fillings:
        proven = filling.proven
        record = {
            "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "host": platform.node(),
            "images": len(job.images),
            "extracted": filling.extracted,
            "seconds": round(seconds, 3),
            "batch": proven.runtime.batch if proven else None,
            "threads": job.settings.threads,
            "waited_for": state.reading.timing.bound(seconds).shares if proven else None,
        }
        try:
            append_record(filling.target.directory / RUNS, record, base=job.cache.directory)
        except StorageFailure as error:  # the rows are safe, which is what counts
            state.remarks.append(f"this run is not in the log: {error}")


def _check_space(state: Run, missing: np.ndarray) -> None:
    """Refuse before the work where its result cannot possibly fit."""
    job = state.job
    counts = np.array([len(job.views.of(split)) for split in job.images.splits])
    rows = [int(counts[lacking].sum()) for lacking in missing]
    need = sum(
        count * filling.target.row_bytes
        for count, filling in zip(rows, state.fillings, strict=True)
    )
    if need > job.bytes_free:
        shapes = ", ".join(f"{target.recipe.tap} {target.tap.row_shape}" for target in job.targets)
        raise StorageFailure(
            f"{job.folder}: {max(rows):,} rows of {shapes} need {need / 1e9:,.2f} GB and "
            f"{job.bytes_free / 1e9:,.2f} GB are free. Nothing was extracted: make room, use "
            f"another --cache, or smaller vectors (--pooling avg, --dtype float16)"
        )


def identify(
    images: ImageSet,
    keys: np.ndarray,
    present: tuple[np.ndarray, np.ndarray],
    *,
    failures: list[Failure],
    carve: Carve | None,
) -> Identity:
    """The identity of some rows: `present` are their images' numbers and their views, in order.

    `keys` (N,) 'S64' belongs to all images, b"" of those that were never read. A carved split is
    decided on all of the others, so it is the same for every layer and backbone.
    """
    indices, views = present
    rows = indices.tolist()
    splits = images.splits if carve is None else _carved(images, keys, carve)
    labels, classes = coded([images.labels[row] for row in rows])
    split_codes, split_names = coded([splits[row] for row in rows])
    groups, group_names = coded([images.groups[row] for row in rows])
    return Identity(
        paths=[images.names[row] for row in rows],
        keys=keys[indices],
        views=views,
        labels=labels,
        classes=classes,
        splits=split_codes,
        split_names=split_names,
        groups=groups,
        group_names=group_names,
        failures=failures,
        metadata={name: [column[row] for row in rows] for name, column in images.metadata.items()},
    )


def _carved(images: ImageSet, keys: np.ndarray, carve: Carve) -> list[str]:
    """The split of every image, part of one made the test split; of unread ones as it was."""
    known = keys != b""
    splits = np.array(images.splits, dtype="<U10")
    splits[known] = carve.apply(
        splits[known],
        keys[known].astype(str),
        labels=np.array(images.labels, dtype=str)[known],
        groups=np.array(images.groups, dtype=str)[known],
    )
    carved: list[str] = splits.tolist()
    return carved


def coded(values: list[str]) -> tuple[np.ndarray, list[str]]:
    """int32 codes into the sorted distinct names; "" is -1."""
    names = sorted(set(values) - {""})
    code = {"": -1, **{name: position for position, name in enumerate(names)}}
    return np.array([code[value] for value in values], np.int32), names
