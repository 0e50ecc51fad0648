"""Folds and subsets that never tear a unit: the views and copies of an image, or a group."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from featcache.features.splits.partition import uniform, units


def deal(labels: np.ndarray, keys: np.ndarray, unit: np.ndarray, folds: int) -> np.ndarray:
    """The fold of each row, (R,) int: about the same rows of every class in each.

    Rows of one `unit` share a fold. Decided by hashes of the images' bytes, whatever the order of
    the rows. The largest units go first, each to the fold that has fewest rows of its class.
    """
    classes, codes = np.unique(labels, return_inverse=True)
    filled = np.zeros((folds, len(classes)), dtype=np.int64)
    fold_of = np.empty(int(unit.max()) + 1, dtype=np.int64)
    sizes = np.bincount(unit)
    for number, code in _ordered(unit, codes, keys, "fold", by_size=True):
        # Ties go to the fold with the fewest rows of all classes, then to the first one.
        fold = min(range(folds), key=lambda each: (filled[each, code], filled[each].sum()))
        filled[fold, code] += sizes[number]
        fold_of[number] = fold
    dealt: np.ndarray = fold_of[unit]
    return dealt


def growing_subsets(
    labels: np.ndarray, keys: np.ndarray, groups: np.ndarray, shares: Sequence[float]
) -> list[np.ndarray]:
    """Masks of growing subsets of the rows, with that share of every class and at least two units.

    A smaller subset is a part of every larger one.
    """
    unit = units(keys, groups)
    _, codes = np.unique(labels, return_inverse=True)
    rank = np.empty(int(unit.max()) + 1)
    members: dict[int, list[int]] = {}
    for number, code in _ordered(unit, codes, keys, "grow", by_size=False):
        members.setdefault(code, []).append(number)
    for numbers in members.values():
        # The k-th of n is in every share above k/n; the first two are in all of them.
        rank[numbers] = np.arange(len(numbers)) / len(numbers)
        rank[numbers[:2]] = 0.0
    return [rank[unit] < share for share in shares]


def _ordered(
    unit: np.ndarray, codes: np.ndarray, keys: np.ndarray, purpose: str, *, by_size: bool
) -> list[tuple[int, int]]:
    """The units and the class of each, ordered by a hash of its smallest key."""
    order = np.lexsort((codes, keys))
    numbers, first = np.unique(unit[order], return_index=True)
    rows = order[first]
    sizes = np.bincount(unit)
    found = [
        (-int(sizes[number]) if by_size else 0, uniform(str(keys[row]), purpose), number, row)
        for number, row in zip(numbers.tolist(), rows.tolist(), strict=True)
    ]
    return [(number, int(codes[row])) for *_, number, row in sorted(found)]
