"""Near duplicates: images whose vectors point almost the same way.

The similarity is the cosine of the vectors as they are, a property of the two images alone: it
does not change when images are added. Two vectors of length 1 lie sqrt(2 - 2 cosine) apart, and
no projection can move them further apart: so a few of the directions in which the vectors differ
most are enough to exclude almost every pair, none wrongly, and only the others are looked at.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from featcache.errors import FeatcacheError

#: Above this, images are near duplicates; docs/judging.md tells what it was measured on.
NEAR = 0.98
#: Directions kept to exclude pairs, and rows they are found from.
DIRECTIONS, SAMPLE = 48, 4096
#: So many numbers are compared as they are: finding directions would take longer.
SMALL = 4_000_000
#: Rows compared with rows at a time, and rows read from the file at a time.
BLOCK, READ = 2048, 8192
#: More pairs than this tell nothing but that the threshold is too low.
MOST = 2_000_000


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs of rows: `rows` (m, 2) with the smaller number first, `similarity` (m,) float32."""

    rows: np.ndarray
    similarity: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)


def near_pairs(
    vectors: np.ndarray,
    threshold: float = NEAR,
    *,
    among: np.ndarray | None = None,
    looks: int | None = None,
) -> Pairs:
    """All pairs of rows whose cosine is at least `threshold`, in the order of the rows.

    `among` are the rows to look at, in ascending order; None: all. Works on memory maps: of n
    vectors it holds n x `DIRECTIONS` numbers. Rows of zeros, or of numbers that are not finite,
    are near nothing.

    Raises `FeatcacheError` for a threshold out of (0, 1], or one so low that there are millions
    of pairs, or more than `looks` whose vectors would have to be read.
    """
    if not 0 < threshold <= 1:
        raise FeatcacheError(f"--near {threshold:g}: expected a cosine above 0 and up to 1")
    among = np.arange(len(vectors)) if among is None else among
    reduced, lengths = reduced_of(vectors, among)
    found: list[tuple[np.ndarray, np.ndarray]] = []
    count = looked = 0
    for rows in _candidates(reduced, threshold):
        looked += len(rows)
        if looks is not None and looked > looks:
            raise FeatcacheError(f"--near {threshold:g}: more than {looks:,} pairs to look at")
        similarity = _cosines(vectors, among, lengths, rows)
        # Rounding: copies come out at 1 - 1e-7.
        near = similarity >= threshold - 1e-6
        found.append((rows[near], similarity[near]))
        count += int(near.sum())
        if count > MOST:
            raise FeatcacheError(
                f"--near {threshold:g}: more than {MOST:,} pairs of images are as similar as that: "
                f"give a higher one, or --no-near (to an untrained network everything looks alike)"
            )
    pairs = np.concatenate([np.empty((0, 2), np.int64), *(rows for rows, _ in found)])
    similarity = np.concatenate([np.empty(0, np.float32), *(values for _, values in found)])
    order = np.lexsort(pairs.T[::-1])
    return Pairs(among[pairs[order]], similarity[order])


def reduced_of(vectors: np.ndarray, among: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows as unit vectors along the directions in which a sample varies most; their lengths.

    Where there are few numbers, the unit vectors as they are.
    """
    if len(among) * vectors.shape[1] <= SMALL:
        return _unit(vectors[among])
    directions = _directions(_unit(vectors[among[:: -(-len(among) // SAMPLE)]])[0])
    reduced = np.empty((len(among), directions.shape[1]), np.float32)
    lengths = np.empty(len(among), np.float32)
    for start in range(0, len(among), READ):
        stop = start + READ
        unit, lengths[start:stop] = _unit(vectors[among[start:stop]])
        reduced[start:stop] = unit @ directions
    return reduced, lengths


def _directions(sample: np.ndarray) -> np.ndarray:
    """About the first principal directions, (D, `DIRECTIONS`), by subspace iteration.

    That they are about right costs a little time at most: orthonormal is what they must be.
    """
    width = sample.shape[1]
    directions = np.random.default_rng(0).standard_normal((width, min(width, DIRECTIONS)))
    centred = sample - sample.mean(axis=0)
    for _ in range(2):
        directions = centred.T @ (centred @ directions.astype(np.float32))
        directions /= np.abs(directions).max() + np.float32(1e-30)
    return np.linalg.qr(directions.astype(np.float64))[0].astype(np.float32)


def _unit(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    rows = rows.astype(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        lengths = np.sqrt((rows**2).sum(axis=1))
    wrong = ~np.isfinite(lengths)
    rows[wrong], lengths[wrong] = 0, 0
    return rows / np.maximum(lengths, 1e-30)[:, np.newaxis], lengths


def _candidates(reduced: np.ndarray, threshold: float) -> Iterator[np.ndarray]:
    """Pairs (m, 2), first row before second, that lie near enough along the directions kept."""
    halves = (reduced**2).sum(axis=1) / 2
    # Distance² <= 2 - 2 cosine, as one product: a·b - |a|²/2 - |b|²/2 >= cosine - 1.
    ones = np.ones_like(halves)
    left = np.column_stack([reduced, -halves, ones])
    right = np.column_stack([reduced, ones, -halves])
    for start in range(0, len(left), BLOCK):
        mine = left[start : start + BLOCK]
        for other in range(start, len(left), BLOCK):
            product = mine @ right[other : other + BLOCK].T
            found = np.flatnonzero(product >= threshold - 1 - 1e-5)
            row, column = np.divmod(found, product.shape[1])
            near = np.column_stack([start + row, other + column])
            near = near[near[:, 0] < near[:, 1]]
            for place in range(0, len(near), BLOCK):
                yield near[place : place + BLOCK]


def _cosines(
    vectors: np.ndarray, among: np.ndarray, lengths: np.ndarray, rows: np.ndarray
) -> np.ndarray:
    """The cosines of pairs of rows, read from the vectors; 0 where one is a row of zeros."""
    # Each row is read once, in the order of the file.
    wanted, place = np.unique(rows, return_inverse=True)
    read = vectors[among[wanted]].astype(np.float32)
    first, second = place.reshape(rows.shape).T
    products = np.einsum("ij,ij->i", read[first], read[second])
    scale = lengths[rows[:, 0]] * lengths[rows[:, 1]]
    cosines: np.ndarray = np.where(scale > 0, products / np.maximum(scale, 1e-30), 0)
    return cosines.astype(np.float32)
