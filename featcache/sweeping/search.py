"""A sweep: heads x settings x layers compared on training rows, the best refitted and judged."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from featcache.belonging import belonging
from featcache.evaluation import evaluate
from featcache.features import Features
from featcache.fitting import fit
from featcache.heads import Head
from featcache.metrics import Interval
from featcache.report import Report
from featcache.sweeping.alignment import Aligned, align
from featcache.sweeping.grids import Settings, choose_grids, words_of
from featcache.sweeping.intervals import interval_of
from featcache.sweeping.learning_curve import Point, measure_learning_curve
from featcache.sweeping.plan import Plan, make_plan
from featcache.sweeping.scoring import run_tasks
from featcache.sweeping.tasks import Score, Side, Task


@dataclass(frozen=True, slots=True)
class Candidate:
    """One row of the table: a head with its settings on one file of features.

    Attributes
    ----------
    features, tap: the data set and backbone, and the layer; `path` is their file.
    accuracy, interval: on rows that did not train it, and the 95 % interval.
    seconds: of one fit, mean.
    width: numbers in a vector.
    """

    features: str
    path: Path
    head: str
    settings: Settings
    accuracy: float
    interval: Interval
    seconds: float
    width: int
    tap: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return {**asdict(self), "path": str(self.path)}

    @property
    def label(self) -> str:
        """What tells it from the others: head and settings."""
        return f"{self.head} {words_of(self.settings)}".strip()


@dataclass(frozen=True, slots=True)
class Nested:
    """How good the *procedure* is: choosing in the inner folds, judged in the outer ones."""

    accuracy: float
    interval: Interval
    chosen: list[str]


@dataclass(frozen=True, slots=True)
class Sweep:
    """What a sweep found.

    Attributes
    ----------
    candidates: in the order they were tried; `best` is the winner.
    head: the winner refitted on all training rows, saved at `head.path`.
    report: how good it is on rows that took no part in choosing it.
    nested: the nested cross-validation, where there is one.
    learning_curve: accuracy of the winner with fewer training images, where it was asked for.
    protocol: how the candidates were compared, in words.
    """

    candidates: list[Candidate]
    best: Candidate
    head: Head
    report: Report
    nested: Nested | None
    learning_curve: list[Point] = field(default_factory=list)
    protocol: str = ""
    remarks: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return {
            "candidates": [each.to_dict() for each in self.candidates],
            "best": self.best.to_dict(),
            "head": str(self.head.path),
            "accuracy": self.report.accuracy,
            "report": self.report.to_dict(),
            "nested": asdict(self.nested) if self.nested else None,
            "learning_curve": [asdict(each) for each in self.learning_curve],
            "protocol": self.protocol,
            "remarks": self.remarks,
            "seconds": round(self.seconds, 3),
        }


@dataclass(frozen=True, slots=True)
class _Running:
    """How fits run: their seed, how many at a time, and who is told."""

    seed: int
    jobs: int | None
    say: Callable[[str], None]


@dataclass(frozen=True, slots=True)
class _Choice:
    """One candidate before it has a score: which of the taps, which head, which settings."""

    tap: int
    head: str
    settings: Settings


def sweep(
    features: Features | Sequence[Features],
    *,
    heads: Sequence[str] | None = None,
    Cs: Sequence[float] | None = None,
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
    Cs: replaces the grid of C of the heads that have one.
    folds: of the cross-validation; no image, copy, view or group is ever on two sides.
    nested: also judge the choosing itself by nested cross-validation (the inner folds are the
        other outer ones); by default where the features have no splits of their own.
    learning_curve: measure the winner with 10, 20, 40 and 70 % of the training images too.
    jobs: fits at a time; None: what ``joblib.parallel_config`` says, else one.
    out: the head's file; None: ``sweep.head`` beside its features.

    Raises
    ------
    FeatcacheError: a wrong argument, no labels, too few rows, features of different images.
    """
    began = time.monotonic()
    grids = choose_grids(heads, Cs)
    aligned = align([features] if isinstance(features, Features) else list(features))
    # Images that are near duplicates for one layer stay on one side for all of them.
    together = belonging(aligned.taps[0], aligned.taps[1:])
    plan = make_plan(aligned.taps[0], folds=folds, nested=nested, seed=seed, together=together)
    choices = [
        _Choice(tap, head, settings)
        for tap in range(len(aligned.taps))
        for head, grid in grids.items()
        for settings in grid
    ]
    fits = len(choices) * len(plan.every)
    say(f"{len(choices)} candidates, {plan.words}: {fits} fits")
    scores = _scores(aligned, plan, grids, _Running(seed, jobs, say))
    candidates = [
        _candidate(aligned, choice, each[: len(plan.parts)])
        for choice, each in zip(choices, scores, strict=True)
    ]
    # max takes the first of equals: the simplest setting.
    place = max(range(len(choices)), key=lambda each: candidates[each].accuracy)
    choice = choices[place]
    tap = aligned.taps[choice.tap]
    path = out or tap.path.parent / "sweep.head"
    head = fit(
        tap, head=choice.head, seed=seed, out=path, sample_weight=None, together=together, say=say,
        **choice.settings,
    ).head  # fmt: skip
    curve = partial(
        measure_learning_curve, tap, plan.parts, head=choice.head, settings=choice.settings
    )
    return Sweep(
        candidates=candidates,
        best=candidates[place],
        head=head,
        report=evaluate(head, tap),
        nested=_nested(plan, candidates, scores),
        learning_curve=curve(seed=seed, jobs=jobs, say=say) if learning_curve else [],
        protocol=plan.words,
        remarks=[*aligned.remarks, *plan.remarks],
        seconds=time.monotonic() - began,
    )


def _scores(
    aligned: Aligned, plan: Plan, grids: dict[str, list[Settings]], running: _Running
) -> list[list[Score]]:
    """For every candidate, in order, its scores on every part of the plan."""
    tasks = [
        Task(
            tap.path, head, grid, Side.of(tap, part.train), Side.of(tap, part.judged), running.seed
        )
        for tap in aligned.taps
        for head, grid in grids.items()
        for part in plan.every
    ]
    results = run_tasks(tasks, running.jobs, running.say)
    count = len(plan.every)
    return [
        [of_settings[setting] for of_settings in results[start : start + count]]
        for start in range(0, len(results), count)
        for setting in range(len(results[start]))
    ]


def _candidate(aligned: Aligned, choice: _Choice, scores: list[Score]) -> Candidate:
    tap = aligned.taps[choice.tap]
    return Candidate(
        features=f"{tap.path.parent.parent.name}/{tap.path.parent.name}",
        path=tap.path,
        head=choice.head,
        settings=choice.settings,
        accuracy=float(np.concatenate([score.right for score in scores]).mean()),
        interval=interval_of([score.right for score in scores]),
        seconds=float(np.mean([score.seconds for score in scores])),
        width=tap.width,
        tap=tap.recipe.tap,
    )


def _nested(plan: Plan, candidates: list[Candidate], scores: list[list[Score]]) -> Nested | None:
    """In each fold, the winner of the others is judged: on rows that had no part in the choice.

    The inner folds of a fold are the other ones: the candidate that was fitted without the folds i
    and j and tried on j counts for i, tried on i it counts for j, so one fit serves two.
    """
    if not plan.pairs:
        return None
    right, chosen = [], []
    for fold in range(len(plan.parts)):
        inner = [_inner_accuracy(plan, each, fold) for each in scores]
        winner = int(np.argmax(inner))
        right.append(scores[winner][fold].right)
        chosen.append(f"{candidates[winner].features} {candidates[winner].label}")
    return Nested(float(np.concatenate(right).mean()), interval_of(right), chosen)


def _inner_accuracy(plan: Plan, scores: list[Score], fold: int) -> float:
    """A candidate's accuracy on the folds other than one, never fitted with that one."""
    pieces = []
    for (pair, part), score in zip(plan.pairs.items(), scores[len(plan.parts) :], strict=True):
        if fold in pair:
            other = pair[0] if pair[1] == fold else pair[1]
            pieces.append(score.right[plan.folds[part.judged] == other])
    return float(np.concatenate(pieces).mean())
