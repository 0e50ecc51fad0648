"""The options of a training in epochs, checked."""

from __future__ import annotations

from dataclasses import dataclass

from featcache.errors import above_zero, at_least, checked_seed, one_of, share

OPTIMIZERS = ("adam", "rmsprop", "sgd")


@dataclass(frozen=True)
class LearningOptions:
    """How a model is trained.

    Parameters
    ----------
    epochs: how many this training adds.
    patience: stop after so many epochs without a better validation loss; None: never.
    stop_at: stop when training and validation accuracy both reach it; None: never.
    label_smoothing: share of each label that is spread over all classes.
    seed: of the order, of the augmented views and of the model's own random numbers.
    steps_per_epoch: batches in an epoch; None: every image once.

    Raises `FeatcacheError` that names the option.
    """

    optimizer: str = "rmsprop"
    learning_rate: float = 1e-5
    epochs: int = 10
    batch_size: int = 32
    patience: int | None = None
    stop_at: float | None = None
    label_smoothing: float = 0.0
    seed: int = 0
    steps_per_epoch: int | None = None

    def __post_init__(self) -> None:
        one_of("--optimizer", self.optimizer, OPTIMIZERS)
        above_zero("--learning-rate", self.learning_rate, "0.00001")
        at_least("--epochs", self.epochs, 1)
        at_least("--batch-size", self.batch_size, 1)
        checked_seed(self.seed)
        share("--label-smoothing", self.label_smoothing)
        if self.patience is not None:
            at_least("--patience", self.patience, 1)
        if self.stop_at is not None:
            share("--stop-at", self.stop_at, one=True)
        if self.steps_per_epoch is not None:
            at_least("--steps-per-epoch", self.steps_per_epoch, 1)

    @property
    def images_per_epoch(self) -> int | None:
        """Images that an epoch shows; None: every image once."""
        return self.steps_per_epoch and self.steps_per_epoch * self.batch_size
