"""Reading: images become pixels that wait for their networks, in threads.

    bytes --read, hash--> needed? --decode--> pixels --view--> pictures

The threads release the GIL while they read, hash, decode and resize.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from featcache.errors import BadImage
from featcache.extraction.timing import Timing
from featcache.files.small_files import FileStamp
from featcache.images import ImageSet
from featcache.images.decoder import Content, decode_all
from featcache.images.samples import depth_advice
from featcache.recipe import Decoding
from featcache.runtimes.runtime import Runtime

#: Pictures decoded ahead of the networks, at least: a large image does not make them wait.
AHEAD = 32


#: A picture that waits for its network: the number of the view, and its pixels.
ViewPixels = tuple[int, np.ndarray]


@dataclass(slots=True)
class Outcome:
    """What became of one image.

    `needed` are the views that each stream had no row of; `pictures`, their pixels, are there
    only between the decoder and the network.
    """

    index: int
    key: str = ""
    stamp: FileStamp | None = None
    hashed_at: int = 0
    needed: list[Sequence[int]] = field(default_factory=list)
    pictures: list[list[ViewPixels]] = field(default_factory=list)
    source_size: tuple[int, int] = (0, 0)
    notes: tuple[str, ...] = ()
    peak: int = 0
    problem: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Stream:
    """One network in a pass.

    Attributes
    ----------
    decoding: from bytes to its pixels.
    needs: the views of an image, by index, key and what gives its content, that have no row;
        called from many threads. Raises `BadImage` where the image must not have one.
    open_runtime: called when the first picture is there.
    view: a view above 0, from the pixels of the plain image, the key and the number.
    ahead: images that should wait ready.
    unique: whether the same bytes under another name need no second row.
    """

    decoding: Decoding
    needs: Callable[[int, str, Callable[[], Content]], Sequence[int]]
    open_runtime: Callable[[], Runtime]
    view: Callable[[np.ndarray, str, int], np.ndarray] | None = None
    ahead: int = AHEAD
    unique: bool = True


@dataclass(frozen=True, slots=True)
class Reading:
    """How images are read: threads, the largest image allowed, and who notes the time."""

    threads: int
    max_pixels: int
    timing: Timing = field(default_factory=Timing)


def read_one(images: ImageSet, index: int, streams: Sequence[Stream], reading: Reading) -> Outcome:
    """Read, hash and (for the streams that need it) decode one image; never raises `BadImage`."""
    outcome = Outcome(index, hashed_at=time.time_ns())
    try:
        with reading.timing.measure("reading"):
            image = images.read(index)
        outcome.key, outcome.stamp = image.key, image.stamp
        outcome.needed = [
            stream.needs(index, image.key, lambda: image.content) for stream in streams
        ]
        if any(outcome.needed):
            with reading.timing.measure("decoding"):
                _decode(outcome, image.content, streams, reading.max_pixels)
    except BadImage as bad:
        outcome.problem = (bad.code, bad.message)
    return outcome


def reading_notes(notes: Counter[str], peak: int, deep: int, bit_depth: str) -> list[str]:
    """What a run tells of the images that it decoded, each sentence once, with their number.

    `peak` is the largest value of its `deep` images of 16 bits.
    """
    told = [f"{text} ({count} images)" for text, count in sorted(notes.items())]
    advice = depth_advice(peak, bit_depth)
    return told + ([f"{advice} ({deep} images of 16 bits read in this run)"] if advice else [])


def _decode(outcome: Outcome, content: Content, streams: Sequence[Stream], max_pixels: int) -> None:
    """Give the outcome the pictures that the streams need."""
    asking = [number for number, views in enumerate(outcome.needed) if views]
    decodings = [streams[number].decoding for number in asking]
    decoded = decode_all(content, decodings, max_pixels=max_pixels)
    outcome.pictures = [[] for _ in streams]
    for number, plain in zip(asking, decoded, strict=True):
        stream, views = streams[number], outcome.needed[number]
        outcome.pictures[number] = [
            (view, _seen(stream, plain.pixels, outcome.key, view)) for view in views
        ]
    first = decoded[0]
    outcome.source_size, outcome.notes, outcome.peak = first.source_size, first.notes, first.peak


def _seen(stream: Stream, pixels: np.ndarray, key: str, view: int) -> np.ndarray:
    """The pixels of a view; view 0 is the plain image."""
    if view == 0:
        return pixels
    if stream.view is None:
        raise ValueError(f"view {view} was asked of a stream without augmentation")
    return stream.view(pixels, key, view)
