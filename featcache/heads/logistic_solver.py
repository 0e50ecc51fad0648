"""L-BFGS for many problems at once: each walks by itself, all are evaluated together.

Every evaluation reads the matrix once for all problems that are not finished. The memory of past
steps is kept as inner products (Chen, Wang, Zhou: Large-scale L-BFGS using MapReduce), so that a
step costs four small matrix products.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from featcache.heads.logistic_curvature import (
    ClassCurvature,
    FlatCurvature,
    class_curvature,
)
from featcache.heads.logistic_problem import Losses

#: Past steps that are remembered.
MEMORY = 10
#: Part of the promised decrease that a step must bring.
ARMIJO = 1e-4
#: What is left to gain, as the quadratic model has it, must be below this part of tol x loss. With
#: the flat curvature the model is up to 60 times too hopeful, with that of the place up to 5 times
#: (measured).
GAIN_FLAT, GAIN_OWN = 0.01, 0.2
#: Steps before the curvature of the constant model may be replaced by that of the place.
PATIENCE = 15
#: The blocks of the classes' curvatures may be this many numbers in all (1 GB of float32).
BLOCKS = 2**28
#: A step shortened to this is no step.
SHORTEST = 1e-6


@dataclass(eq=False)
class Walk:
    """Where one problem is, and the pairs of step and change of gradient behind it."""

    place: np.ndarray
    loss: float
    gradient: np.ndarray
    scaled: np.ndarray
    dtype: np.dtype
    direction: np.ndarray = field(init=False)
    slope: float = 0.0
    length: float = 1.0
    iterations: int = 0
    #: "" while walking, then why it ended.
    end: str = ""
    steps: list[np.ndarray] = field(default_factory=list)
    changes: list[np.ndarray] = field(default_factory=list)  # already scaled by the curvature
    #: steps[j] . change[l] and scaled change[j] . change[l], for l not older than j.
    step_change: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))
    change_change: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))

    def __post_init__(self) -> None:
        self.aim()

    @property
    def trial(self) -> np.ndarray:
        """The point to evaluate next."""
        return self.place + self.length * self.direction

    def aim(self) -> None:
        """Set the direction of the next step; falls back to the scaled gradient."""
        self.direction = self._direction()
        self.slope = float(np.vdot(self.gradient, self.direction))
        if self.slope >= 0:
            self.forget()
            self.direction = -self.scaled
            self.slope = float(np.vdot(self.gradient, self.direction))
        self.length = 1.0

    def forget(self) -> None:
        self.steps, self.changes = [], []
        self.step_change = self.change_change = np.zeros((0, 0))

    def _direction(self) -> np.ndarray:
        count = len(self.steps)
        if not count:
            return -self.scaled
        gradient = self.gradient.ravel().astype(self.dtype)
        by_step = np.array([step @ gradient for step in self.steps], np.float64)
        by_change = np.array([change @ gradient for change in self.changes], np.float64)
        inner, outer = self.step_change, self.change_change
        size = inner[-1, -1] / outer[-1, -1]
        first, second = np.zeros(count), np.zeros(count)
        for j in reversed(range(count)):
            first[j] = (by_step[j] - inner[j, j + 1 :] @ first[j + 1 :]) / inner[j, j]
        residual = size * (by_change - outer @ first)
        for j in range(count):
            ahead = residual[j] + inner[:j, j] @ second[:j]
            second[j] = first[j] - ahead / inner[j, j]
        direction: np.ndarray = size * self.scaled.ravel()
        for step, change, a, b in zip(self.steps, self.changes, first, second, strict=True):
            direction += step * self.dtype.type(b) - change * self.dtype.type(size * a)
        back: np.ndarray = -direction.reshape(self.place.shape)
        return back

    def arrive(
        self, place: np.ndarray, loss: float, gradient: np.ndarray, scaled: np.ndarray
    ) -> None:
        """Take the step to `place` and remember it."""
        step, change = (place - self.place).ravel(), (gradient - self.gradient).ravel()
        self._remember(step, change, (scaled - self.scaled).ravel())
        self.place, self.loss, self.gradient, self.scaled = place, loss, gradient, scaled
        self.iterations += 1
        self.aim()

    def _remember(self, step: np.ndarray, change: np.ndarray, scaled: np.ndarray) -> None:
        bend = float(step @ change)
        if bend <= 1e-10 * np.sqrt(float(step @ step) * float(change @ change)):
            return
        self.steps.append(step.astype(self.dtype))
        self.changes.append(scaled.astype(self.dtype))
        count = len(self.steps)
        small = change.astype(self.dtype)
        inner, outer = np.zeros((count, count)), np.zeros((count, count))
        inner[:-1, :-1], outer[:-1, :-1] = self.step_change, self.change_change
        inner[:, -1] = [old @ small for old in self.steps]
        outer[:, -1] = outer[-1, :] = [old @ small for old in self.changes]
        inner[-1, -1], outer[-1, -1] = bend, float(scaled @ change)
        drop = max(0, count - MEMORY)
        self.steps, self.changes = self.steps[drop:], self.changes[drop:]
        self.step_change, self.change_change = inner[drop:, drop:], outer[drop:, drop:]

    def shorten(self, loss: float) -> None:
        """The trial was no better: go a part of the way, where a parabola has its least."""
        if not np.isfinite(loss):
            self.length *= 0.1
            return
        bowl = 2 * (loss - self.loss - self.length * self.slope)
        part = -self.slope * self.length / bowl if bowl > 0 else 0.5
        self.length *= min(0.5, max(0.1, part))


@dataclass(eq=False)
class Curvatures:
    """The curvature that every problem uses: at first the flat one, later that of its place.

    Curvature at a place costs as much as `price` evaluations of its problems, so it is looked for
    when about so many have been spent: renting first, then buying. It serves all folds of a C.
    """

    losses: Losses
    flat: FlatCurvature
    own: dict[int, ClassCurvature] = field(default_factory=dict)
    due: dict[int, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        table = self.losses.table
        rows, width = table.vectors.shape
        _, self.groups = np.unique(
            self.losses.penalties * table.totals[self.losses.folds], return_inverse=True
        )
        count = int(self.groups.max()) + 1
        size = count * table.outputs * (width + 1) ** 2
        first = max(PATIENCE, 0.4 * width**2 / rows * count / len(self.groups))
        self.due = dict.fromkeys(range(count), first if size <= BLOCKS else np.inf)

    def solve(self, gradient: np.ndarray, which: np.ndarray) -> np.ndarray:
        """The problem's curvature inverted, times its gradient: (A, O, D+1)."""
        scaled = np.empty_like(gradient)
        penalties = self.losses.penalties[which]
        groups = self.groups[which]
        flat = ~np.isin(groups, list(self.own))
        if flat.any():
            scaled[flat] = self.flat.solve(gradient[flat], penalties[flat])

        def with_own(group: int) -> None:
            rows = groups == group
            scaled[rows] = self.own[group].solve(gradient[rows], penalties[rows])

        list(self.losses.blocks.pool.map(with_own, np.unique(groups[~flat]).tolist()))
        return scaled

    def gain(self, problem: int) -> float:
        """How far the curvature of a problem is to be trusted, as a part of tol."""
        return GAIN_OWN if int(self.groups[problem]) in self.own else GAIN_FLAT

    def renew(self, walks: list[Walk], active: np.ndarray) -> None:
        """Where it is time, take the curvature at the walks' places; they go on from there."""
        for group in np.unique(self.groups[active]).tolist():
            which = active[self.groups[active] == group]
            if np.mean([walks[p].iterations for p in which]) < self.due[group]:
                continue
            self.due[group] *= 2.5
            places = np.array([walks[p].place for p in which])
            self.own[group] = class_curvature(self.losses, places, which)
            scaled = self.solve(np.array([walks[p].gradient for p in which]), which)
            for p, row in zip(which.tolist(), scaled, strict=True):
                walks[p].scaled = row
                walks[p].forget()
                walks[p].aim()


def minimise(
    losses: Losses, flat: FlatCurvature, start: np.ndarray, *, tol: float, max_iter: int
) -> list[Walk]:
    """Walk from `start` (P, O, D+1) until every problem has converged, stalled or run out.

    Converged: no entry of the gradient of the mean loss is above `tol` (scikit-learn's measure),
    and the quadratic model sees less than a part of tol x loss left to gain.
    """
    everyone = np.arange(len(start))
    curvatures = Curvatures(losses, flat)
    loss, gradient = losses.evaluate(start, everyone)
    scaled = curvatures.solve(gradient, everyone)
    walks = [
        Walk(*parts, losses.table.dtype)
        for parts in zip(start, loss.tolist(), gradient, scaled, strict=True)
    ]
    for walk in walks:
        _judge(walk, GAIN_FLAT, tol, max_iter)
    while len(active := np.array([p for p in everyone if not walks[p].end], dtype=int)):
        curvatures.renew(walks, active)
        trials = np.array([walks[p].trial for p in active])
        loss, gradient = losses.evaluate(trials, active)
        scaled = curvatures.solve(gradient, active)
        for row, p in enumerate(active.tolist()):
            _advance(walks[p], trials[row], float(loss[row]), gradient[row], scaled[row])
            _judge(walks[p], curvatures.gain(p), tol, max_iter)
    return walks


def _advance(
    walk: Walk, trial: np.ndarray, loss: float, gradient: np.ndarray, scaled: np.ndarray
) -> None:
    rounding = 50 * np.finfo(walk.dtype).eps ** (1.0 if walk.dtype == np.float64 else 1.1)
    if loss <= walk.loss + ARMIJO * walk.length * walk.slope + rounding * abs(walk.loss):
        walk.arrive(trial, loss, gradient, scaled)
    else:
        walk.shorten(loss)
        if walk.length < SHORTEST:
            if not walk.steps:
                walk.end = "stalled"
            walk.forget()
            walk.aim()


def _judge(walk: Walk, gain: float, tol: float, max_iter: int) -> None:
    # The smaller of two models' promises may be the noise of rounding in the remembered pairs.
    left = max(-walk.slope, float(np.vdot(walk.gradient, walk.scaled))) / 2
    if np.abs(walk.gradient).max() <= tol and left <= gain * tol * abs(walk.loss) + 1e-15:
        walk.end = "converged"
    elif walk.iterations >= max_iter and not walk.end:
        walk.end = "out of iterations"
