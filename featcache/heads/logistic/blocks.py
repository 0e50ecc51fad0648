"""Blocks of rows: a matrix is read once, by threads that each sum over blocks of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np

from featcache.errors import FeatcacheError

#: Numbers of a block of rows: it stays in a core's cache between its two products.
BLOCK_NUMBERS = 2**19
#: Rows whose mean is taken off before anything is summed, against cancellation.
CENTRE_ROWS = 2048
#: A variance below this part of the squared mean is that of a constant column.
FLAT = 1e-14


class Blocks:
    """Blocks of rows, handed to threads that each have a buffer of their own.

    Sums are taken in an order that depends on nothing but the number of threads.
    """

    def __init__(
        self, vectors: np.ndarray, centre: np.ndarray, pool: Executor, threads: int
    ) -> None:
        self.vectors, self.centre, self.pool = vectors, centre, pool
        self.rows = max(64, min(2048, BLOCK_NUMBERS // (vectors.shape[1] + 1)))
        starts = range(0, len(vectors), self.rows)
        threads = min(threads, len(starts))
        self.shares = [starts[number::threads] for number in range(threads)]

    def each(self, work: Callable[[slice, np.ndarray], tuple[np.ndarray, ...]]) -> list[np.ndarray]:
        """Sum over all blocks of what `work(rows, block)` gives; a block ends in a column of 1."""

        def share(starts: range) -> list[np.ndarray]:
            sums: list[np.ndarray] = []
            centre = self.centre.astype(precision(self.vectors))
            buffer = np.ones((self.rows, len(centre) + 1), centre.dtype)
            for start in starts:
                rows = slice(start, min(start + self.rows, len(self.vectors)))
                block = buffer[: rows.stop - rows.start]
                np.subtract(self.vectors[rows], centre, out=block[:, :-1])
                parts = work(rows, block)
                sums = sums or [np.zeros(part.shape) for part in parts]
                for total, part in zip(sums, parts, strict=True):
                    total += part
            return sums

        shares = list(self.pool.map(share, self.shares))
        return [np.sum(parts, axis=0) for parts in zip(*shares, strict=True)]


@contextmanager
def blocks_of(vectors: np.ndarray) -> Iterator[Blocks]:
    """Blocks and their threads, as many as the matrix library has.

    Raises `FeatcacheError` where a row that was looked at is not finite.
    """
    from threadpoolctl import threadpool_info

    # A caller's own limit of threads is kept.
    found = [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]
    threads = max(found, default=1)
    with ThreadPoolExecutor(threads) as pool:
        yield Blocks(vectors, rough_mean(vectors), pool, threads)


@contextmanager
def one_blas_thread_each() -> Iterator[None]:
    """One thread a matrix product: the blocks of rows have threads of their own."""
    import scipy.linalg  # noqa: F401 - its matrix library must be loaded to be limited
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, user_api="blas"):
        yield


def precision(vectors: np.ndarray) -> np.dtype[Any]:
    """What products are computed in: float64 for float64 vectors, otherwise float32."""
    return np.dtype(np.float64 if vectors.dtype == np.float64 else np.float32)


def rough_mean(vectors: np.ndarray) -> np.ndarray:
    """(D,) float64, the mean of some rows spread over all, as `precision` can hold it."""
    spread = np.unique(np.linspace(0, len(vectors) - 1, CENTRE_ROWS).astype(int))
    with np.errstate(over="ignore", invalid="ignore"):  # found and named just below
        centre: np.ndarray = vectors[spread].mean(axis=0, dtype=np.float64)
        centre = centre.astype(precision(vectors)).astype(np.float64)
    check_finite(centre, vectors)
    return centre


def moments(blocks: Blocks, row_weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation, (F, D), of the rows of every fold; a constant column has deviation 1."""

    def work(rows: slice, block: np.ndarray) -> tuple[np.ndarray, ...]:
        # In float64: a column that is constant in a fold alone must not get the deviation 1e-6.
        exact, weights = block.astype(np.float64), row_weights[:, rows]
        return weights @ exact, weights @ np.square(exact)

    with np.errstate(over="ignore", invalid="ignore"):  # found and named just below
        first, second = blocks.each(work)
    check_finite(first + second, blocks.vectors)
    total = first[:, -1:]
    shift = first[:, :-1] / total
    variance = second[:, :-1] / total - np.square(shift)
    flat = variance <= FLAT * (np.square(shift) + np.square(blocks.centre))
    return shift + blocks.centre, np.sqrt(np.where(flat, 1.0, variance))


def check_finite(sums: np.ndarray, vectors: np.ndarray) -> None:
    """Where sums of rows are not finite, name the first row that causes it."""
    if np.isfinite(sums).all():
        return
    for start in range(0, len(vectors), 4096):
        bad = np.flatnonzero(~np.isfinite(vectors[start : start + 4096]).all(axis=1))
        if len(bad):
            raise FeatcacheError(
                f"row {start + int(bad[0])} of the vectors holds NaN or an infinite number: leave "
                f"that image out, or extract it again"
            )
    raise FeatcacheError("the vectors are too large to square in float32: scale them down first")
