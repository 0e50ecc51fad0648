"""Tuning: from cached features and a head to a fine-tuned network, step by step."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from featcache.backbones import Network
from featcache.errors import FeatcacheError
from featcache.finetuning.cut import Choice, choose_cut
from featcache.finetuning.feeds import Feeds, feeds_of_pixels, feeds_of_rows
from featcache.finetuning.freezing import freeze, remarks_on
from featcache.finetuning.graphs import Graphs, gains_by_xla, mixed_precision
from featcache.finetuning.outcome import Tuned, recall_outcome, write_outcome
from featcache.finetuning.plan import Plan
from featcache.finetuning.proofs import check_joined, check_start
from featcache.finetuning.settings import settings_of
from featcache.finetuning.start import CHECKPOINT, Say, Start, begin
from featcache.heads.dense_training import keras_model_of, parameter_counts
from featcache.job import Progress
from featcache.learning import Checkpoint, Learned, learn
from featcache.probe import probe_pixels


def tune(
    images: Any,
    plan: Plan,
    *,
    head: str | Path = "logreg",
    say: Say = lambda line: None,
    progress: Callable[[Progress], None] = lambda progress: None,
    **options: Any,
) -> Tuned:
    """`finetune` with a plan; `options` are those of `extract`."""
    began = time.monotonic()
    start = begin(images, head, plan, options, say=say, progress=progress)
    low, high = start.report.interval
    say(f"frozen     accuracy {start.report.accuracy:.4f} ({low:.4f} to {high:.4f})")
    settings = settings_of(start, plan)
    if finished := recall_outcome(start, plan.out, settings):
        say(f"this fine-tuning is finished already: {plan.out} has what came out of it")
        tuned = finished
    else:
        tuned = _tuned(start, plan, settings, say)
    Checkpoint(plan.out / CHECKPOINT, settings).remove()
    return replace(tuned, seconds=time.monotonic() - began)


def _tuned(start: Start, plan: Plan, settings: dict[str, Any], say: Say) -> Tuned:
    """Freeze, cut, train, join, and write what came out."""
    graphs = _graphs(start, plan)
    frozen = freeze(graphs.base, plan.unfreeze_from)
    for remark in remarks_on(frozen, plan.learning.learning_rate):
        say(f"note: {remark}")
    choice = choose_cut(graphs.base, frozen, start, plan)
    counts = parameter_counts(graphs.whole)
    say(
        f"parameters {counts['total']:,} ({counts['trainable']:,} trainable, {counts['frozen']:,} "
        f"frozen); {len(frozen.learning)} of {frozen.total} layers learn, from {frozen.first} on"
    )
    say(choice.reason)
    model, feeds = _model_and_feeds(start, graphs, choice, plan, say)
    agreement = check_start(start, model, feeds, stored=plan.cut_dtype if choice.cut else "")
    say(agreement.words)
    cut = choice.cut.layer if choice.cut else None
    checkpoint = Checkpoint(plan.out / CHECKPOINT, {**settings, "cut": cut})
    compiled = choice.cut is not None and not plan.mixed_precision and gains_by_xla(model)
    if compiled:
        say("XLA compiles the part above the cut: the first epoch takes longer")
    learned = _learn(start, model, feeds, plan, checkpoint, compiled=compiled, say=say)
    if choice.cut:
        pixels = probe_pixels(start.features.recipe.decoding)[:2].astype(np.float32)
        error = check_joined(graphs.whole, (graphs.below(choice.cut), model), pixels)
        say(f"joined     the whole network gives what its two parts give, to {error:.1e}")
    about = {
        "unfreeze_from": frozen.first,
        "cut": cut,
        "parameters": counts,
        "start": asdict(agreement),
        "settings": settings,
    }
    say("writing the new backbone, and judging it as any other")
    return write_outcome(start, graphs, learned, plan.out, about)


def _graphs(start: Start, plan: Plan) -> Graphs:
    target = start.job.targets[0]
    network: Network = target.network.only([target.tap])
    head = keras_model_of(start.layers, plan.learning.seed, fixed_statistics=not plan.batch_norm)
    return Graphs(network, head, plan.batch_norm)


def _learn(
    start: Start,
    model: Any,
    feeds: Feeds,
    plan: Plan,
    checkpoint: Checkpoint,
    *,
    compiled: bool,
    say: Say,
) -> Learned:
    with mixed_precision(model, plan.mixed_precision):
        learned = learn(
            model,
            feeds.train,
            feeds.validation,
            plan.learning,
            first_epoch=start.epochs,
            history=start.history,
            checkpoint=checkpoint,
            compiled=compiled,
            say=say,
        )
    history = learned.history
    name = "val_loss" if feeds.validation else "loss"
    before, found = history[f"initial_{name}"][-1], history[name][start.epochs :]
    if before <= min(found):
        say(
            f"note: no epoch had a lower {'validation' if feeds.validation else 'training'} loss "
            f"than before the first ({before:.4f}): here the frozen network was better. A lower "
            f"--learning-rate, a later --unfreeze-from or --augment may help"
        )
    return learned


def _model_and_feeds(
    start: Start, graphs: Graphs, choice: Choice, plan: Plan, say: Say
) -> tuple[Any, Feeds]:
    if choice.cut is None:
        return graphs.whole, feeds_of_pixels(start, plan)
    say(f"extracting the activations at {choice.cut.layer}, once")
    activations = start.again(layer=choice.cut.layer, pooling="none", dtype=plan.cut_dtype)
    if activations.width != choice.cut.numbers:
        raise FeatcacheError(
            f"the layer {choice.cut.layer!r} has {activations.width} numbers an image, expected "
            f"{choice.cut.numbers}: run with --from-cut no, and report it, please"
        )
    return graphs.above(choice.cut), feeds_of_rows(start, activations, plan)
