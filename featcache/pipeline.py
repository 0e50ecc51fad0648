"""One pass of images through a network: threads read, hash and decode ahead while it computes.

    bytes --read, hash--> known? --decode--> pixels --fixed batch--> runtime --> rows, in order

A pass touches no disk but the images. Every batch has the same shape: the last one is padded, so
nothing is traced twice and a row does not depend on how full its batch was.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import Protocol

import numpy as np

from featcache.decode import BadImage, decode, one_thread_each
from featcache.images import FileStamp, ImageSet
from featcache.recipe import Decoding

#: Outcomes that need no network are handed on at least this often.
CHUNK = 1024

#: Images decoded ahead of the network, at least: a large one does not make it wait.
AHEAD = 32


class Runtime(Protocol):
    """A compiled network: exactly `batch` images in, one float32 array for each tap out.

    Up to `lanes` batches may be started before the first result is taken; the pixels of each stay
    untouched until then.
    """

    @property
    def name(self) -> str: ...
    @property
    def batch(self) -> int: ...
    @property
    def lanes(self) -> int: ...
    def start(self, pixels: np.ndarray) -> Callable[[], list[np.ndarray]]: ...
    def run(self, pixels: np.ndarray) -> list[np.ndarray]: ...


@dataclass(slots=True)
class Outcome:
    """What became of one image. `pixels` is set only between the decoder and the network."""

    index: int
    key: str = ""
    stamp: FileStamp | None = None
    hashed_at: int = 0
    pixels: np.ndarray | None = None
    source_size: tuple[int, int] = (0, 0)
    warning: str = ""
    trouble: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """What came out since the last one.

    `vectors` is (n, ...) in the stored type and `rows` are its n images; `others` are images that
    got no vector: known already, the same bytes as an earlier image, or failed (`trouble`).
    """

    vectors: np.ndarray
    rows: list[Outcome]
    others: list[Outcome]


@dataclass(frozen=True, slots=True)
class Work:
    """How a pass treats an image.

    `known(key)` says that no vector is needed for these bytes; `unique` that the same bytes under
    another name need no second one.
    """

    decoding: Decoding
    dtype: str
    known: Callable[[str], bool]
    threads: int
    max_pixels: int
    unique: bool = True


@dataclass(slots=True)
class _Filling:
    """The batch being filled, and what has happened beside it since the last one was handed on."""

    buffer: np.ndarray
    rows: list[Outcome] = field(default_factory=list)
    others: list[Outcome] = field(default_factory=list)

    def add(self, outcome: Outcome) -> None:
        self.buffer[len(self.rows)] = outcome.pixels
        outcome.pixels = None
        self.rows.append(outcome)

    def hand_on(self, dtype: str) -> Batch:
        """What happened beside the rows, which stay."""
        others, self.others = self.others, []
        return Batch(np.zeros((0, 0), dtype), rows=[], others=others)


@dataclass(slots=True)
class _Lanes:
    """The batches under way in the network, oldest first, and the buffers that are free again."""

    open_runtime: Callable[[], Runtime]
    shape: tuple[int, int, int, int]
    work: Work
    runtime: Runtime | None = None
    under_way: deque[tuple[_Filling, Callable[[], list[np.ndarray]]]] = field(default_factory=deque)
    spare: list[np.ndarray] = field(default_factory=list)

    def new_filling(self) -> _Filling:
        buffer = self.spare.pop() if self.spare else None
        if buffer is None:
            buffer = np.zeros(self.shape, self.work.decoding.pixel_type)
        return _Filling(buffer)

    def start(self, filling: _Filling) -> Iterator[Batch]:
        """Put a batch under way, behind those that must be finished to make room for it."""
        self.runtime = self.runtime or self.open_runtime()
        while len(self.under_way) >= self.runtime.lanes:
            yield self.finish_oldest()
        filling.buffer[len(filling.rows) :] = 0
        self.under_way.append((filling, self.runtime.start(filling.buffer)))

    def finish(self) -> Iterator[Batch]:
        while self.under_way:
            yield self.finish_oldest()

    def finish_oldest(self) -> Batch:
        filling, result = self.under_way.popleft()
        vectors = result()[0][: len(filling.rows)]
        self.spare.append(filling.buffer)
        return _batch(filling, vectors, self.work.dtype)

    def abandon(self) -> None:
        """Wait until the network lets go of the buffers, whatever becomes of the results."""
        while self.under_way:
            with suppress(Exception):  # on the way out: the first error is the one to show
                self.under_way.popleft()[1]()


def run_pass(
    images: ImageSet,
    indices: Iterable[int],
    work: Work,
    open_runtime: Callable[[], Runtime],
    batch: int,
) -> Iterator[Batch]:
    """Put the images through the network, in order; `open_runtime` is called when first needed."""
    lanes = _Lanes(open_runtime, (batch, *work.decoding.size, 3), work)
    filling = lanes.new_filling()
    claimed: set[bytes] = set()  # digests as bytes: half the memory of their hex
    try:
        for outcome in _outcomes(images, indices, work, ahead=max(2 * batch, AHEAD) + work.threads):
            if outcome.pixels is None or (work.unique and bytes.fromhex(outcome.key) in claimed):
                outcome.pixels = None
                filling.others.append(outcome)
            else:
                claimed.add(bytes.fromhex(outcome.key))
                filling.add(outcome)
            if len(filling.rows) == batch:
                yield from lanes.start(filling)
                filling = lanes.new_filling()
            elif len(filling.others) >= CHUNK:
                yield from lanes.finish()
                yield filling.hand_on(work.dtype)
        if filling.rows:
            yield from lanes.start(filling)
        yield from lanes.finish()
        if not filling.rows and filling.others:
            yield filling.hand_on(work.dtype)
    finally:
        lanes.abandon()


def read_key(images: ImageSet, index: int) -> Outcome:
    """Read and hash one image, without decoding it; never raises `BadImage`."""
    outcome = Outcome(index, hashed_at=time.time_ns())
    try:
        image = images.read(index)
    except BadImage as bad:
        outcome.trouble = (bad.code, bad.message)
        return outcome
    outcome.key, outcome.stamp = image.key, image.stamp
    return outcome


def read_one(images: ImageSet, index: int, work: Work) -> Outcome:
    """Read, hash and (where its bytes are not known) decode one image; never raises `BadImage`."""
    outcome = Outcome(index, hashed_at=time.time_ns())
    try:
        image = images.read(index)
        outcome.key, outcome.stamp = image.key, image.stamp
        if work.known(image.key):
            return outcome
        decoded = decode(image.content, work.decoding, max_pixels=work.max_pixels)
    except BadImage as bad:
        outcome.trouble = (bad.code, bad.message)
        return outcome
    outcome.pixels, outcome.source_size = decoded.pixels, decoded.source_size
    outcome.warning = decoded.warning
    return outcome


def read_ahead(
    task: Callable[[int], Outcome], indices: Iterable[int], threads: int, ahead: int
) -> Iterator[Outcome]:
    """`task` of every index, in order, with at most `ahead` of them under way or waiting."""
    supply = iter(indices)
    pending: deque[Future[Outcome]] = deque()
    readers = ThreadPoolExecutor(threads, thread_name_prefix="featcache-read")
    with one_thread_each(), readers as pool:
        try:
            pending.extend(pool.submit(task, index) for index in islice(supply, ahead))
            while pending:
                outcome = pending.popleft().result()
                pending.extend(pool.submit(task, index) for index in islice(supply, 1))
                yield outcome
        finally:
            for future in pending:
                future.cancel()


def _outcomes(
    images: ImageSet, indices: Iterable[int], work: Work, ahead: int
) -> Iterator[Outcome]:
    return read_ahead(lambda index: read_one(images, index, work), indices, work.threads, ahead)


def run_padded(runtime: Runtime, pixels: np.ndarray) -> np.ndarray:
    """A few images through a runtime of fixed batch, all lanes at once: padded, and cut again."""
    outputs: list[np.ndarray] = []
    under_way: deque[tuple[np.ndarray, Callable[[], list[np.ndarray]]]] = deque()
    for start in range(0, len(pixels), runtime.batch):
        padded = np.zeros((runtime.batch, *pixels.shape[1:]), pixels.dtype)
        piece = pixels[start : start + runtime.batch]
        padded[: len(piece)] = piece
        if len(under_way) == runtime.lanes:
            outputs.append(under_way.popleft()[1]()[0])
        under_way.append((padded, runtime.start(padded)))
    outputs += [result()[0] for _, result in under_way]
    return np.concatenate(outputs)[: len(pixels)]


def _batch(filling: _Filling, vectors: np.ndarray, dtype: str) -> Batch:
    """What a filled buffer became; rows that the network cannot answer for have failed."""
    stored, troubles = _as_stored(vectors, dtype)
    for outcome, trouble in zip(filling.rows, troubles, strict=True):
        outcome.trouble = trouble
    good = np.array([trouble is None for trouble in troubles], dtype=bool)
    return Batch(
        vectors=np.ascontiguousarray(stored[good]),
        rows=[outcome for outcome in filling.rows if outcome.trouble is None],
        others=filling.others + [o for o in filling.rows if o.trouble is not None],
    )


def _as_stored(vectors: np.ndarray, dtype: str) -> tuple[np.ndarray, list[tuple[str, str] | None]]:
    """The rows in the stored type, and for each row what is wrong with it, if anything."""
    axes = tuple(range(1, vectors.ndim))
    with np.errstate(over="ignore", invalid="ignore"):
        stored = vectors.astype(dtype, copy=False)
    finite = np.isfinite(vectors).all(axis=axes)
    fits = np.isfinite(stored).all(axis=axes)
    troubles: list[tuple[str, str] | None] = []
    for row in range(len(vectors)):
        if not finite[row]:
            troubles.append(("non-finite", "the network gives NaN or infinity for this image"))
        elif not fits[row]:
            largest = float(np.abs(vectors[row]).max())
            troubles.append(
                (
                    "overflow",
                    f"a feature of {largest:.6g} does not fit {dtype}: use --dtype float32",
                )
            )
        else:
            troubles.append(None)
    return stored, troubles
