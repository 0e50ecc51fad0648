"""Scoring: tasks are run, as many at a time as joblib is told."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
from joblib import Parallel, delayed
from joblib.parallel import LokyBackend, get_active_backend

from featcache.errors import FeatcacheError
from featcache.features.splits.partition import units
from featcache.features.splits.roles import assign_roles
from featcache.features.splits.ties import Ties
from featcache.fitting.sweeping.grids import HeadSettings, is_one_apart
from featcache.fitting.sweeping.logistic_tasks import is_joinable, join, run_joined
from featcache.fitting.sweeping.tasks_ import FailedTask, Score, Side, Task, TaskOutcome, size_of
from featcache.heads import knn
from featcache.heads.kinds import HEADS, fit_model, options_of
from featcache.heads.training_set import TrainingSet, training_set_of
from featcache.interruption import end_with_parent

#: Seconds between two lines about where a sweep stands.
PATIENCE = 10.0


def run_tasks(
    tasks: Sequence[Task], jobs: int | None, say: Callable[[str], None]
) -> list[list[TaskOutcome]]:
    """The outcome of every setting of every task; joblib's backend and number of jobs hold."""
    total = sum(len(task.settings) for task in tasks)
    results: list[list[TaskOutcome]] = []
    spoken = time.monotonic()
    runs = map(delayed(_run), join(tasks))
    for outcomes in _parallel(jobs, len(tasks))(runs):
        results += outcomes
        if time.monotonic() - spoken > PATIENCE:
            spoken = time.monotonic()
            say(f"{sum(map(len, results))} of {total} fits")
    return results


def _parallel(jobs: int | None, tasks: int) -> Parallel:
    """joblib as it is configured; its own worker processes (loky's) end with this process."""
    if jobs is not None:
        jobs = min(jobs, tasks)  # each of more would be a process that finds nothing to do
    backend, _ = get_active_backend()
    extra = {"initializer": end_with_parent} if isinstance(backend, LokyBackend) else {}
    return Parallel(n_jobs=jobs, return_as="generator", **extra)


def _run(tasks: list[Task]) -> list[list[TaskOutcome]]:
    """The outcomes of tasks that `join` put together; where that fails, of each alone."""
    if is_joinable(tasks[0]):
        try:
            return [list(scores) for scores in run_joined(tasks)]
        except FeatcacheError as error:
            _only_unfitted(error)
    return [_outcomes(task) for task in tasks]


def _outcomes(task: Task) -> list[TaskOutcome]:
    """The outcomes of settings that are tried together, or where that fails, one by one."""
    try:
        return list(run_task(task))
    except FeatcacheError as error:
        _only_unfitted(error)
        if len(task.settings) == 1:
            return [FailedTask.of(error)]
    alone = [replace(task, settings=[each]) for each in task.settings]
    return [outcome for each in alone for outcome in _outcomes(each)]


def _only_unfitted(error: FeatcacheError) -> None:
    """A damaged file or a full disk is no matter of the candidate: it ends the sweep."""
    if error.exit_code != FeatcacheError.exit_code:
        raise error


def run_task(task: Task) -> list[Score]:
    """Fit and try every setting of a task.

    Raises `FeatcacheError` where one of them cannot be fitted.
    """
    features = task.open()
    both = Side(
        np.concatenate([task.train.rows, task.judged.rows]),
        np.concatenate([task.train.labels, task.judged.labels]),
    ).of_file(features)
    # The sides of the task stand in for the file's own splits.
    sides = np.repeat(["train", "test"], [len(task.train.rows), len(task.judged.rows)])
    part, judged = replace(both, splits=sides), task.judged.of_file(features)
    # Near duplicates share a side of the task already; rows that stop a training judge nothing.
    ties = Ties(units(part.keys, part.groups))
    roles = assign_roles(part, task.seed, stopped=HEADS[task.head].is_stopped, ties=ties)
    training = training_set_of(part, roles, seed=task.seed)
    names = np.array(part[roles.train].classes)
    return [
        Score(names[probabilities.argmax(axis=1)] == judged.labels, seconds, size)
        for probabilities, seconds, size in _tried(training, judged.vectors, task)
    ]


def _tried(
    training: TrainingSet, vectors: np.ndarray, task: Task
) -> Iterator[tuple[np.ndarray, float, int]]:
    """The probabilities (n, K) of vectors by every setting, the seconds of it, and its bytes."""
    if task.head == "knn" and is_one_apart(task.settings, "neighbors"):
        yield from _tried_neighbors(training, vectors, task.settings)
        return
    for settings in task.settings:
        began = time.monotonic()
        model, _ = fit_model(training, task.head, options_of(task.head, settings))
        probabilities = model.predict_proba(vectors)
        yield probabilities, time.monotonic() - began, size_of(model)


def _tried_neighbors(
    training: TrainingSet, vectors: np.ndarray, grid: list[HeadSettings]
) -> Iterator[tuple[np.ndarray, float, int]]:
    """The same for settings that differ in `neighbors`: these are looked for once."""
    began = time.monotonic()
    counts = [each["neighbors"] for each in grid]
    most = {**grid[0], "neighbors": max(counts)}
    model, _ = fit_model(training, "knn", options_of("knn", most))
    if not isinstance(model, knn.KnnHead):
        raise TypeError(f"expected a head of neighbours, got {type(model).__name__}")
    found = model.predict_each(vectors, counts)
    seconds = (time.monotonic() - began) / len(counts)
    yield from ((probabilities, seconds, size_of(model)) for probabilities in found)
