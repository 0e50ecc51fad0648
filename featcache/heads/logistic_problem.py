"""The logistic losses of many problems on one matrix: it is read once for all of them.

A problem is a strength of penalty and a fold. Its unknowns are (outputs, width + 1) numbers: the
coefficients of the standardised vectors, and the intercept last. With two classes there is one
output, as in scikit-learn; with more there is one a class.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from featcache.errors import FeatcacheError

#: Numbers of a block of rows: it stays in a core's cache between its two products.
BLOCK_NUMBERS = 2**19
#: Rows whose mean is taken off before anything is summed, against cancellation.
CENTRE_ROWS = 2048


@dataclass(frozen=True, eq=False)
class Table:
    """Rows, their classes, and for every fold their weights and moments.

    Attributes
    ----------
    vectors: (n, D), an array or a memory map; never copied as a whole.
    codes: (n,) integers below `classes`.
    row_weights: (F, n), nought for the rows that a fold leaves out; they sum to `totals`.
    centre: (D,), roughly the mean of all rows: what the products are computed about.
    means, scales: (F, D) of the rows of each fold.
    """

    vectors: np.ndarray
    codes: np.ndarray
    classes: int
    row_weights: np.ndarray
    centre: np.ndarray
    means: np.ndarray
    scales: np.ndarray

    @property
    def dtype(self) -> np.dtype:
        """float64 for float64 vectors, otherwise float32: what the products are computed in."""
        return precision(self.vectors)

    @property
    def outputs(self) -> int:
        """One for two classes, else one a class."""
        return 1 if self.classes == 2 else self.classes

    @property
    def totals(self) -> np.ndarray:
        """(F,) the weight of all rows of a fold."""
        total: np.ndarray = self.row_weights.sum(axis=1, dtype=np.float64)
        return total

    def shared(self, unknowns: np.ndarray, folds: np.ndarray) -> np.ndarray:
        """(P, O, D+1) in the folds' standardised coordinates -> on vectors less `centre`."""
        weights = unknowns.copy()
        weights[..., :-1] /= self.scales[folds][:, None]
        shift = self.means[folds] - self.centre
        weights[..., -1] -= np.einsum("pod,pd->po", weights[..., :-1], shift)
        return weights

    def own(self, gradient: np.ndarray, folds: np.ndarray) -> np.ndarray:
        """The transpose of `shared`: a gradient in the folds' own coordinates."""
        shift = (self.means[folds] - self.centre)[:, None]
        gradient[..., :-1] -= gradient[..., -1:] * shift
        gradient[..., :-1] /= self.scales[folds][:, None]
        return gradient

    def plain(self, unknowns: np.ndarray, fold: int) -> tuple[np.ndarray, np.ndarray]:
        """Coefficients (O, D) and intercept (O,) on the vectors as they are."""
        weights = self.shared(unknowns[None], np.array([fold]))[0]
        return weights[:, :-1], weights[:, -1] - weights[:, :-1] @ self.centre

    def standardised(
        self, coefficients: np.ndarray, intercept: np.ndarray, fold: int
    ) -> np.ndarray:
        """The transpose way of `plain`: unknowns (O, D+1) of coefficients on plain vectors."""
        offset = intercept + coefficients @ self.means[fold]
        return np.concatenate([coefficients * self.scales[fold], offset[:, None]], axis=1)


class Blocks:
    """Blocks of rows, handed to threads that each have a buffer of their own.

    Sums are taken in an order that depends on nothing but the number of threads.
    """

    def __init__(self, vectors: np.ndarray, centre: np.ndarray, threads: int) -> None:
        self.vectors, self.centre = vectors, centre.astype(precision(vectors))
        self.rows = max(64, min(2048, BLOCK_NUMBERS // (vectors.shape[1] + 1)))
        starts = range(0, len(vectors), self.rows)
        threads = min(threads, len(starts))
        self.shares = [starts[number::threads] for number in range(threads)]
        self.pool = ThreadPoolExecutor(threads)

    def each(self, work: Callable[[slice, np.ndarray], tuple[np.ndarray, ...]]) -> list[np.ndarray]:
        """Sum over all blocks of what `work(rows, block)` gives; a block ends in a column of 1."""

        def share(starts: range) -> list[np.ndarray]:
            sums: list[np.ndarray] = []
            buffer = np.ones((self.rows, self.vectors.shape[1] + 1), self.centre.dtype)
            for start in starts:
                rows = slice(start, min(start + self.rows, len(self.vectors)))
                block = buffer[: rows.stop - rows.start]
                np.subtract(self.vectors[rows], self.centre, out=block[:, :-1])
                parts = work(rows, block)
                sums = sums or [np.zeros(part.shape) for part in parts]
                for total, part in zip(sums, parts, strict=True):
                    total += part
            return sums

        shares = list(self.pool.map(share, self.shares))
        return [np.sum(parts, axis=0) for parts in zip(*shares, strict=True)]


def precision(vectors: np.ndarray) -> np.dtype:
    return np.dtype(np.float64 if vectors.dtype == np.float64 else np.float32)


def rough_mean(vectors: np.ndarray) -> np.ndarray:
    """(D,) float64, the mean of some rows spread over all."""
    spread = np.unique(np.linspace(0, len(vectors) - 1, CENTRE_ROWS).astype(int))
    centre: np.ndarray = vectors[spread].mean(axis=0, dtype=np.float64)
    check_finite(centre, vectors)
    return centre


def moments(blocks: Blocks, row_weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation, (F, D), of the rows of every fold; a constant column has deviation 1."""

    def work(rows: slice, block: np.ndarray) -> tuple[np.ndarray, ...]:
        weights = row_weights[:, rows].astype(block.dtype)
        return weights @ block, weights @ np.square(block)

    with np.errstate(over="ignore", invalid="ignore"):  # found and named just below
        first, second = blocks.each(work)
    check_finite(first + second, blocks.vectors)
    total = first[:, -1:]
    shift = first[:, :-1] / total
    variance = second[:, :-1] / total - np.square(shift)
    means = shift + blocks.centre
    # What rounding leaves of a constant column, as in scikit-learn's StandardScaler.
    noise = np.finfo(blocks.centre.dtype).eps * (np.square(shift) + np.square(blocks.centre)) * 10
    return means, np.where(variance > noise, np.sqrt(np.maximum(variance, 0)), 1.0)


def check_finite(sums: np.ndarray, vectors: np.ndarray) -> None:
    """Where sums of rows are not finite, name the first row that is to blame."""
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


@dataclass(frozen=True, eq=False)
class Losses:
    """The mean penalised losses of problems on a table: scikit-learn's, divided by the weight.

    `folds` (P,) and `penalties` (P,): the problem's fold, and 1 / (C x weight of all its rows).
    """

    table: Table
    blocks: Blocks
    folds: np.ndarray
    penalties: np.ndarray

    def evaluate(self, unknowns: np.ndarray, which: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Loss (A,) and gradient (A, O, D+1) of the problems `which`, (A,), in one reading."""
        table, folds = self.table, self.folds[which]
        weights = table.shared(unknowns, folds).astype(table.dtype)
        flat = weights.reshape(-1, weights.shape[-1])
        step = _binary if table.outputs == 1 else _softmax
        kinds, place = np.unique(folds, return_inverse=True)
        shares = (table.row_weights[kinds] / table.totals[kinds][:, None]).astype(table.dtype)

        def work(rows: slice, block: np.ndarray) -> tuple[np.ndarray, ...]:
            logits = (flat @ block.T).reshape(len(which), table.outputs, -1)
            loss = step(logits, table.codes[rows], shares[place, rows])
            return loss, logits.reshape(len(flat), -1) @ block

        loss, sums = self.blocks.each(work)
        gradient = table.own(sums.reshape(unknowns.shape), folds)
        if table.outputs > 1:
            # Nought but for rounding, which a weak penalty would let grow into a drift.
            gradient -= gradient.mean(axis=1, keepdims=True)
        penalty = self.penalties[which]
        gradient[..., :-1] += penalty[:, None, None] * unknowns[..., :-1]
        squares = np.einsum("pod,pod->p", unknowns[..., :-1], unknowns[..., :-1])
        return loss + penalty * squares / 2, gradient

    def variances(self, unknowns: np.ndarray, which: np.ndarray) -> np.ndarray:
        """(O, n) of p (1 - p) for every class and row, at the mean of models (A, O, D+1)."""
        table = self.table
        weights = table.shared(unknowns, self.folds[which]).mean(axis=0).astype(table.dtype)
        found = np.empty((table.outputs, len(table.vectors)), table.dtype)

        def work(rows: slice, block: np.ndarray) -> tuple[np.ndarray, ...]:
            logits = weights @ block.T
            if table.outputs == 1:
                logits = np.concatenate([np.zeros_like(logits), logits])
            shares = np.exp(logits - logits.max(axis=0))
            shares /= shares.sum(axis=0)
            found[:, rows] = (shares * (1 - shares))[: table.outputs]
            return ()

        self.blocks.each(work)
        return found


def _softmax(logits: np.ndarray, codes: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Loss (A,) of logits (A, K, b), which become the weighted residuals."""
    each = np.arange(len(codes))
    logits -= logits.max(axis=1, keepdims=True)
    right = logits[:, codes, each]
    np.exp(logits, out=logits)
    total = logits.sum(axis=1)
    loss: np.ndarray = np.einsum("ab,ab->a", weights, np.log(total) - right)
    logits *= (weights / total)[:, None]
    logits[:, codes, each] -= weights
    return loss


def _binary(logits: np.ndarray, codes: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Loss (A,) of logits (A, 1, b) of the second class, which become the weighted residuals."""
    logit = logits[:, 0]
    small = np.exp(-np.abs(logit))
    loss: np.ndarray = np.einsum(
        "ab,ab->a", weights, np.maximum(logit, 0) + np.log1p(small) - codes * logit
    )
    probability = np.where(logit >= 0, 1, small) / (1 + small)
    logits[:, 0] = weights * (probability - codes)
    return loss
