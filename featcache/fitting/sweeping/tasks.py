"""Tasks: settings of one kind of head, fitted on some rows and tried on others, as joblib is told.

A task is plain data, so that any backend of joblib can run it, in threads or in other processes.
Every C of the logistic head on one file is solved together.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from joblib import Parallel, delayed
from joblib.parallel import LokyBackend, get_active_backend

from featcache.errors import FeatcacheError
from featcache.features.features import Features, open_features
from featcache.features.rows import rows_of
from featcache.features.splits.partition import units
from featcache.features.splits.roles import assign_roles
from featcache.features.splits.ties import Ties
from featcache.features.store.disk import FileIdentity
from featcache.fitting.sweeping.grids import HeadSettings, is_one_apart
from featcache.heads import knn
from featcache.heads.kinds import HEADS, fit_model, options_of
from featcache.heads.logistic.path import SEARCH_LOSS_TOL, Solution, predictions, solve_path
from featcache.heads.logistic.table import balanced_weights
from featcache.heads.logreg import LogisticHead
from featcache.heads.model import Model
from featcache.heads.training_set import TrainingSet, check_finite_rows, training_set_of
from featcache.interruption import end_with_parent

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


def is_joinable(task: Task) -> bool:
    """Whether nothing but C tells its settings apart, and each has one."""
    return (
        task.head == "logreg"
        and is_one_apart(task.settings, "C")
        and all(settings["C"] is not None for settings in task.settings)
    )


def join(tasks: Sequence[Task]) -> list[list[Task]]:
    """Neighbours on one file, with the same classes and values of C, are one list; others alone."""
    joined: list[list[Task]] = []
    for task in tasks:
        if joined and is_joinable(task) and _is_like(task, joined[-1][-1]):
            joined[-1].append(task)
        else:
            joined.append([task])
    return joined


def _is_like(one: Task, other: Task) -> bool:
    return (
        (one.path, one.head, one.settings) == (other.path, other.head, other.settings)
        # The weights of rows, and with them the means, are those of one task.
        and not _is_balanced(one)
        and set(one.train.labels) == set(other.train.labels)
    )


def _is_balanced(task: Task) -> bool:
    return bool(task.settings[0].get("class_weight") == "balanced")


def run_joined(tasks: Sequence[Task]) -> list[list[Score]]:
    """The scores of every setting of tasks that `join` put together.

    The seconds are those of all, shared alike.
    """
    began = time.monotonic()
    features = tasks[0].open()
    found = _solved(features, tasks)
    classes, count = np.unique(tasks[0].train.labels), len(tasks[0].settings)
    # All are as large: the classes are the same.
    size = size_of(LogisticHead.of(found[0]))
    right = []
    for number, task in enumerate(tasks):
        mine = found[number * count : (number + 1) * count]
        vectors = features.vectors_of(task.judged.rows)
        called = classes[predictions(mine, vectors, task.judged.rows)]
        right.append(called == task.judged.labels)
    seconds = (time.monotonic() - began) / len(found)
    return [[Score(row, seconds, size) for row in rows] for rows in right]


def _solved(features: Features, tasks: Sequence[Task]) -> list[Solution]:
    """For every task, a solution for every C."""
    labels = np.full(len(features), "", dtype=object)
    for task in tasks:
        labels[task.train.rows] = task.train.labels
    mask = labels != ""
    rows, vectors = features[mask], rows_of(features, mask)
    check_finite_rows(rows, vectors)
    codes = np.unique(labels[mask].astype(str), return_inverse=True)[1]
    balanced = balanced_weights(np.bincount(codes))[codes] if _is_balanced(tasks[0]) else None
    return solve_path(
        vectors,
        codes,
        Cs=[settings["C"] for settings in tasks[0].settings],
        folds=np.array([np.isin(rows.rows, task.train.rows) for task in tasks]),
        sample_weight=balanced,
        loss_tol=SEARCH_LOSS_TOL,
    )
