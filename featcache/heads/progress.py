"""How a training goes: its history, its best epoch, and when to stop."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from featcache.errors import FeatcacheError
from featcache.heads.dense import DenseOptions

#: Loss and accuracy.
Pair = tuple[float, float]


@dataclass
class Progress:
    """The history of a training, and the weights of its best epoch.

    Attributes
    ----------
    validated: whether there are validation rows; without them, training loss decides.
    history: a list over the epochs for each of loss, accuracy, val_loss, val_accuracy; `initial_`
        ones hold the single value before the first epoch.
    best: the number of the best epoch, from 0.
    """

    options: DenseOptions
    validated: bool
    history: dict[str, list[float]] = field(default_factory=dict)
    best: int = 0
    best_weights: Any = None

    def begin(self, before: Pair) -> str:
        """Take note of the start, and say it."""
        prefix = "initial_val_" if self.validated else "initial_"
        self._note(prefix, before)
        return (
            f"before the first epoch: {self._word} loss {before[0]:.4f}, accuracy {before[1]:.4f}"
        )

    def add(self, learned: Pair, validation: Pair | None, model: Any) -> str:
        """Take note of an epoch, keep its weights if it is the best, and say it."""
        self._note("", learned)
        if validation:
            self._note("val_", validation)
        number, losses = len(self.history["loss"]), self._losses
        if not math.isfinite(losses[-1]) or not math.isfinite(learned[0]):
            raise FeatcacheError(
                f"the loss is no number any more after epoch {number}: lower --learning-rate "
                f"{self.options.learning_rate:g}, or give --standardize"
            )
        line = f"epoch {number}/{self.options.epochs}: loss {learned[0]:.4f}"
        line += f" accuracy {learned[1]:.4f}"
        if validation:
            line += f", validation loss {validation[0]:.4f} accuracy {validation[1]:.4f}"
        if losses[-1] <= min(losses):
            self.best, self.best_weights = number - 1, model.get_weights()
            line += " (best)"
        return line

    def reason_to_stop(self) -> str:
        """Why the training should stop now, "" where it should not."""
        epochs, patience, bar = len(self._losses), self.options.patience, self.options.stop_at
        if patience is not None and epochs - 1 - self.best >= patience:
            return f"stopped after epoch {epochs}: no better {self._word} loss in {patience} epochs"
        shown = ["accuracy", "val_accuracy"] if self.validated else ["accuracy"]
        if bar is not None and all(self.history[name][-1] > bar for name in shown):
            return f"stopped after epoch {epochs}: training and validation accuracy both pass {bar}"
        return ""

    @property
    def _word(self) -> str:
        return "validation" if self.validated else "training"

    @property
    def _losses(self) -> list[float]:
        return self.history["val_loss" if self.validated else "loss"]

    def _note(self, prefix: str, pair: Pair) -> None:
        for name, value in zip(("loss", "accuracy"), pair, strict=True):
            self.history.setdefault(prefix + name, []).append(value)
