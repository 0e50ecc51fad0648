"""The learning curve: would more images help?"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from featcache.features import Features
from featcache.metrics import Interval
from featcache.sweeping.folds import grow
from featcache.sweeping.grids import Settings
from featcache.sweeping.intervals import interval_of
from featcache.sweeping.plan import Part
from featcache.sweeping.scoring import run_tasks
from featcache.sweeping.tasks import Side, Task

#: Shares of the training images that are tried.
SHARES = (0.1, 0.2, 0.4, 0.7, 1.0)


@dataclass(frozen=True, slots=True)
class Point:
    """The accuracy, and its 95 % interval, with some number of training images."""

    share: float
    images: int
    accuracy: float
    interval: Interval


def measure_learning_curve(
    features: Features,
    parts: Sequence[Part],
    *,
    head: str,
    settings: Settings,
    seed: int = 0,
    jobs: int | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> list[Point]:
    """Fit a head with growing shares of each part's training images.

    Every larger share holds the smaller ones; each is tried on all rows that the part judges on.
    `parts` number the rows of `features`.
    """
    subsets = [_subsets(features, part) for part in parts]
    say(f"learning curve: {len(SHARES)} sizes, {len(parts) * len(SHARES)} fits")
    tasks = [
        Task(
            features.path, head, [settings], Side.of(features, subset),
            Side.of(features, part.judged), seed,
        )
        for part, sizes in zip(parts, subsets, strict=True)
        for subset in sizes
    ]  # fmt: skip
    scores = [each[0].right for each in run_tasks(tasks, jobs, say)]
    points = []
    for place, share in enumerate(SHARES):
        folds = scores[place :: len(SHARES)]
        rows = [features[sizes[place]] for sizes in subsets]
        points.append(
            Point(
                share=share,
                images=round(np.mean([int((each.views == 0).sum()) for each in rows])),
                accuracy=float(np.concatenate(folds).mean()),
                interval=interval_of(folds),
            )
        )
    return points


def gain_of_doubling(points: Sequence[Point]) -> float:
    """What twice the images brought lately: the slope of the last three points, by log2 of images.

    It flattens: the next doubling brings rather less.
    """
    last = points[-3:]
    sizes = [math.log2(max(1, point.images)) for point in last]
    if len(set(sizes)) < 2:
        return 0.0
    return float(np.polyfit(sizes, [point.accuracy for point in last], 1)[0])


def _subsets(features: Features, part: Part) -> list[np.ndarray]:
    train = features[part.train]
    return [part.train[mask] for mask in grow(train.labels, train.keys, train.groups, SHARES)]
