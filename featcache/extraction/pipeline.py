"""One pass of images through networks, which compute while threads read ahead.

    pictures (see reading.py) --fixed batch--> runtime --> rows, in order

A pass touches no disk but the images. Several networks share the decoding. Every batch has the
same shape: the last one is padded, so nothing is traced twice and a row does not depend on how
full its batch was.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np

from featcache.extraction.reading import Outcome, Reading, Stream, ViewPixels, read_one
from featcache.extraction.timing import Timing
from featcache.images import ImageSet
from featcache.images.threads import read_ahead
from featcache.runtimes.runtime import Runtime

#: Outcomes that need no network are handed on at least this often.
CHUNK = 1024


@dataclass(frozen=True, slots=True)
class Row:
    """One view of one image that went through a network; the `last` of that image or not."""

    outcome: Outcome
    view: int
    last: bool


@dataclass(frozen=True, slots=True)
class Batch:
    """What came out of one stream since its last one.

    `vectors` has for each tap the (n, ...) float32 of the n `rows`; `others` are images that the
    stream did not compute: known already, the same bytes as an earlier image, or failed.
    """

    stream: int
    vectors: list[np.ndarray]
    rows: list[Row]
    others: list[Outcome]


@dataclass(slots=True)
class _InputBatch:
    """A batch that is being filled."""

    buffer: np.ndarray
    rows: list[Row] = field(default_factory=list)

    def add(self, row: Row, pixels: np.ndarray) -> None:
        self.buffer[len(self.rows)] = pixels
        self.rows.append(row)

    @property
    def is_full(self) -> bool:
        return len(self.rows) == len(self.buffer)


@dataclass(slots=True)
class _Feeder:
    """Feeds one network: its batches under way, oldest first, and what waits for the next."""

    number: int
    stream: Stream
    timing: Timing
    runtime: Runtime | None = None
    inputs: _InputBatch | None = None
    others: list[Outcome] = field(default_factory=list)
    claimed: set[bytes] = field(default_factory=set)  # digests as bytes: half of their hex
    under_way: deque[tuple[_InputBatch, list[Outcome], Callable[[], list[np.ndarray]]]] = field(
        default_factory=deque
    )
    spare: list[np.ndarray] = field(default_factory=list)

    def take(self, outcome: Outcome) -> Iterator[Batch]:
        """Put an image's pictures into the batch, and start the network when it is full."""
        pictures = self._unclaimed(outcome)
        if not pictures:
            self.others.append(outcome)
            if len(self.others) >= CHUNK:
                yield from self.finish()  # what waits in the batch too: images come out in order
        for place, (view, pixels) in enumerate(pictures):
            self.inputs = self.inputs or self._new_inputs()
            self.inputs.add(Row(outcome, view, place == len(pictures) - 1), pixels)
            if self.inputs.is_full:
                yield from self.start(self.inputs)
                self.inputs = None

    def start(self, inputs: _InputBatch) -> Iterator[Batch]:
        """Put a batch under way, behind those that must be finished to make room for it."""
        runtime = self._opened()
        while len(self.under_way) >= runtime.lanes:
            yield self.finish_oldest()
        inputs.buffer[len(inputs.rows) :] = 0
        self.under_way.append((inputs, self.others, runtime.start(inputs.buffer)))
        self.others = []

    def finish(self) -> Iterator[Batch]:
        """Everything that is left, a batch that is not full too."""
        if self.inputs:
            yield from self.start(self.inputs)
            self.inputs = None
        while self.under_way:
            yield self.finish_oldest()
        if self.others:
            yield self._hand_on()

    def finish_oldest(self) -> Batch:
        inputs, others, result = self.under_way.popleft()
        with self.timing.measure("network"):
            vectors = [array[: len(inputs.rows)] for array in result()]
        self.spare.append(inputs.buffer)
        return Batch(self.number, vectors, inputs.rows, others)

    def abandon(self) -> None:
        """Wait until the network lets go of the buffers, whatever becomes of the results."""
        while self.under_way:
            with suppress(Exception):  # on the way out: the first error is the one to show
                self.under_way.popleft()[2]()

    def _unclaimed(self, outcome: Outcome) -> list[ViewPixels]:
        """The pictures that no earlier image of the same bytes has brought already."""
        if not outcome.pictures:
            return []
        pictures, outcome.pictures[self.number] = outcome.pictures[self.number], []
        if not self.stream.unique:
            return pictures
        digest = bytes.fromhex(outcome.key)
        names = [digest + view.to_bytes(4, "big") if view else digest for view, _ in pictures]
        fresh = [name not in self.claimed for name in names]
        self.claimed.update(names)
        return [picture for picture, is_fresh in zip(pictures, fresh, strict=True) if is_fresh]

    def _opened(self) -> Runtime:
        self.runtime = self.runtime or self.stream.open_runtime()
        return self.runtime

    def _new_inputs(self) -> _InputBatch:
        if self.spare:
            return _InputBatch(self.spare.pop())
        decoding = self.stream.decoding
        shape = (self._opened().batch, *decoding.size, 3)
        return _InputBatch(np.zeros(shape, decoding.pixel_type))

    def _hand_on(self) -> Batch:
        others, self.others = self.others, []
        return Batch(self.number, [], [], others)


def run_pass(
    images: ImageSet, indices: Iterable[int], streams: Sequence[Stream], reading: Reading
) -> Iterator[Batch]:
    """Put the images through the networks; each stream hands on its batches in their order."""
    feeders = [_Feeder(number, stream, reading.timing) for number, stream in enumerate(streams)]
    ahead = max(stream.ahead for stream in streams) + reading.threads

    def read(index: int) -> Outcome:
        return read_one(images, index, streams, reading)

    outcomes = read_ahead(read, indices, reading.threads, ahead)
    try:
        while (outcome := _next(outcomes, reading.timing)) is not None:
            for feeder in feeders:
                yield from feeder.take(outcome)
        for feeder in feeders:
            yield from feeder.finish()
    finally:
        for feeder in feeders:
            feeder.abandon()
        outcomes.close()


def _next(outcomes: Iterator[Outcome], timing: Timing) -> Outcome | None:
    with timing.measure("images"):
        return next(outcomes, None)


@dataclass(frozen=True, slots=True)
class FinishedRows:
    """Finished rows: `vectors` (n, ...) in the stored type, of `views[i]` of `outcomes[i]`."""

    vectors: np.ndarray
    outcomes: list[Outcome]
    views: list[int]
