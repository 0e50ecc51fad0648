"""L-BFGS for many problems at once: each walks by itself, all are evaluated together.

Every evaluation reads the matrix once for all problems that are not finished. The memory of past
steps is kept as inner products (Chen, Wang, Zhou: Large-scale L-BFGS using MapReduce), so that a
step costs four small matrix products.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from featcache.heads.logistic.curvature import ClassCurvature, FlatCurvature, class_curvatures
from featcache.heads.logistic.losses import Losses
from featcache.heads.logistic.walk import Walk

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
        self._restart(walks, np.concatenate([members[group] for group in due] or [active[:0]]))

    def _restart(self, walks: list[Walk], which: np.ndarray) -> None:
        if len(which):
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
