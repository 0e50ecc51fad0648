"""Small things to learn from: labelled maps, nets, and feeds that break on purpose."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from featcache.backbones.keras_import import import_keras
from featcache.training.feeds import RowFeed, TrainingBatch
from featcache.training.options import LearningOptions

SHAPE = (6, 6, 3)


def rows(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(count, 6, 6, 3) float16 maps of two classes that can be told apart, and their codes."""
    random = np.random.default_rng(seed)
    codes = random.integers(2, size=count)
    maps = random.normal(size=(count, *SHAPE)) + 0.5 * (codes - 0.5)[:, None, None, None]
    return maps.astype(np.float16), codes


def feed(count: int, options: LearningOptions, seed: int = 0) -> RowFeed:
    """A feed of such maps, one an image."""
    maps, codes = rows(count, seed)
    return RowFeed(maps, codes, None, np.arange(count), options)


def small_net(outputs: int = 2, *, noise: bool = True):
    """Convolution, BatchNorm, dropout and a dense layer, always with the same weights."""
    keras = import_keras()
    keras.utils.set_random_seed(7)
    layers = [
        keras.Input(SHAPE),
        keras.layers.Conv2D(4, 3, name="convolution"),
        keras.layers.BatchNormalization(momentum=0.9, name="normalised"),
        keras.layers.ReLU(),
        keras.layers.Flatten(),
        keras.layers.Dropout(0.3),
        keras.layers.Dense(outputs, name="logits"),
    ]
    if not noise:
        del layers[5], layers[2]
    return keras.Sequential(layers)


@dataclass(frozen=True)
class Disturbed:
    """A feed whose epochs are changed by a function of their number and a batch."""

    source: RowFeed
    change: Callable[[int, TrainingBatch], TrainingBatch]

    def __len__(self) -> int:
        return len(self.source)

    def epoch(self, number: int) -> Iterator[TrainingBatch]:
        for batch in self.source.epoch(number):
            yield self.change(number, batch)

    def plain(self) -> Iterator[TrainingBatch]:
        return self.source.plain()


def broken_in(epoch: int) -> Callable[[int, TrainingBatch], TrainingBatch]:
    """Inputs that are no numbers, in one epoch."""

    def change(number: int, batch: TrainingBatch) -> TrainingBatch:
        return replace(batch, inputs=batch.inputs * np.float16("nan")) if number == epoch else batch

    return change
