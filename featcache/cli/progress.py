"""Progress: a live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from featcache.cli.console import say, time_text

if TYPE_CHECKING:
    from featcache.extraction.job import Progress

#: Seconds between plain lines where stderr is not a terminal.
PLAIN_SECONDS = 10.0


@contextmanager
def progress_display() -> Iterator[Callable[[Progress], None]]:
    """A function to call with every `Progress`."""
    if sys.stderr.isatty():
        with _live_line() as update:
            yield update
    else:
        yield _PlainLines()


def describe(progress: Progress) -> str:
    """Where a run stands, in one line."""
    speed = progress.images_per_second
    left = (progress.total - progress.done) / speed if speed > 0 else None
    parts = [f"{progress.done:,} of {progress.total:,}", f"{speed:.1f} images/s"]
    if left:
        parts.append(f"about {time_text(left)} left")
    if progress.failed:
        parts.append(f"{progress.failed} failed")
    parts.append(f"saved {progress.saved:,}")
    return " · ".join(parts)


class _PlainLines:
    def __init__(self) -> None:
        self.last = time.monotonic()

    def __call__(self, progress: Progress) -> None:
        if time.monotonic() - self.last >= PLAIN_SECONDS:
            self.last = time.monotonic()
            say(describe(progress))


@contextmanager
def _live_line() -> Iterator[Callable[[Progress], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bar

    columns = (BarColumn(bar_width=30), TextColumn("{task.description}", markup=False))
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("starting")

        def update(progress: Progress) -> None:
            bar.update(
                task,
                total=progress.total,
                completed=progress.done,
                description=describe(progress),
            )

        yield update
