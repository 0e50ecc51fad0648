"""Splits that do not leak: decided by the hash of an image's bytes, so stable and order-free."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from featcache.errors import FeatcacheError

SPLITS = ("train", "validation", "test")
_ALIASES = {"valid": "validation", "val": "validation", "training": "train", "testing": "test"}


@dataclass(frozen=True, slots=True)
class Carve:
    """Turn a fraction of one split into the test split: ``--test-from validation:0.2``.

    An image's side depends on its bytes alone: it stays when images are added or renamed, and
    two copies of one image never part.
    """

    source: str
    fraction: float

    @classmethod
    def parse(cls, text: str) -> Carve:
        """Read "SPLIT:FRACTION"; raises `FeatcacheError` where it is not that."""
        source, _, fraction = text.partition(":")
        source = _ALIASES.get(source.lower(), source.lower())
        try:
            share = float(fraction)
        except ValueError:
            share = 0.0
        if source not in ("train", "validation") or not 0 < share < 1:
            raise FeatcacheError(
                f"--test-from {text!r}: expected a split and a fraction between 0 and 1, "
                f"such as validation:0.2 or train:0.1"
            )
        return cls(source, share)

    def apply(self, splits: list[str], keys: list[str]) -> list[str]:
        """The splits after carving, given each row's split and the key of its image.

        Raises `FeatcacheError` where no row is in the source split.
        """
        if self.source not in splits:
            there = ", ".join(sorted(set(splits) - {""})) or "none"
            raise FeatcacheError(
                f"--test-from {self.source}:{self.fraction}: no image is in the split "
                f"{self.source!r} (splits here: {there})"
            )
        return [
            "test" if split == self.source and uniform(key, "carve") < self.fraction else split
            for split, key in zip(splits, keys, strict=True)
        ]


def uniform(key: str, purpose: str) -> float:
    """A number in [0, 1) that depends on nothing but the key and the purpose."""
    digest = hashlib.sha256(f"{purpose}:{key}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def units(keys: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """What must stay on one side: rows of one group, or of one image's bytes. (R,) integers.

    A group and the copies of its images hold together in chains: connected components.
    """
    _, by_key = np.unique(keys, return_inverse=True)
    if not np.any(groups != ""):
        return by_key
    names = np.where(groups == "", np.strings.add("\x00", keys.astype(str)), groups)
    _, by_group = np.unique(names, return_inverse=True)
    return _components(by_key, by_group)


def _components(by_key: np.ndarray, by_group: np.ndarray) -> np.ndarray:
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    size = int(by_key.max()) + 1
    nodes = size + int(by_group.max()) + 1
    edges = coo_array((np.ones(len(by_key)), (by_key, size + by_group)), shape=(nodes, nodes))
    component: np.ndarray
    _, component = connected_components(edges, directed=False)
    units: np.ndarray = component[by_key]
    return units


def holdout(
    labels: np.ndarray, keys: np.ndarray, groups: np.ndarray, fraction: float, seed: int = 0
) -> np.ndarray:
    """A boolean mask of held-out rows, about `fraction` of each class, no unit on two sides.

    Inside each class the units are ordered by a hash of their smallest key and the first ones
    are taken, so the choice does not depend on row order, names or folders.
    """
    unit = units(keys, groups)
    first_keys: dict[int, str] = {}
    first_labels: dict[int, str] = {}
    for row in np.lexsort((labels, keys)).tolist():
        if int(unit[row]) not in first_keys:
            first_keys[int(unit[row])] = str(keys[row])
            first_labels[int(unit[row])] = str(labels[row])
    sizes = np.bincount(unit)
    held: set[int] = set()
    for label in sorted(set(first_labels.values())):
        members = [number for number, name in first_labels.items() if name == label]
        members.sort(key=lambda number: uniform(first_keys[number], f"holdout{seed}"))
        held |= _take(members, sizes, fraction)
    return np.isin(unit, list(held))


def _take(members: list[int], sizes: np.ndarray, fraction: float) -> set[int]:
    """The first units that together make up the fraction; never all of them."""
    wanted = fraction * sum(int(sizes[number]) for number in members)
    taken: set[int] = set()
    rows = 0
    for number in members[:-1]:
        if rows + sizes[number] / 2 > wanted:
            break
        taken.add(number)
        rows += int(sizes[number])
    return taken
