"""The learning curve: would more images help?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from featcache.evaluation.metrics import Interval
from featcache.features.features import Features
from featcache.features.splits.partition import units
from featcache.fitting.sweeping.candidates import interval_of, paired_interval_of
from featcache.fitting.sweeping.folds import Part, growing_subsets
from featcache.fitting.sweeping.grids import HeadSettings
from featcache.fitting.sweeping.tasks import FailedTask, Score, Side, Task, TaskOutcome, run_tasks

#: Shares of the training images that are tried: each doubles the last.
SHARES = (0.0625, 0.125, 0.25, 0.5, 1.0)


@dataclass(frozen=True, slots=True)
class Point:
    """The accuracy, and its 95 % interval, with some number of training images."""

    share: float
    images: int
    accuracy: float
    interval: Interval


@dataclass(frozen=True, slots=True)
class Gain:
    """What the last doubling brought: the accuracy with `images` less that with `fewer` of them.

    `interval` is its 95 % interval, paired: both were tried on the same rows.
    """

    fewer: int
    images: int
    difference: float
    interval: Interval

    @property
    def words(self) -> str:
        """Would more images help? As far as this tells."""
        low, high = self.interval
        verdict = "cannot be told"
        if low > 0:
            verdict = "likely, while the curve still rises"
        elif high < 0:
            verdict = "it does not look like it"
        return (
            f"{verdict}: from {self.fewer:,} to {self.images:,} images the accuracy changed by "
            f"{self.difference:+.4f} (95 % interval {low:+.4f} to {high:+.4f}, paired)"
        )


@dataclass(frozen=True, slots=True)
class LearningCurve:
    """The points, fewest images first; the gain of the last two; what was left out."""

    points: list[Point] = field(default_factory=list)
    gain: Gain | None = None
    remarks: list[str] = field(default_factory=list)


def measure_learning_curve(
    features: Features,
    parts: Sequence[Part],
    *,
    head: str,
    settings: HeadSettings,
    seed: int = 0,
    jobs: int | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> LearningCurve:
    """Fit a head with growing shares of each part's training images.

    Every larger share holds the smaller ones; each is tried on all rows that the part judges on.
    `parts` number the rows of `features`. Sizes that the head cannot be fitted on are left out,
    with a remark.
    """
    sizes = _sizes(features, parts)
    say(f"learning curve: {len(sizes)} sizes, {len(parts) * len(sizes)} fits")
    tasks = [
        Task(
            features.path, features.identity, head, [settings], Side.of(features, subset),
            Side.of(features, part.judged), seed,
        )
        for size in sizes
        for part, subset in zip(parts, size.subsets, strict=True)
    ]  # fmt: skip
    outcomes = [each[0] for each in run_tasks(tasks, jobs, say)]
    unit = units(features.keys, features.groups)
    tried = [outcomes[place : place + len(parts)] for place in range(0, len(outcomes), len(parts))]
    return _curve(sizes, tried, [unit[part.judged] for part in parts])


@dataclass(frozen=True, slots=True, eq=False)
class _Size:
    """A share, the rows of each part's subset of it, and their images (mean over the parts)."""

    share: float
    subsets: list[np.ndarray]
    images: int


def _sizes(features: Features, parts: Sequence[Part]) -> list[_Size]:
    """The sizes that differ: in small data, small shares are the same two images of each class."""
    by_part = [_subsets(features, part) for part in parts]
    sizes: list[_Size] = []
    for share, subsets in zip(SHARES, zip(*by_part, strict=True), strict=True):
        counts = [int((features.views[subset] == 0).sum()) for subset in subsets]
        size = _Size(share, list(subsets), round(np.mean(counts)))
        if sizes and sizes[-1].images == size.images:
            sizes.pop()
        sizes.append(size)
    return sizes


def _subsets(features: Features, part: Part) -> list[np.ndarray]:
    train = features[part.train]
    return [
        part.train[mask] for mask in growing_subsets(train.labels, train.keys, train.groups, SHARES)
    ]


def _curve(
    sizes: list[_Size], tried: list[list[TaskOutcome]], unit: list[np.ndarray]
) -> LearningCurve:
    """The curve from the outcomes of every part at every size; `unit`: of the parts' rows."""
    points, remarks, rights = [], [], []
    for size, outcomes in zip(sizes, tried, strict=True):
        failures = [each.reason for each in outcomes if isinstance(each, FailedTask)]
        if failures:
            remarks.append(f"learning curve: not with {size.images:,} images: {failures[0]}")
            continue
        right = [each.right for each in outcomes if isinstance(each, Score)]
        mean = float(np.concatenate(right).mean())
        points.append(Point(size.share, size.images, mean, interval_of(right, unit)))
        rights.append(right)
    gain = None
    if len(points) > 1:
        fewer, most = points[-2:]
        gain = Gain(
            fewer=fewer.images,
            images=most.images,
            difference=most.accuracy - fewer.accuracy,
            interval=paired_interval_of(rights[-1], rights[-2], unit),
        )
    return LearningCurve(points, gain, remarks)
