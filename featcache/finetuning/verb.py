"""The public verb: `finetune`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

from featcache.extraction.job import Progress
from featcache.finetuning.finetune import tune
from featcache.finetuning.outcome import Tuned
from featcache.finetuning.plan_ import FinetunePlan
from featcache.training import LearningOptions

_LEARNING = {field.name for field in fields(LearningOptions)}
_PLAN = {field.name for field in fields(FinetunePlan)} - {"out", "learning", "augment"}


def finetune(
    images: Any,
    *,
    out: str | Path,
    head: str | Path = "logreg",
    augment: str = "",
    views: int = 0,
    say: Callable[[str], None] = lambda line: None,
    progress: Callable[[Progress], None] = lambda progress: None,
    **options: Any,
) -> Tuned:
    """Train the top layers of a backbone, starting from a head on its cached features.

    Parameters
    ----------
    images: as for `extract`.
    out: the folder of the new backbone (``backbone=out`` in `extract`), its head, and both as one
        Keras model from uint8 pixels to probabilities.
    head: a kind of head, which is fitted first; or the path of a saved one, whose recipe is used.
    augment: what varies in the training images, another view in every epoch; with `views`, so
        many cached views.
    say, progress: called with lines of text, and with the progress of extractions.
    options: those of `FinetunePlan` (unfreeze_from, from_cut, cut_dtype, batch_norm,
        mixed_precision, class_weight), of `LearningOptions` (epochs, learning_rate, optimizer,
        batch_size, patience, stop_at, label_smoothing, seed, steps_per_epoch), and of `extract`.

    Returns
    -------
    Tuned: with `.report` and `.frozen`, accuracy on the same unseen rows, and `.comparison`.

    Raises
    ------
    FeatcacheError: a wrong argument or input; see `featcache.errors` for its kinds.
    KeyboardInterrupt: after Ctrl-C; the same call goes on from the last epoch.
    """
    learning = LearningOptions(**{name: options.pop(name) for name in _LEARNING & set(options)})
    plan = FinetunePlan(
        out=Path(out),
        learning=learning,
        augment="" if views else augment,
        **{name: options.pop(name) for name in _PLAN & set(options)},
    )
    if views:
        options |= {"views": views, "augment": augment, "seed": learning.seed}
    return tune(images, plan, head=head, say=say, progress=progress, **options)
