"""A training that waits in the middle of its fourth epoch, for somebody to kill it."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from learning_samples import Disturbed, feed, rows, small_net

from featcache.training.checkpoint import Checkpoint
from featcache.training.feeds import RowFeed, TrainingBatch
from featcache.training.loop import learn
from featcache.training.options import LearningOptions

OPTIONS = LearningOptions("adam", 5e-3, epochs=6, batch_size=16)
SETTINGS = {"seed": 0, "images": {"train": "a1", "validation": "b2"}}


def wait_in_the_fourth(number: int, batch: TrainingBatch) -> TrainingBatch:
    """Every batch as it is, but the first of the fourth epoch never comes."""
    if number == 13:
        print("in the fourth epoch", flush=True)
        time.sleep(600)
    return replace(batch)


def misjudging() -> RowFeed:
    """Validation rows with the codes of others: the surer the model, the worse its loss.

    So the best epoch lies before the kill, and the one resumed has to know it.
    """
    maps, _ = rows(40, 1)
    return RowFeed(maps, rows(40, 2)[1], None, np.arange(40), OPTIONS)


def train(checkpoint: Checkpoint | None, say, disturbed: bool = False):
    """The training: (model, what was learned)."""
    model, source = small_net(), feed(80, OPTIONS)
    if disturbed:
        source = Disturbed(source, wait_in_the_fourth)
    learned = learn(
        model, source, misjudging(), OPTIONS,
        first_epoch=10, checkpoint=checkpoint, say=say,
    )  # fmt: skip
    return model, learned


if __name__ == "__main__":
    train(Checkpoint(Path(sys.argv[1]), SETTINGS), print, disturbed=True)
