"""The loop: a model learns from a feed, epoch by epoch, and keeps the best of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from featcache.errors import FeatcacheError
from featcache.training.checkpoint import Checkpoint, Saved
from featcache.training.feeds import Feed, TrainingBatch
from featcache.training.history import History, Pair, TrainingHistory, is_finite
from featcache.training.options import LearningOptions
from featcache.training.state import assign, changing_weights, seed_generators, values_of
from featcache.training.steps import Graph, Steps, mean_of

#: A loss so many times that of guessing, or that of the start, is no training any more.
DIVERGED = 100.0
#: Seconds after which an epoch under way says how far it is.
PULSE = 60.0

Say = Callable[[str], None]


@dataclass(frozen=True)
class Learned:
    """How a training went; the model has the weights of its best epoch.

    Attributes
    ----------
    history: by epoch, "loss", "accuracy", "val_loss", "val_accuracy", the training before first;
        "initial_..." hold the values before the first epoch of each training.
    best_epoch: its number as it was shown, counted from 1 over both trainings.
    first_epoch: epochs of the training before.
    epochs_run: epochs of this one.
    seconds: of each of those, with its judging; the first one's include the tracing of graphs.
    trouble: why the training broke off, "" where it did not.
    """

    history: History
    best_epoch: int
    first_epoch: int
    epochs_run: int
    seconds: list[float]
    trouble: str = ""


def learn(
    model: Any,
    train: Feed,
    validation: Feed | None,
    options: LearningOptions,
    *,
    first_epoch: int = 0,
    history: History | None = None,
    checkpoint: Checkpoint | None = None,
    compiled: bool = False,
    say: Say,
) -> Learned:
    """Train a model; it then has the weights of the epoch with the best validation loss.

    Parameters
    ----------
    model: a Keras model from a batch of inputs to logits (n, K), or (n, 1) where a sigmoid tells
        two classes apart. Its `trainable` flags say what learns. It need not be compiled.
    validation: what judges an epoch; None: the loss while training does.
    first_epoch: epochs of the training before, such as the head's: the count goes on from there,
        in what is shown, in the order of the images and in the numbers of their views.
    history: of that training.
    checkpoint: where every epoch is saved, and where an interrupted training goes on from.
    compiled: XLA compiles the step that learns.

    Raises
    ------
    FeatcacheError: the very first epoch diverged; the checkpoint is another training's.
    `DamagedFile`, `StorageFailure`: the checkpoint cannot be read or written.
    """
    progress = TrainingHistory(
        options,
        validated=validation is not None,
        history={name: list(values) for name, values in (history or {}).items()},
        first_epoch=first_epoch,
    )
    steps = Steps.of(model, options, compiled=compiled)
    training = _Training(model, options, steps, progress, say, changing_weights(model))
    saved = checkpoint.load() if checkpoint else None
    if saved and checkpoint:
        training.resume(saved)
        say(f"going on after epoch {progress.next - 1}, from {checkpoint.path}")
    else:
        say(progress.begin(training.measure(validation or train)))
    try:
        trouble = training.run(train, validation, checkpoint)
    except KeyboardInterrupt as stop:
        raise KeyboardInterrupt(_interrupted(progress, checkpoint)) from stop
    assign(training.changing, training.best)
    return Learned(
        history=progress.history,
        best_epoch=progress.best + 1,
        first_epoch=first_epoch,
        epochs_run=progress.done,
        seconds=training.seconds,
        trouble=trouble,
    )


def _interrupted(progress: TrainingHistory, checkpoint: Checkpoint | None) -> str:
    words = f"interrupted in epoch {progress.next}"
    if checkpoint is None or not checkpoint.path.exists():
        return f"{words}: nothing is saved"
    return f"{words}: run the same command to go on from the last epoch that is saved"


@dataclass
class _Training:
    """A training under way.

    `weights` and `best` hold the `changing` variables' values after the last epoch and the best.
    """

    model: Any
    options: LearningOptions
    steps: Steps
    progress: TrainingHistory
    say: Say
    changing: list[Any]
    seconds: list[float] = field(default_factory=list)
    weights: list[np.ndarray] = field(default_factory=list)
    best: list[np.ndarray] = field(default_factory=list)

    def run(self, train: Feed, validation: Feed | None, checkpoint: Checkpoint | None) -> str:
        """The epochs that are left; returns what went wrong, "" where nothing did."""
        while self.progress.done < self.options.epochs:
            if reason := self.progress.reason_to_stop():
                self.say(reason)
                break
            began = time.monotonic()
            learned = self._epoch(train)
            in_training = time.monotonic() - began
            found = self.measure(validation) if validation and is_finite(learned) else None
            self.weights = values_of(self.changing)
            if trouble := self._trouble(learned, found):
                return trouble
            self.seconds.append(time.monotonic() - began)
            line = self.progress.add(learned, found)
            spent = f"{self.seconds[-1]:.1f} s"
            self.say(f"{line}, {spent}" + (f" ({in_training:.1f} s training)" if found else ""))
            if self.progress.is_best:
                self.best = self.weights
            if checkpoint:
                checkpoint.save(self.saved())
        return ""

    def _epoch(self, train: Feed) -> tuple[float, float]:
        """One epoch: mean loss and accuracy while the weights change, as Keras has them."""
        number = self.progress.next - 1
        seed_generators(self.model, seed=self.options.seed, epoch=number)
        count = self.options.images_per_epoch or len(train)
        pulse = _Pulse(self.say, f"epoch {number + 1}", count)
        return mean_of(_total(self.steps.learn, train.epoch(number), pulse))

    def measure(self, feed: Feed) -> tuple[float, float]:
        """Loss and accuracy of the model as it is."""
        return mean_of(_total(self.steps.judge, feed.plain()))

    def _trouble(self, learned: Pair, found: Pair | None) -> str:
        """Why the training cannot go on after these losses, "" where it can.

        Raises `FeatcacheError` in the first epoch: there is nothing to keep.
        """
        words, progress = self._what_is_wrong(learned, found), self.progress
        if not words:
            return ""
        words = f"{words} in epoch {progress.next}"
        advice = f"lower --learning-rate {self.options.learning_rate:g}"
        if not progress.done:
            raise FeatcacheError(f"{words}, the first one: {advice}")
        words += f": the training stopped, and epoch {progress.best + 1} is kept; {advice}"
        self.say(words)
        return words

    def _what_is_wrong(self, learned: Pair, found: Pair | None) -> str:
        if not is_finite(learned, found):
            return "the loss is not a number any more"
        if not all(np.isfinite(values).all() for values in self.weights):
            return "weights are not numbers any more"
        # The loss where all classes are as likely.
        guessing = float(np.log(max(2, self.model.output_shape[-1])))
        loss, limit = (found or learned)[0], DIVERGED * guessing
        if loss > max(limit, DIVERGED * self.progress.before):
            return f"the training has diverged: the loss is {loss:.3g}, {limit:.3g} is hopeless"
        return ""

    def saved(self) -> Saved:
        """Everything that the next epoch depends on."""
        progress = self.progress
        return Saved(
            weights=self.weights,
            optimizer=values_of(self.steps.optimizer.variables),
            best=[] if progress.is_best else self.best,
            progress={
                "history": progress.history,
                "done": progress.done,
                "best": progress.best,
                "seconds": self.seconds,
            },
        )

    def resume(self, saved: Saved) -> None:
        """Restore the state of the saved training."""
        assign(self.changing, saved.weights)
        assign(self.steps.optimizer.variables, saved.optimizer)
        self.best = saved.best or saved.weights
        self.progress.history = saved.progress["history"]
        self.progress.done = saved.progress["done"]
        self.progress.best = saved.progress["best"]
        self.seconds = saved.progress["seconds"]


@dataclass
class _Pulse:
    """A line now and then while an epoch takes its time."""

    say: Say
    name: str
    images: int
    began: float = field(default_factory=time.monotonic)
    lines: int = 0

    def __call__(self, sums: np.ndarray) -> None:
        spent = time.monotonic() - self.began
        if sums[2] and spent >= PULSE * (self.lines + 1):
            self.lines += 1
            left = spent * (self.images / sums[2] - 1)
            self.say(
                f"{self.name}: {sums[2]:,.0f} of {self.images:,} images, loss "
                f"{sums[0] / sums[2]:.4f}, about {left:.0f} s left"
            )


def _total(
    graph: Graph, batches: Iterable[TrainingBatch], tell: Callable[[np.ndarray], None] | None = None
) -> np.ndarray:
    """Sums over the batches, up to the first that are no numbers."""
    total, under_way = np.zeros(3), None
    for batch in batches:
        result = graph(batch)
        # One step behind: a GPU computes while the next batch is fetched.
        if under_way is not None:
            total += under_way.numpy()
        if not np.isfinite(total[0]):
            return total
        if tell:
            tell(total)
        under_way = result
    return total if under_way is None else total + under_way.numpy()
