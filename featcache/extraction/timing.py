"""Timing: where a run's time went, and what it was bound by."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import joblib

#: What would make a run faster, by what it was bound by.
ADVICE = {
    "network": "a GPU, a smaller --size or a smaller backbone; where the CPU has it, "
    "--precision bfloat16",
    "reading": "images on a faster disk, or more --threads where the disk is far away",
    "decoding": "more --threads where there are cores; images stored nearer to --size",
    "writing": "a cache on a faster disk, --pooling avg or --dtype float16",
    "the rest": "more images at once: what is left is looking around, and Python's own work",
}


@dataclass(frozen=True, slots=True)
class Bound:
    """What a run was bound by.

    Attributes
    ----------
    shares: of the run's time, what it waited for; they add up to 1.
    cores: of all cores' time, what the threads that read and decode were busy with.
    """

    shares: dict[str, float]
    cores: dict[str, float]

    @property
    def by(self) -> str:
        """What it waited for most."""
        return max(self.shares, key=lambda name: self.shares[name])

    @property
    def advice(self) -> str:
        """What would help."""
        return ADVICE[self.by]


@dataclass(slots=True)
class Timing:
    """Seconds by what they were spent on; safe in threads.

    The main thread waits for the "network", for "images" or for the disk ("writing"); the
    threads that feed it are busy with "reading" (which includes hashing) and "decoding".
    """

    seconds: dict[str, float] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def measure(self, name: str) -> Iterator[None]:
        """Add the time that the block takes."""
        began = time.perf_counter()
        try:
            yield
        finally:
            took = time.perf_counter() - began
            with self.lock:
                self.seconds[name] = self.seconds.get(name, 0.0) + took

    def bound(self, total: float) -> Bound:
        """Shares of `total` seconds; waiting for images is split as the threads were busy."""
        spent = {name: self.seconds.get(name, 0.0) for name in ("network", "writing", "images")}
        busy = {name: self.seconds.get(name, 0.0) for name in ("reading", "decoding")}
        feeding = sum(busy.values()) or 1.0
        waited = spent.pop("images")
        spent |= {name: waited * share / feeding for name, share in busy.items()}
        total = max(total, sum(spent.values()), 1e-9)
        spent["the rest"] = total - sum(spent.values())
        cores = total * joblib.cpu_count()
        return Bound(
            shares={name: seconds / total for name, seconds in spent.items()},
            cores={name: seconds / cores for name, seconds in busy.items()},
        )
