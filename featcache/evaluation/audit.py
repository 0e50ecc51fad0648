"""Audit: what an existing split leaks, and what accuracy is without it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from featcache.errors import FeatcacheError
from featcache.evaluation import metrics
from featcache.evaluation.evaluate import answers_of, prefixes
from featcache.evaluation.report import plain_data
from featcache.features.features import Features
from featcache.features.splits.division import twins
from featcache.features.splits.duplicates import NEAR, Pairs, reduced_of
from featcache.features.splits.partition import units
from featcache.heads.head import Head
from featcache.images.layout import SPLITS

#: Leaks that are listed, of each kind.
LISTED = 10
#: Judged rows compared with training rows at a time, by the probe.
_BLOCK = 1024


@dataclass(frozen=True, slots=True)
class Leak:
    """An image of a later split and the one of an earlier split that gives it away.

    `kind` is "same bytes", "near duplicate" or "group"; `similarity` is their cosine, or None.
    """

    kind: str
    image: str
    split: str
    other: str
    other_split: str
    similarity: float | None = None


@dataclass(frozen=True, slots=True)
class Cleaned:
    """Accuracy on a split as it is, and on those of its images that leak nothing.

    `judge` says what was judged: a head, or the nearest training image as a probe.
    """

    judge: str
    split: str
    rows: int
    accuracy: float
    interval: metrics.Interval
    clean_rows: int
    clean_accuracy: float | None
    clean_interval: metrics.Interval | None


@dataclass(frozen=True, slots=True)
class Audit:
    """What a split leaks.

    Attributes
    ----------
    images: how many each split has.
    same_bytes, near_duplicates, shared_groups: images of a later split that have a partner of
        that kind in an earlier one (train, validation, test); "near" has other bytes.
    leaking: images that any of the three is true of.
    leaks: the first ones of each kind, near duplicates from the most similar down.
    cleaned: accuracy with and without the images that leak from the training split; None where
        there is nothing to judge (no labels, one class).
    """

    images: dict[str, int]
    same_bytes: int
    near_duplicates: int
    shared_groups: int
    leaking: int
    leaks: list[Leak]
    cleaned: Cleaned | None
    remarks: list[str]

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as JSON gives it back."""
        return plain_data(self)


def audit(
    features: Features,
    splits: np.ndarray,
    *,
    near: float | None = NEAR,
    head: Head | None = None,
) -> Audit:
    """How many images of the later splits are given away by earlier ones.

    Parameters
    ----------
    splits: (R,) "train", "validation", "test" or "" (left out).
    near: cosine from which images are near duplicates; None: do not look.
    head: judged with and without the leaking images; None: the nearest training image, which
        gains more from a leak than any head.

    Raises `FeatcacheError` where the rows are not on two sides at least.
    """
    features.check_any()
    kept = np.flatnonzero((features.views == 0) & (splits != ""))
    rows, side = features[kept], _sides(features, splits[kept])
    pairs = twins(features, near, kept)
    # From row numbers of the features to places among the rows kept.
    pairs = Pairs(np.searchsorted(kept, pairs.rows), pairs.similarity)
    kinds = {
        "same bytes": _partners(rows.keys, side),
        "near duplicate": _twin_partners(rows.keys, side, pairs),
        "group": _partners(rows.groups, side, none=""),
    }
    counts = {kind: int((partner >= 0).sum()) for kind, partner in kinds.items()}
    cleaned, remarks = _cleaned(features, kept, side, kinds, head)
    return Audit(
        images={name: int((side == code).sum()) for code, name in enumerate(SPLITS)},
        same_bytes=counts["same bytes"],
        near_duplicates=counts["near duplicate"],
        shared_groups=counts["group"],
        leaking=int(_leaking(kinds).sum()),
        leaks=_leaks(rows, side, kinds, pairs),
        cleaned=cleaned,
        remarks=remarks,
    )


def _leaking(kinds: dict[str, np.ndarray]) -> np.ndarray:
    """Which rows have a partner of any kind on an earlier side."""
    leaking: np.ndarray = np.any([partner >= 0 for partner in kinds.values()], axis=0)
    return leaking


def _leaks(
    rows: Features, side: np.ndarray, kinds: dict[str, np.ndarray], pairs: Pairs
) -> list[Leak]:
    """The first leaks of each kind."""
    alike = zip(pairs.rows.tolist(), pairs.similarity.tolist(), strict=True)
    similarity = {tuple(pair): value for pair, value in alike}
    return [
        leak
        for kind, partner in kinds.items()
        for leak in _listed(kind, rows, side, partner, similarity)
    ]


def _sides(features: Features, splits: np.ndarray) -> np.ndarray:
    """0, 1, 2 for train, validation, test."""
    names = sorted(set(splits.tolist()))
    if len(names) < 2:
        raise FeatcacheError(
            f"{features.path.parent.name}: there is no split to audit "
            f"({f'all images are in {names[0]!r}' if names else 'no image is in one'}): "
            f"--splits-from FILE.csv gives one, `featcache split` without --audit makes one"
        )
    return np.array([SPLITS.index(split) for split in splits.tolist()])


def _partners(names: np.ndarray, side: np.ndarray, *, none: str | None = None) -> np.ndarray:
    """For each row the first row of the same name on the earliest side, -1 if that is its own."""
    _, name = np.unique(names, return_inverse=True)
    order = np.lexsort((np.arange(len(side)), side, name))
    first = order[np.unique(name[order], return_index=True)[1]]
    partner = first[name]
    leaks = side[partner] < side
    if none is not None:
        leaks &= names != none
    return np.where(leaks, partner, -1)


def _twin_partners(keys: np.ndarray, side: np.ndarray, pairs: Pairs) -> np.ndarray:
    """For each row its most similar near duplicate on an earlier side, or -1.

    Pairs name one row for each content; copies of it elsewhere count as well.
    """
    _, content = np.unique(keys, return_inverse=True)
    order = np.lexsort((side, content))
    starts = np.searchsorted(content[order], np.arange(content.max() + 2))
    partner = np.full(len(side), -1)
    best = np.full(len(side), -1.0)
    for (one, two), value in zip(pairs.rows.tolist(), pairs.similarity.tolist(), strict=True):
        for mine, theirs in ((one, two), (two, one)):
            earliest = order[starts[content[theirs]]]
            for row in order[starts[content[mine]] : starts[content[mine] + 1]]:
                if side[earliest] < side[row] and value > best[row]:
                    partner[row], best[row] = earliest, value
    return partner


def _listed(
    kind: str,
    rows: Features,
    side: np.ndarray,
    partner: np.ndarray,
    similarity: dict[Any, float],
) -> list[Leak]:
    found = np.flatnonzero(partner >= 0).tolist()
    alike = {row: similarity.get((min(row, partner[row]), max(row, partner[row])))
             for row in found}  # fmt: skip
    found.sort(key=lambda row: (-(alike[row] or 0.0), row))
    return [
        Leak(
            kind=kind,
            image=str(rows.names[row]),
            split=SPLITS[side[row]],
            other=str(rows.names[partner[row]]),
            other_split=SPLITS[side[partner[row]]],
            similarity=alike[row],
        )
        for row in found[:LISTED]
    ]


def _cleaned(
    features: Features,
    kept: np.ndarray,
    side: np.ndarray,
    kinds: dict[str, np.ndarray],
    head: Head | None,
) -> tuple[Cleaned | None, list[str]]:
    """Accuracy on the last split there is, with and without the images that leak."""
    rows = features[kept]
    last = int(side.max())
    judged = np.flatnonzero((side == last) & (rows.labels != ""))
    trained = np.flatnonzero((side == 0) & (rows.labels != ""))
    leaking = _leaking(kinds)[judged]
    if not len(judged) or (head is None and len(set(rows.labels[trained].tolist())) < 2):
        return None, ["no accuracy is given: it takes labels on both sides, of two classes"]
    remarks = []
    if head is None:
        name = "the nearest training image (a probe; --head judges a head)"
        reduced, _ = reduced_of(features.vectors_of(kept), kept)
        correct = _nearest_is_right(reduced, rows.labels, trained, judged)
    else:
        name = str(head.path or head.kind)
        answers = answers_of(head, rows[judged])
        correct = answers.correct
        seen = np.isin(prefixes(rows.keys[judged]), head.trained_on) & ~leaking
        if seen.any():
            remarks.append(
                f"the head was trained on {int(seen.sum())} more images of the {SPLITS[last]} "
                f"split: it was fitted with another split; they count as leaking"
            )
            leaking |= seen
    unit = units(rows.keys[judged], rows.groups[judged])
    return _figures(name, SPLITS[last], correct, leaking, unit), remarks


def _figures(
    judge: str, split: str, correct: np.ndarray, leaking: np.ndarray, unit: np.ndarray
) -> Cleaned:
    clean = ~leaking
    return Cleaned(
        judge=judge,
        split=split,
        rows=len(correct),
        accuracy=float(correct.mean()),
        interval=metrics.accuracy_interval(correct, unit),
        clean_rows=int(clean.sum()),
        clean_accuracy=float(correct[clean].mean()) if clean.any() else None,
        clean_interval=metrics.accuracy_interval(correct[clean], unit[clean])
        if clean.any()
        else None,
    )


def _nearest_is_right(
    reduced: np.ndarray, labels: np.ndarray, trained: np.ndarray, judged: np.ndarray
) -> np.ndarray:
    """Whether the nearest training row, along a few directions, has the judged row's label."""
    known = reduced[trained]
    halves = (known**2).sum(axis=1) / 2
    nearest = [
        (reduced[judged[start : start + _BLOCK]] @ known.T - halves).argmax(axis=1)
        for start in range(0, len(judged), _BLOCK)
    ]
    right: np.ndarray = labels[trained][np.concatenate(nearest)] == labels[judged]
    return right
