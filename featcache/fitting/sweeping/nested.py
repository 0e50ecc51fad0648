"""Nested cross-validation: how good the choosing is, beside how good what was chosen is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from featcache.evaluation.metrics import Interval
from featcache.fitting.sweeping.candidates import Candidate
from featcache.fitting.sweeping.folds import SweepPlan
from featcache.fitting.sweeping.intervals import interval_of
from featcache.fitting.sweeping.tasks_ import Score, TaskOutcome


@dataclass(frozen=True, slots=True)
class Nested:
    """How good the *procedure* is: choosing in the inner folds, judged in the outer ones."""

    accuracy: float
    interval: Interval
    chosen: list[str]


def judge_choosing(
    plan: SweepPlan, candidates: Sequence[Candidate], outcomes: Sequence[Sequence[TaskOutcome]]
) -> Nested | None:
    """In each fold, the winner of the others is judged: on rows that had no part in the choice.

    The inner folds of a fold are the other ones: the candidate that was fitted without the folds i
    and j and tried on j counts for i, tried on i it counts for j, so one fit serves two. None
    where there are no such fits, or in some fold not one candidate could be fitted.

    `outcomes`: of each candidate, on every part of the plan.
    """
    if not plan.pairs:
        return None
    right, chosen = [], []
    for fold in range(len(plan.parts)):
        inner = [_inner_accuracy(plan, each, fold) for each in outcomes]
        winner = int(np.argmax(inner))
        score = outcomes[winner][fold]
        if inner[winner] < 0 or not isinstance(score, Score):
            return None
        right.append(score.right)
        chosen.append(f"{candidates[winner].features} {candidates[winner].label}")
    interval = interval_of(right, plan.units_of(plan.parts))
    return Nested(float(np.concatenate(right).mean()), interval, chosen)


def _inner_accuracy(plan: SweepPlan, outcomes: Sequence[TaskOutcome], fold: int) -> float:
    """A candidate's accuracy on the folds other than one, never fitted with that one.

    -1 where it could not be fitted on some of them: then it is not chosen there.
    """
    pieces = []
    for (pair, part), score in zip(plan.pairs.items(), outcomes[len(plan.parts) :], strict=True):
        if fold not in pair:
            continue
        if not isinstance(score, Score):
            return -1.0
        other = pair[0] if pair[1] == fold else pair[1]
        pieces.append(score.right[plan.folds[part.judged] == other])
    return float(np.concatenate(pieces).mean())
