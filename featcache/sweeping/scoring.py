"""Scoring: settings of one kind of head, fitted on some rows and tried on others.

A task is plain data, so that any backend of joblib can run it, in threads or in other processes.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from joblib import Parallel, delayed

from featcache.features import Features, open_features
from featcache.fitting import fit_head
from featcache.sweeping.grids import Settings

#: Seconds between two lines about where a sweep stands.
PATIENCE = 10.0


@dataclass(frozen=True, slots=True)
class Side:
    """Rows of a file by number, and their labels, which the file need not have."""

    rows: np.ndarray
    labels: np.ndarray

    @classmethod
    def of(cls, features: Features, rows: np.ndarray) -> Side:
        return cls(features.rows[rows], features.labels[rows])

    def open(self, path: Path) -> Features:
        """The features of these rows, with these labels."""
        return replace(open_features(path)[self.rows], labels=self.labels)


@dataclass(frozen=True, slots=True)
class Task:
    """Fit each of some settings on the rows `train` of a file, and try it on the rows `judged`."""

    path: Path
    head: str
    settings: list[Settings]
    train: Side
    judged: Side
    seed: int


@dataclass(frozen=True, slots=True)
class Score:
    """Which of the judged rows were called rightly, (n,) bool, and the seconds of the fit."""

    right: np.ndarray
    seconds: float


def run_tasks(
    tasks: Sequence[Task], jobs: int | None, say: Callable[[str], None]
) -> list[list[Score]]:
    """The scores of every setting of every task; joblib's backend and number of jobs hold."""
    total = sum(len(task.settings) for task in tasks)
    results, spoken = [], time.monotonic()
    for scores in Parallel(n_jobs=jobs, return_as="generator")(map(delayed(run_task), tasks)):
        results.append(scores)
        if time.monotonic() - spoken > PATIENCE:
            spoken = time.monotonic()
            say(f"{sum(map(len, results))} of {total} fits")
    return results


def run_task(task: Task) -> list[Score]:
    """Fit and try every setting of a task."""
    both = Side(
        np.concatenate([task.train.rows, task.judged.rows]),
        np.concatenate([task.train.labels, task.judged.labels]),
    ).open(task.path)
    # The sides of the task stand in for the file's own splits.
    sides = np.repeat(["train", "test"], [len(task.train.rows), len(task.judged.rows)])
    part, judged = replace(both, splits=sides), task.judged.open(task.path)
    return [_score(part, judged, task, settings) for settings in task.settings]


def _score(part: Features, judged: Features, task: Task, settings: Settings) -> Score:
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        head = fit_head(
            part, head=task.head, seed=task.seed, out=Path(folder) / "part.head", **settings
        )
    seconds = time.monotonic() - began
    called = np.array(head.classes)[head.predict_proba(judged).argmax(axis=1)]
    return Score(called == judged.labels, seconds)
