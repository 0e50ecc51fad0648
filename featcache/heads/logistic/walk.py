"""Walk: one problem's way downhill by L-BFGS.

The memory of past steps is kept as inner products (Chen, Wang, Zhou: Large-scale L-BFGS using
MapReduce), so that a step costs four small matrix products.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

#: Past steps that are remembered.
MEMORY = 10


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
