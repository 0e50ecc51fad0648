"""The logistic losses of many problems on one matrix: it is read once for all of them.

A problem is a strength of penalty and a fold. Its unknowns are (outputs, width + 1) numbers: the
coefficients of the standardised vectors, and the intercept last. With two classes there is one
output, as in scikit-learn; with more there is one a class.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from featcache.heads.logistic.blocks import Blocks
from featcache.heads.logistic.table import Table


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
            # Zero but for rounding, which a weak penalty would let grow into a drift.
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
