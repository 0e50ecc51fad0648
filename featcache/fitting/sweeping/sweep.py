"""A sweep: heads x settings x layers compared on training rows, the best refitted and judged."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from featcache.errors import FeatcacheError, checked_seed
from featcache.evaluation.report import Report
from featcache.features.features import Features
from featcache.features.splits.ties import find_ties
from featcache.fitting.fit_head import Selection, fit
from featcache.fitting.sweeping.candidates import (
    Candidate,
    Contender,
    Nested,
    NotFitted,
    candidate_of,
    judge_choosing,
)
from featcache.fitting.sweeping.folds import SweepPlan, align, make_plan
from featcache.fitting.sweeping.grids import HeadSettings, choose_grids, pieces_of
from featcache.fitting.sweeping.learning_curve import (
    Gain,
    LearningCurve,
    Point,
    measure_learning_curve,
)
from featcache.fitting.sweeping.tasks import FailedTask, Score, Side, Task, TaskOutcome, run_tasks
from featcache.heads.head import Head

#: What is said where the nested cross-validation has no result.
NO_NESTED = "no nested accuracy: with two folds left out, not one candidate could be fitted"

#: Fits at a time, at most: each is a process.
MOST_JOBS = 256


def sweep(
    features: Features | Sequence[Features],
    *,
    heads: Sequence[str] | None = None,
    Cs: Sequence[float] | None = None,
    grids: Mapping[str, Sequence[HeadSettings]] | None = None,
    folds: int = 5,
    nested: bool | None = None,
    learning_curve: bool = False,
    seed: int = 0,
    jobs: int | None = None,
    out: str | Path | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Sweep:
    """Compare heads, settings and layers; refit the best one and judge it on unseen rows.

    The rows that `fit_head` would judge on (the file's test split, else its validation split, else
    a fifth held out by image hash) take no part in choosing. The others choose by the file's
    validation split where it has a test split too, else by cross-validation.

    Parameters
    ----------
    features: one, or several of the same images (layers, backbones).
    heads: names out of `featcache.HEADS`; the usual quick ones by default.
    Cs: replaces the usual grid of the heads that have a C.
    grids: settings to compare by kind of head, the simplest first, such as
        ``{"dense": [{"hidden": (64,)}, {"hidden": (256,)}]}``; these heads are swept too.
    folds: of the cross-validation; no image, copy, view or group is ever on two sides.
    nested: also judge the choosing itself by nested cross-validation (the inner folds are the
        other outer ones); by default where the features have no splits of their own.
    learning_curve: measure the winner with 6, 12, 25 and 50 % of the training images too.
    jobs: fits at a time; None: what ``joblib.parallel_config`` says, else one.
    out: the head's file; None: ``sweep.head`` beside its features.

    Raises
    ------
    FeatcacheError: a wrong argument, no labels, too few rows, features of different images, or
        not one candidate that can be fitted. Those that cannot are in `Sweep.not_fitted`.
    """
    began = time.monotonic()
    _check_jobs(jobs)
    checked_seed(seed)
    chosen = choose_grids(heads, Cs, grids)
    taps, left_out = align([features] if isinstance(features, Features) else list(features))
    for tap in taps:
        tap.recipe.check_reading(tap.path.parent.name, tap.names)
    # Images that are near duplicates for one layer stay on one side for all of them.
    ties = find_ties(taps[0], taps[1:])
    plan = make_plan(taps[0], folds=folds, nested=nested, seed=seed, ties=ties)
    candidates = len(taps) * sum(map(len, chosen.values()))
    say(f"{candidates} candidates, {plan.words}: {candidates * len(plan.every)} fits")
    compared = _compare(taps, plan, chosen, partial(run_tasks, jobs=jobs, say=say), seed)
    best = compared.choices[compared.best]
    fitted = fit(
        best.tap,
        head=best.head,
        seed=seed,
        out=out or best.tap.path.parent / "sweep.head",
        ties=ties,
        selection=Selection(len(compared.candidates), plan.words, plan.split),
        say=say,
        **best.settings,
    )
    curve = LearningCurve()
    if learning_curve:
        curve = measure_learning_curve(
            best.tap, plan.parts, head=best.head, settings=best.settings,
            seed=seed, jobs=jobs, say=say,
        )  # fmt: skip
    judged = judge_choosing(plan, compared.candidates, compared.outcomes)
    lost = [NO_NESTED] if plan.pairs and judged is None else []
    return Sweep(
        candidates=compared.candidates,
        not_fitted=compared.not_fitted,
        best=compared.candidates[compared.best],
        head=fitted.head,
        report=fitted.report,
        judged=fitted.judged,
        nested=judged,
        learning_curve=curve.points,
        gain=curve.gain,
        protocol=plan.words,
        remarks=[*left_out, *plan.remarks, *lost, *curve.remarks],
        seconds=time.monotonic() - began,
    )


def _check_jobs(jobs: int | None) -> None:
    if jobs == 0 or (jobs or 0) > MOST_JOBS:
        raise FeatcacheError(
            f"--jobs {jobs}: expected the fits at a time, such as 2, at most {MOST_JOBS}; -1: all "
            f"cores"
        )


@dataclass(frozen=True, slots=True)
class _Compared:
    """The choices that could be fitted, with their candidates and outcomes, and the others."""

    choices: list[Contender]
    candidates: list[Candidate]
    outcomes: list[list[TaskOutcome]]
    not_fitted: list[NotFitted]

    @property
    def best(self) -> int:
        """The place of the best one; of equals the first: the simplest setting."""
        accuracies = [each.accuracy for each in self.candidates]
        return accuracies.index(max(accuracies))


def _compare(
    taps: list[Features],
    plan: SweepPlan,
    grids: dict[str, list[HeadSettings]],
    run: Callable[[list[Task]], list[list[TaskOutcome]]],
    seed: int,
) -> _Compared:
    """Every candidate on every part of the plan.

    Raises `FeatcacheError` with the reasons where not one can be fitted.
    """
    choices = [
        Contender(tap, head, settings)
        for tap in taps
        for head, grid in grids.items()
        for settings in grid
    ]
    units = plan.units_of(plan.parts)
    compared = _Compared([], [], [], [])
    for choice, outcomes in zip(choices, _outcomes(taps, plan, grids, run, seed), strict=True):
        tried = outcomes[: len(plan.parts)]
        scores = [each for each in tried if isinstance(each, Score)]
        if len(scores) < len(tried):
            reason = next(each.reason for each in tried if isinstance(each, FailedTask))
            compared.not_fitted.append(
                NotFitted(
                    choice.tap.name, choice.tap.path, choice.head, choice.settings, reason,
                    choice.tap.recipe.tap,
                )
            )  # fmt: skip
            continue
        compared.choices.append(choice)
        compared.candidates.append(candidate_of(choice, scores, units))
        compared.outcomes.append(outcomes)
    _check_any(compared)
    return compared


def _check_any(compared: _Compared) -> None:
    if compared.candidates:
        return
    reasons: dict[str, list[str]] = {}
    for each in compared.not_fitted:
        reasons.setdefault(each.reason, []).append(each.label)
    told = "; ".join(f"{', '.join(names[:3])}: {reason}" for reason, names in reasons.items())
    raise FeatcacheError(f"not one of the candidates could be fitted: {told}")


def _outcomes(
    taps: list[Features],
    plan: SweepPlan,
    grids: dict[str, list[HeadSettings]],
    run: Callable[[list[Task]], list[list[TaskOutcome]]],
    seed: int,
) -> list[list[TaskOutcome]]:
    """For every candidate, in order, its outcomes on every part of the plan."""
    used = np.unique(
        np.concatenate([rows for part in plan.every for rows in (part.train, part.judged)])
    )
    for tap in taps:  # here and once: the tasks may be many, in many processes
        tap[used].check()
    tasks = [
        Task(
            tap.path, tap.identity, head, piece,
            Side.of(tap, part.train), Side.of(tap, part.judged), seed,
        )
        for tap in taps
        for head, grid in grids.items()
        for piece in pieces_of(head, grid)
        for part in plan.every
    ]  # fmt: skip
    results = run(tasks)
    count = len(plan.every)
    return [
        [of_settings[setting] for of_settings in results[start : start + count]]
        for start in range(0, len(results), count)
        for setting in range(len(results[start]))
    ]


@dataclass(frozen=True, slots=True)
class Sweep:
    """What a sweep found.

    Attributes
    ----------
    candidates: in the order they were tried; `best` is the winner.
    not_fitted: the candidates that could not be fitted, each with the reason.
    head: the winner refitted on all training rows, saved at `head.path`.
    report: how good it is on rows that took no part in choosing it; `judged` are these rows.
    nested: the nested cross-validation, where there is one.
    learning_curve: accuracy of the winner with fewer training images, where it was asked for.
    gain: what the last doubling of the images brought it.
    protocol: how the candidates were compared, in words.
    """

    candidates: list[Candidate]
    best: Candidate
    head: Head
    report: Report
    judged: Features
    nested: Nested | None
    not_fitted: list[NotFitted] = field(default_factory=list)
    learning_curve: list[Point] = field(default_factory=list)
    gain: Gain | None = None
    protocol: str = ""
    remarks: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def equals(self) -> int:
        """The number of candidates with the accuracy of the best, itself counted."""
        return sum(each.accuracy == self.best.accuracy for each in self.candidates)

    def to_dict(self) -> dict[str, Any]:
        return {
            "candidates": [each.to_dict() for each in self.candidates],
            "not_fitted": [each.to_dict() for each in self.not_fitted],
            "best": self.best.to_dict(),
            "head": str(self.head.path),
            "accuracy": self.report.accuracy,
            "report": self.report.to_dict(),
            "nested": asdict(self.nested) if self.nested else None,
            "learning_curve": [asdict(each) for each in self.learning_curve],
            "gain": asdict(self.gain) if self.gain else None,
            "protocol": self.protocol,
            "remarks": self.remarks,
            "seconds": round(self.seconds, 3),
        }
