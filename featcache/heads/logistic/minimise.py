"""L-BFGS for many problems at once: each walks by itself, all are evaluated together.

Every evaluation reads the matrix once for all problems that are not finished. The memory of past
steps is kept as inner products (Chen, Wang, Zhou: Large-scale L-BFGS using MapReduce), so that a
step costs four small matrix products.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from featcache.heads.logistic.curvature import ClassCurvature, FlatCurvature, class_curvatures
from featcache.heads.logistic.losses import Losses

#: Past steps that are remembered.
MEMORY = 10
#: Part of the promised decrease that a step must bring.
ARMIJO = 1e-4
#: What is left to gain, as the quadratic model has it, must be below this part of loss_tol x loss.
#: With the flat curvature the model is up to 60 times too hopeful, with that of the place up to 5
#: times (measured).
GAIN_FLAT, GAIN_OWN = 0.01, 0.2
#: Steps before the curvature of the constant model may be replaced by that of the place.
PATIENCE = 15
#: After this many times as many steps it is taken again.
RENEWAL = 2.5
#: Neighbouring values of C whose curvature is taken at one place, halfway between theirs.
SHARING = 2
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
    dtype: np.dtype[Any]
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

    def restart(self, scaled: np.ndarray) -> None:
        """Go on with another curvature, of which `scaled` is the inverse times the gradient."""
        self.scaled = scaled
        self.forget()
        self.aim()

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


@dataclass(frozen=True, slots=True)
class Goal:
    """When a walk has arrived: see `minimise`."""

    tol: float
    loss_tol: float
    max_iter: int


@dataclass(eq=False)
class Curvatures:
    """The curvature that every problem uses: at first the flat one, later that of its place.

    Curvature at a place costs some evaluations of its problems, so it is looked for when about as
    many have been spent: renting first, then buying. It serves all folds of a C.
    """

    losses: Losses
    flat: FlatCurvature
    own: dict[int, ClassCurvature] = field(default_factory=dict)
    due: dict[int, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        table = self.losses.table
        rows, width = table.vectors.shape
        # The C of each problem, but for rounding.
        Cs = 1 / (self.losses.penalties * table.totals[self.losses.folds])
        _, self.groups = np.unique(np.log(Cs).round(6), return_inverse=True)
        count = int(self.groups.max()) + 1
        size = count * table.outputs * (width + 1) ** 2
        first = max(PATIENCE, 0.4 * width**2 / rows * count / len(self.groups))
        self.due = dict.fromkeys(range(count), first if size <= BLOCKS else np.inf)

    def solve(self, gradient: np.ndarray, which: np.ndarray) -> np.ndarray:
        """The problem's curvature inverted, times its gradient: (A, O, D+1)."""
        scaled = np.empty_like(gradient)
        groups, blocks = self.groups[which], self.losses.blocks

        def invert(share: tuple[FlatCurvature | ClassCurvature, np.ndarray]) -> None:
            curvature, rows = share
            scaled[rows] = curvature.solve(gradient[rows], self.losses.penalties[which[rows]])

        flat = np.flatnonzero(~np.isin(groups, list(self.own)))
        shares: list[tuple[FlatCurvature | ClassCurvature, np.ndarray]] = [
            (self.flat, rows) for rows in np.array_split(flat, len(blocks.shares)) if len(rows)
        ]
        shares += [
            (own, np.flatnonzero(groups == group))
            for group, own in self.own.items()
            if (groups == group).any()
        ]
        list(blocks.pool.map(invert, shares))
        return scaled

    def gain(self, problem: int) -> float:
        """How far the curvature of a problem is to be trusted, as a part of tol."""
        return GAIN_OWN if int(self.groups[problem]) in self.own else GAIN_FLAT

    def renew(self, walks: list[Walk], active: np.ndarray) -> None:
        """Where it is time, take the curvature at the walks' places; they go on from there."""
        members = {
            group: active[self.groups[active] == group]
            for group in np.unique(self.groups[active]).tolist()
        }
        due = [
            group
            for group, which in members.items()
            if np.mean([walks[p].iterations for p in which]) >= self.due[group]
        ]
        for start in range(0, len(due), SHARING):
            some = due[start : start + SHARING]
            places = np.array([walks[p].place for group in some for p in members[group]])
            found = class_curvatures(self.losses, places, [members[group] for group in some])
            for group, curvature in zip(some, found, strict=True):
                self.due[group] *= RENEWAL
                self.own[group] = curvature
        if due:
            which = np.concatenate([members[group] for group in due])
            scaled = self.solve(np.array([walks[p].gradient for p in which]), which)
            for p, row in zip(which.tolist(), scaled, strict=True):
                walks[p].restart(row)


def minimise(losses: Losses, flat: FlatCurvature, start: np.ndarray, goal: Goal) -> list[Walk]:
    """Walk from `start` (P, O, D+1) until every problem has converged, stalled or run out.

    Converged: no entry of the gradient of the mean loss is above `tol` (scikit-learn's measure),
    and the quadratic model sees less than a part of `loss_tol` x loss left to gain, or rounding
    hides it.
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
        _judge(walk, GAIN_FLAT, goal)
    while len(active := np.array([p for p in everyone if not walks[p].end], dtype=int)):
        curvatures.renew(walks, active)
        trials = np.array([walks[p].trial for p in active])
        loss, gradient = losses.evaluate(trials, active)
        scaled = curvatures.solve(gradient, active)
        for row, p in enumerate(active.tolist()):
            _advance(walks[p], trials[row], float(loss[row]), gradient[row], scaled[row])
            _judge(walks[p], curvatures.gain(p), goal)
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


def _judge(walk: Walk, gain: float, goal: Goal) -> None:
    # The smaller of two models' promises may be the noise of rounding in the remembered pairs.
    left = max(-walk.slope, float(np.vdot(walk.gradient, walk.scaled))) / 2
    is_near = left <= gain * goal.loss_tol * abs(walk.loss) + 1e-15
    # Where the precision allows no better step, scikit-learn's measure alone decides.
    if np.abs(walk.gradient).max() <= goal.tol and (is_near or walk.end == "stalled"):
        walk.end = "converged"
    elif walk.iterations >= goal.max_iter and not walk.end:
        walk.end = "out of iterations"
