"""How a process ends early: on request, with its batch saved, or with its parent."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

#: Exit code after Ctrl-C or SIGTERM.
INTERRUPTED = 128 + signal.SIGINT
STOPPED = "interrupted; run the same command to go on"

_told_to_stop = False


def stop_on_signals() -> None:
    """From now on SIGINT and SIGTERM raise `KeyboardInterrupt`: what is open is closed."""

    def stop(number: int, frame: FrameType | None) -> None:
        global _told_to_stop
        _told_to_stop = True
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) != signal.SIG_IGN:  # nohup and & ask to ignore it
            signal.signal(number, stop)


def was_told_to_stop() -> bool:
    """Whether a signal came since `stop_on_signals`, whatever exception became of it."""
    return _told_to_stop


class Interruption:
    """Whether somebody asked the run to stop. A second request stops it at once."""

    def __init__(self) -> None:
        self.requested = False
        self._is_patient = True

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Within it the first request stops the run too: it takes long, and nothing waits for it.

        Raises `KeyboardInterrupt` where a request came before.
        """
        if self.requested:
            raise KeyboardInterrupt
        self._is_patient = False
        try:
            yield
        finally:
            self._is_patient = True

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        is_first, self.requested = not self.requested, True
        if not (is_first and self._is_patient):
            raise KeyboardInterrupt


@contextmanager
def watch_for_interruption() -> Iterator[Interruption]:
    """Turn SIGINT and SIGTERM into `requested` while the block runs.

    Only the main thread may set signal handlers; in another one, signals act as they did.
    """
    interruption = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    earlier = {number: signal.signal(number, interruption._on_signal) for number in numbers}
    try:
        yield interruption
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)


def end_with_parent() -> None:
    """In a worker process: end within a second or two of the process that started this one.

    A killed process cannot stop its workers, which would compute on and hold its pipes. Not for
    workers of Dask or Ray: they may outlive, on another machine, whoever gives them tasks.
    """
    import multiprocessing  # here: this module is the first that the command line imports

    parent = multiprocessing.parent_process()
    if parent is not None and parent.pid is not None:
        threading.Thread(target=_watch, args=(parent.pid,), daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:  # of the process, whichever of its threads started this one
        time.sleep(1.0)
    os._exit(1)  # not by an exception: the main thread may be deep in a computation
