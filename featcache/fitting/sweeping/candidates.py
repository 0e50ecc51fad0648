"""Candidates: the rows of a sweep's table, fitted ones and those that could not be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from featcache.evaluation.metrics import Interval
from featcache.features.features import Features
from featcache.fitting.sweeping.grids import HeadSettings, label_of
from featcache.fitting.sweeping.intervals import interval_of
from featcache.fitting.sweeping.tasks_ import Score


@dataclass(frozen=True, slots=True)
class Contender:
    """A candidate before it has a score: which of the taps, which head, which settings."""

    tap: int
    head: str
    settings: HeadSettings


@dataclass(frozen=True, slots=True)
class Candidate:
    """One row of the table: a head with its settings on one file of features.

    Attributes
    ----------
    features, tap: the data set and backbone, and the layer; `path` is their file.
    accuracy, interval: on rows that did not train it, and the 95 % interval.
    seconds: of one fit, median.
    width: numbers in a vector.
    size: bytes of the fitted head's arrays, mean; of `knn`, which keeps its vectors, as many as it
        had rows in a fold.
    """

    features: str
    path: Path
    head: str
    settings: HeadSettings
    accuracy: float
    interval: Interval
    seconds: float
    width: int
    size: int = 0
    tap: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return {**asdict(self), "path": str(self.path)}

    @property
    def label(self) -> str:
        """What tells it from the others: head and settings."""
        return label_of(self.head, self.settings)


@dataclass(frozen=True, slots=True)
class NotFitted:
    """A head with settings that could not be fitted on a file of features, and why."""

    features: str
    path: Path
    head: str
    settings: HeadSettings
    reason: str
    tap: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return {**asdict(self), "path": str(self.path)}

    @property
    def label(self) -> str:
        """What tells it from the others: head and settings."""
        return label_of(self.head, self.settings)


def candidate_of(
    tap: Features, choice: Contender, scores: Sequence[Score], units: Sequence[np.ndarray] | None
) -> Candidate:
    """The row of a choice with its scores on every part; `units` are those of the parts' rows."""
    right = [score.right for score in scores]
    return Candidate(
        features=name_of(tap),
        path=tap.path,
        head=choice.head,
        settings=choice.settings,
        accuracy=float(np.concatenate(right).mean()),
        interval=interval_of(right, units),
        # The first fit of a kind also loads its libraries.
        seconds=float(np.median([score.seconds for score in scores])),
        width=tap.width,
        size=round(np.mean([score.size for score in scores])),
        tap=tap.recipe.tap,
    )


def not_fitted(tap: Features, choice: Contender, reason: str) -> NotFitted:
    """The row of a choice that failed."""
    return NotFitted(
        name_of(tap), tap.path, choice.head, choice.settings, reason, tap=tap.recipe.tap
    )


def name_of(features: Features) -> str:
    """DATASET/BACKBONE."""
    return f"{features.path.parent.parent.name}/{features.path.parent.name}"
