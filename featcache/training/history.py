"""How a training goes: its history, its best epoch, and when to stop."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from featcache.training.options import LearningOptions

#: Loss and accuracy.
Pair = tuple[float, float]
#: Lists over the epochs; None where an earlier training did not note a quantity.
History = dict[str, list[Any]]


@dataclass
class TrainingHistory:
    """The history of a training.

    Attributes
    ----------
    validated: whether there are validation rows; without them, training loss decides.
    history: a list over the epochs for each of loss, accuracy, val_loss, val_accuracy; `initial_`
        ones hold the single value before the first epoch. Where this training follows another
        one, that one's history stands first in each list.
    first_epoch: epochs of the training before, from which the count goes on.
    done: epochs of this training.
    best: the number of its best epoch, from 0 for the very first one.
    """

    options: LearningOptions
    validated: bool
    history: History = field(default_factory=dict)
    first_epoch: int = 0
    done: int = 0
    best: int = 0

    def begin(self, before: Pair) -> str:
        """Take note of the start, and say it."""
        prefix = "initial_val_" if self.validated else "initial_"
        for name, value in zip(("loss", "accuracy"), before, strict=True):
            self.history.setdefault(prefix + name, []).append(value)
        which = "before the first epoch" if not self.first_epoch else f"before epoch {self.next}"
        return f"{which}: {self._word} loss {before[0]:.4f}, accuracy {before[1]:.4f}"

    @property
    def next(self) -> int:
        """The number of the epoch that follows, from 1, as it is shown."""
        return self.first_epoch + self.done + 1

    @property
    def is_best(self) -> bool:
        """Whether the last epoch was the best one so far."""
        return self.best == self.first_epoch + self.done - 1

    @property
    def before(self) -> float:
        """The loss before the first epoch of this training."""
        return float(self.history["initial_val_loss" if self.validated else "initial_loss"][-1])

    def add(self, learned: Pair, validation: Pair | None) -> str:
        """Take note of an epoch, and say it; its numbers are sound (see `is_finite`)."""
        line = f"epoch {self.next}/{self.first_epoch + self.options.epochs}: "
        self._note("", learned)
        line += f"loss {learned[0]:.4f} accuracy {learned[1]:.4f}"
        if validation:
            self._note("val_", validation)
            line += f", validation loss {validation[0]:.4f} accuracy {validation[1]:.4f}"
        self.done += 1
        if self._losses[-1] <= min(self._losses):
            self.best = self.first_epoch + self.done - 1
            line += " (best)"
        return line

    def reason_to_stop(self) -> str:
        """Why the training should stop now, "" where it should not."""
        patience, bar = self.options.patience, self.options.stop_at
        number = self.first_epoch + self.done
        if patience is not None and self.done and number - 1 - self.best >= patience:
            return f"stopped after epoch {number}: no better {self._word} loss in {patience} epochs"
        shown = ["accuracy", "val_accuracy"] if self.validated else ["accuracy"]
        if bar is not None and self.done and all(self.history[name][-1] >= bar for name in shown):
            which = "training and validation accuracy both reach"
            if not self.validated:
                which = "training accuracy reaches"
            return f"stopped after epoch {number}: {which} {bar}"
        return ""

    @property
    def _word(self) -> str:
        return "validation" if self.validated else "training"

    @property
    def _losses(self) -> list[float]:
        return self.history["val_loss" if self.validated else "loss"][-self.done :]

    def _note(self, prefix: str, pair: Pair) -> None:
        for name, value in zip(("loss", "accuracy"), pair, strict=True):
            values = self.history.setdefault(prefix + name, [])
            # The training before may have had no validation rows: its epochs stay empty.
            values += [None] * (len(self.history["loss"]) - 1 - len(values)) if prefix else []
            values.append(value)


def is_finite(*pairs: Pair | None) -> bool:
    """Whether every loss is a number still."""
    return all(pair is None or math.isfinite(pair[0]) for pair in pairs)
