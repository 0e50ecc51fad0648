"""Threads that read and decode images ahead of what uses them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from typing import TypeVar

import cv2

Given = TypeVar("Given")
Made = TypeVar("Made")


def read_ahead(
    task: Callable[[Given], Made], each: Iterable[Given], threads: int, ahead: int
) -> Generator[Made, None, None]:
    """`task` of each thing, in order, with at most `ahead` of them under way or waiting."""
    supply = iter(each)
    pending: deque[Future[Made]] = deque()
    readers = ThreadPoolExecutor(threads, thread_name_prefix="featcache-read")
    with one_opencv_thread_each(), readers as pool:
        try:
            pending.extend(pool.submit(task, given) for given in islice(supply, ahead))
            while pending:
                outcome = pending.popleft().result()
                pending.extend(pool.submit(task, given) for given in islice(supply, 1))
                yield outcome
        finally:
            for future in pending:
                future.cancel()


@contextmanager
def one_opencv_thread_each() -> Iterator[None]:
    """Keep OpenCV to the calling thread while many threads decode.

    Its own pool would only compete with them: with two decoding threads on two cores an image took
    a quarter longer. The setting belongs to the whole process, so it is put back.
    """
    earlier = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(earlier)
