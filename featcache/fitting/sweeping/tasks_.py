"""Tasks: settings of one kind of head, to be fitted on some rows and tried on others.

A task is plain data, so that any backend of joblib can run it, in threads or in other processes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from featcache.errors import FeatcacheError
from featcache.features.features import Features, open_features
from featcache.features.store import FileIdentity
from featcache.fitting.sweeping.grids import HeadSettings
from featcache.heads.model import Model


@dataclass(frozen=True, slots=True)
class Side:
    """Rows of a file by number, and their labels, which the file need not have."""

    rows: np.ndarray
    labels: np.ndarray

    @classmethod
    def of(cls, features: Features, rows: np.ndarray) -> Side:
        return cls(features.rows[rows], features.labels[rows])

    def of_file(self, features: Features) -> Features:
        """These rows of a whole file, with these labels."""
        return replace(features[self.rows], labels=self.labels)


@dataclass(frozen=True, slots=True)
class Task:
    """Fit each of some settings on the rows `train` of a file, and try it on the rows `judged`.

    `sound` is the file whose rows the one who made the task has checked.
    """

    path: Path
    sound: FileIdentity
    head: str
    settings: list[HeadSettings]
    train: Side
    judged: Side
    seed: int

    def open(self) -> Features:
        """The features of the whole file; its rows are checked here only if it has changed."""
        return open_features(self.path).known_sound(self.sound)


@dataclass(frozen=True, slots=True)
class Score:
    """Which of the judged rows were called rightly, (n,) bool, the seconds of it all, and the
    bytes of the head's arrays.
    """

    right: np.ndarray
    seconds: float
    size: int = 0


@dataclass(frozen=True, slots=True)
class FailedTask:
    """Why a setting could not be fitted on the rows of a task."""

    reason: str

    @classmethod
    def of(cls, error: FeatcacheError) -> FailedTask:
        """The error's own words; options are named as settings here, without dashes."""
        return cls(str(error).removeprefix("--"))


TaskOutcome = Score | FailedTask


def size_of(model: Model) -> int:
    """Bytes of a head's arrays."""
    return sum(array.nbytes for array in model.state().values())
