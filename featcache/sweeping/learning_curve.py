"""The learning curve: would more images help?"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from featcache.features import Features
from featcache.sweeping.folds import grow
from featcache.sweeping.intervals import Interval, interval_of
from featcache.sweeping.plan import Part
from featcache.sweeping.scoring import Task, run_tasks

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
    task: Task,
    *,
    jobs: int | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> list[Point]:
    """Fit with growing shares of each part's training images; every larger one holds the smaller.

    Parameters
    ----------
    features: the rows that `parts` number.
    task: the head and its settings, and in `train` the numbers of `features`' rows in their file.
    """
    subsets = [_subsets(features, part) for part in parts]
    say(f"learning curve: {len(SHARES)} sizes, {len(parts) * len(SHARES)} fits")
    tasks = [
        replace(task, train=task.train[subset], judged=task.train[part.judged])
        for part, sizes in zip(parts, subsets, strict=True)
        for subset in sizes
    ]
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
