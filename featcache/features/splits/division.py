"""Splitting: which images train, which validate, which test, so that nothing leaks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from featcache.errors import FeatcacheError
from featcache.features.features import Features
from featcache.features.splits.duplicates import NEAR, Pairs, near_pairs
from featcache.features.splits.partition import SPLITS, Shares, marks, partition, units

#: Images named in a sentence.
_SHOWN = 3


@dataclass(frozen=True, eq=False)
class Division:
    """Which split each row belongs to, and what there is to say about it.

    Attributes
    ----------
    splits: (R,) "train", "validation" or "test".
    pairs: near duplicates, as row numbers; they are on one side.
    conflicts: one sentence for each lot of images that belong together and stood on two sides.
    """

    splits: np.ndarray
    pairs: Pairs
    conflicts: list[str]
    remarks: list[str]

    def named_pairs(self, features: Features) -> list[dict[str, Any]]:
        """The near duplicates by name, the most similar first."""
        order = np.argsort(-self.pairs.similarity, kind="stable")
        names = features.names[self.pairs.rows[order]].tolist()
        values = self.pairs.similarity[order].tolist()
        return [
            {"image": one, "other": two, "similarity": value}
            for (one, two), value in zip(names, values, strict=True)
        ]


def divide(
    features: Features,
    shares: Shares,
    *,
    seed: int = 0,
    near: float | None = NEAR,
    former: np.ndarray | None = None,
) -> Division:
    """Split the images by the hash of their bytes, the shares being those of each class.

    Copies, near duplicates (cosine of at least `near`; None: do not look) and images of a group
    are never parted. Where `former` has a split ("" = new image), it stays, and new images join
    those they belong to, or fill up what their class lacks of its shares; where images that belong
    together stood on two sides, all of them train: an image that has trained a head must not judge
    the next one.

    Raises `FeatcacheError` where there are too few images for the shares.
    """
    pairs = twins(features, near)
    unit = units(features.keys, features.groups, twins=pairs.rows)
    _, unit = np.unique(unit, return_inverse=True)
    conflicts: list[str] = []
    stays = None
    if former is not None:
        stays, conflicts = _continued(features, unit, former)
    splits = _partitioned(features, unit, shares, seed, stays)
    _check(features, splits, shares)
    return Division(splits, pairs, conflicts, _remarks(features, splits, unit, pairs))


def shares_of_splits(features: Features, splits: np.ndarray) -> Shares:
    """The shares of a split that was made, in hundredths, to go on with; a fifth where none tests.

    Not to the last digit: the shares of a split that grows in many steps would drift.
    """
    images = splits[(features.views == 0) & (splits != "")]
    counts = [int((images == name).sum()) for name in ("test", "validation")]
    test, validation = (
        round(share, 2) or share for share in np.divide(counts, max(len(images), 1))
    )
    return Shares(float(test), float(validation)) if 0 < test + validation < 1 else Shares()


def twins(
    features: Features,
    near: float | None,
    among: np.ndarray | None = None,
    *,
    looks: int | None = None,
) -> Pairs:
    """Near duplicates with different bytes among the plain images (of the rows `among`).

    Raises `FeatcacheError` where there are millions, or more than `looks` pairs to look at.
    """
    if near is None:
        return Pairs(np.empty((0, 2), np.int64), np.empty(0, np.float32))
    plain = np.flatnonzero(features.views == 0) if among is None else among
    first = plain[np.sort(np.unique(features.keys[plain], return_index=True)[1])]
    return near_pairs(features.vectors_of(first), near, among=first, looks=looks)


def _partitioned(
    features: Features, unit: np.ndarray, shares: Shares, seed: int, stays: np.ndarray | None
) -> np.ndarray:
    """The split of each row, every image counting once, however many views there are of it."""
    image = np.unique(features.names, return_index=True)[1]
    rows = features[image]
    of_unit = np.empty(int(unit.max()) + 1, dtype="<U10")
    of_unit[unit[image]] = partition(
        rows.labels,
        unit[image],
        marks(rows.keys, rows.groups),
        shares,
        seed,
        None if stays is None else stays[image],
    )
    splits: np.ndarray = of_unit[unit]
    return splits


def _continued(
    features: Features, unit: np.ndarray, former: np.ndarray
) -> tuple[np.ndarray, list[str]]:
    """The former split of each row's unit, "" where all of it is new; and where it had two."""
    side = np.array([SPLITS.index(split) if split else len(SPLITS) for split in former.tolist()])
    least = np.full(int(unit.max()) + 1, len(SPLITS))
    np.minimum.at(least, unit, side)
    parted = np.unique(unit[(former != "") & (side != least[unit])])
    sentences = [_conflict(features, np.flatnonzero(unit == one), former) for one in parted]
    return np.array([*SPLITS, ""], dtype="<U10")[least[unit]], sentences


def _conflict(features: Features, rows: np.ndarray, former: np.ndarray) -> str:
    rows = rows[features.views[rows] == 0]
    names = [str(features.names[rows[former[rows] == split]][0])
             for split in SPLITS if (former[rows] == split).any()]  # fmt: skip
    sides = [split for split in SPLITS if (former[rows] == split).any()]
    stood = " and ".join(f"{name} ({side})" for name, side in zip(names, sides, strict=True))
    new = features.names[rows[former[rows] == ""]].tolist()
    joined = f", joined by {', '.join(new[:_SHOWN])}" if new else ""
    return f"{len(rows)} images belong together and stood on {len(sides)} sides: {stood}{joined}"


def _check(features: Features, splits: np.ndarray, shares: Shares) -> None:
    for name, share in (("test", shares.test), ("validation", shares.validation)):
        if share and not (splits == name).any():
            raise FeatcacheError(
                f"--{name} {share:g} of {len(set(features.keys.tolist()))} images in "
                f"{len(features.classes)} classes leaves none for the {name} split: give more "
                f"images of each class, or a larger share"
            )


def _remarks(features: Features, splits: np.ndarray, unit: np.ndarray, pairs: Pairs) -> list[str]:
    remarks = []
    if len(pairs):
        remarks.append(f"{len(pairs)} pairs of near duplicates are kept on one side")
    sizes = np.bincount(unit[features.views == 0])
    if sizes.max() > max(0.05 * sizes.sum(), 2) and len(sizes) > 1:
        remarks.append(
            f"{sizes.max()} of {sizes.sum()} images belong together and stay on one side: the "
            f"shares are rough"
        )
    for name in SPLITS:
        there = set(features.labels[splits == name].tolist())
        lacking = [label for label in features.classes if label not in there]
        if lacking and (splits == name).any():
            remarks.append(
                f"the {name} split lacks {len(lacking)} of {len(features.classes)} classes "
                f"({', '.join(lacking[:_SHOWN])}): they have too few images, or groups"
            )
    return remarks
