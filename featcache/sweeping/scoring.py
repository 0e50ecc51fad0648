"""Scoring: tasks are run, as many at a time as joblib is told."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
from joblib import Parallel, delayed

from featcache.belonging import Belonging
from featcache.heads import HEADS, Training, knn, options_of
from featcache.model_fitting import fit_model, training_of
from featcache.roles import assign_roles
from featcache.splits import units
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
    part.check()
    # Near duplicates share a side of the task already; rows that stop a training judge nothing.
    together = Belonging(units(part.keys, part.groups))
    roles = assign_roles(part, task.seed, stopped=HEADS[task.head].is_stopped, together=together)
    training = training_of(part, roles, seed=task.seed)
    names = np.array(part[roles.train].classes)
    return [
        Score(names[probabilities.argmax(axis=1)] == judged.labels, seconds)
        for probabilities, seconds in _tried(training, judged.vectors, task)
    ]


def _tried(
    training: Training, vectors: np.ndarray, task: Task
) -> Iterator[tuple[np.ndarray, float]]:
    """The probabilities (n, K) of vectors by every setting, and the seconds of it."""
    began = time.monotonic()
    if task.head == "knn" and all(each.keys() == {"neighbors"} for each in task.settings):
        counts = [each["neighbors"] for each in task.settings]
        found = knn.try_each(training, vectors, counts)
        seconds = (time.monotonic() - began) / len(counts)
        yield from ((probabilities, seconds) for probabilities in found)
        return
    for settings in task.settings:
        began = time.monotonic()
        model, _ = fit_model(training, task.head, options_of(task.head, settings))
        probabilities = model.predict_proba(vectors)
        yield probabilities, time.monotonic() - began
