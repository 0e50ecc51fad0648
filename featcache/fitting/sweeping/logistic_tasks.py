"""The tasks of the logistic head on one file: every C of every task is solved together."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from featcache.features.features import Features
from featcache.features.rows import rows_of
from featcache.fitting.sweeping.grids import is_one_apart
from featcache.fitting.sweeping.tasks_ import Score, Task, size_of
from featcache.heads.logistic import SEARCH_LOSS_TOL, Solution, predictions, solve_path
from featcache.heads.logistic.table import balanced_weights
from featcache.heads.logreg import LogisticHead
from featcache.heads.training_set import check_finite_rows


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
