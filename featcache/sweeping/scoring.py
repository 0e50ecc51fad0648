"""Scoring: tasks are run, as many at a time as joblib is told."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from joblib import Parallel, delayed

from featcache.features import Features
from featcache.fitting import fit_head
from featcache.sweeping.grids import Settings
from featcache.sweeping.logistic_tasks import is_joinable, join, run_joined
from featcache.sweeping.tasks import Score, Side, Task

#: Seconds between two lines about where a sweep stands.
PATIENCE = 10.0


def run_tasks(
    tasks: Sequence[Task], jobs: int | None, say: Callable[[str], None]
) -> list[list[Score]]:
    """The scores of every setting of every task; joblib's backend and number of jobs hold."""
    total = sum(len(task.settings) for task in tasks)
    results: list[list[Score]] = []
    spoken = time.monotonic()
    runs = map(delayed(_run), join(tasks))
    for scores in Parallel(n_jobs=jobs, return_as="generator")(runs):
        results += scores
        if time.monotonic() - spoken > PATIENCE:
            spoken = time.monotonic()
            say(f"{sum(map(len, results))} of {total} fits")
    return results


def _run(tasks: list[Task]) -> list[list[Score]]:
    return run_joined(tasks) if is_joinable(tasks[0]) else [run_task(task) for task in tasks]


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
