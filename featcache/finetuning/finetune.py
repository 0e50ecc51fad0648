"""finetune: from cached features and a head to a fine-tuned network, step by step."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any, Unpack

from featcache.errors import FeatcacheError
from featcache.extraction.job import Progress
from featcache.finetuning.cut import (
    CutChoice,
    Feeds,
    check_cut,
    choose_cut,
    feeds_of_pixels,
    feeds_of_rows,
    same_cut,
)
from featcache.finetuning.freezing import Freeze, freeze, remarks_on
from featcache.finetuning.graphs import Graphs, check_can_be_saved, gains_by_xla, mixed_precision
from featcache.finetuning.options import FinetuneOptions
from featcache.finetuning.outcome import Tuned, is_finished, recall_outcome, write_outcome
from featcache.finetuning.plan import CHECKPOINT, FinetunePlan
from featcache.finetuning.proofs import check_joined, check_start, rounding_at_start
from featcache.finetuning.start import Draft, Say, Start, begin, look
from featcache.heads.dense_training import keras_model_of
from featcache.options import takes
from featcache.training.checkpoint import Checkpoint
from featcache.training.loop import Learned, learn
from featcache.training.options import LearningOptions
from featcache.training.state import parameter_counts

_LEARNING = {field.name for field in fields(LearningOptions)}
_PLAN = {field.name for field in fields(FinetunePlan)} - {"out", "learning"}


@takes(FinetuneOptions)
def finetune(
    images: Any,
    *,
    out: str | Path,
    backbone: str | None = None,
    layer: str = "",
    head: str | Path = "logreg",
    say: Callable[[str], None] = lambda line: None,
    progress: Callable[[Progress], None] = lambda progress: None,
    **options: Unpack[FinetuneOptions],
) -> Tuned:
    """Train the top layers of a backbone, starting from a head on its cached features.

    Parameters
    ----------
    images: as for `extract`.
    out: the folder of the new backbone (``backbone=out`` in `extract`), its head, and both as one
        Keras model from uint8 pixels to probabilities.
    backbone, layer: the network and the layer that the head reads, where none is saved yet.
    head: a kind of head, which is fitted first; or the path of a saved one, whose recipe is used.
    say, progress: called with lines of text, and with the progress of extractions.
    options: those of `FinetuneOptions`.

    Returns
    -------
    Tuned: with `.report` and `.frozen`, accuracy on the same unseen rows, and `.comparison`.

    Raises
    ------
    FeatcacheError: a wrong argument or input; see `featcache.errors` for its kinds.
    KeyboardInterrupt: after Ctrl-C; the same call goes on from the last epoch.
    """
    began = time.monotonic()
    asked = {**options, "backbone": backbone, "layer": layer or None}
    given = {name: value for name, value in asked.items() if value is not None}
    plan = _plan(Path(out), given)
    draft = look(images, head, plan, given, say=say, watch=progress)
    if is_finished(plan.out):
        tuned = recall_outcome(begin(draft, plan, say=say), plan.out)
        say(f"this fine-tuning is finished already: {plan.out} has what came out of it")
    else:
        frozen = _frozen(draft, plan, say)
        tuned = _tuned(begin(draft, plan, say=say), plan, frozen, say)
    Checkpoint(plan.out / CHECKPOINT, {}).remove()
    return replace(tuned, seconds=time.monotonic() - began)


def _plan(out: Path, given: dict[str, Any]) -> FinetunePlan:
    """The plan, whose options are taken out of what is given: those of `extract` are left."""
    learning = LearningOptions(**{name: given.pop(name) for name in _LEARNING & set(given)})
    of_plan = {name: given.pop(name) for name in _PLAN & set(given)}
    if given.get("views"):  # cached views are rows; otherwise every epoch shows another view
        given |= {"augment": of_plan.pop("augment", ""), "seed": learning.seed}
    return FinetunePlan(out=out, learning=learning, **of_plan)


def _frozen(draft: Draft, plan: FinetunePlan, say: Say) -> Freeze:
    """Which layers learn; what is wrong with that is said before the images are read."""
    frozen = freeze(draft.network.base, plan.unfreeze_from)
    for remark in remarks_on(frozen, plan.learning.learning_rate):
        say(f"note: {remark}")
    check_cut(draft.network.base, frozen, plan, cached_views=draft.job.views.count > 0)
    return frozen


def _tuned(start: Start, plan: FinetunePlan, frozen: Freeze, say: Say) -> Tuned:
    """Cut, train, join, and write what came out."""
    low, high = start.report.interval
    say(f"frozen     accuracy {start.report.accuracy:.4f} ({low:.4f} to {high:.4f})")
    head = keras_model_of(start.layers, plan.learning.seed, fixed_statistics=not plan.batch_norm)
    graphs = Graphs(start.draft.network, head, plan.batch_norm)
    check_can_be_saved(graphs.plain, start.features.recipe.decoding)
    checkpoint = Checkpoint(plan.out / CHECKPOINT, start.settings)
    choice = _choice(graphs, frozen, start, plan, checkpoint)
    counts = parameter_counts(graphs.whole)
    say(
        f"parameters {counts['total']:,} ({counts['trainable']:,} trainable, {counts['frozen']:,} "
        f"frozen); {len(frozen.learning)} of {frozen.total} layers learn, from {frozen.first} on"
    )
    say(choice.reason)
    model, feeds = _model_and_feeds(start, graphs, choice, plan, say)
    if choice.cut:
        parts = (graphs.below(choice.cut), model)
        error = check_joined(start, graphs.whole, parts, rounding=rounding_at_start(start))
        say(f"joined     the whole network gives what its two parts give, to {error:.1e}")
    agreement = check_start(start, model, feeds, stored=plan.cut_dtype if choice.cut else "")
    say(agreement.words)
    cut = choice.cut.layer if choice.cut else None
    checkpoint = replace(checkpoint, settings={**start.settings, "cut": cut})
    learned = _learn(start, model, feeds, plan, checkpoint, say=say)
    about = {
        "unfreeze_from": frozen.first,
        "cut": cut,
        "parameters": counts,
        "start": asdict(agreement),
        "settings": start.settings,
    }
    say("writing the new backbone, and judging it as any other")
    return write_outcome(start, graphs, learned, plan.out, about)


def _choice(
    graphs: Graphs, frozen: Freeze, start: Start, plan: FinetunePlan, checkpoint: Checkpoint
) -> CutChoice:
    """The cut; that of an interrupted run is kept, whatever room the disk has left meanwhile."""
    there = checkpoint.settings_there()
    if there is None:
        return choose_cut(graphs.base, frozen, start, plan)
    return same_cut(graphs.base, there.get("cut"))


def _learn(
    start: Start,
    model: Any,
    feeds: Feeds,
    plan: FinetunePlan,
    checkpoint: Checkpoint,
    *,
    say: Say,
) -> Learned:
    images = len(feeds.train) * plan.learning.epochs
    compiled = not plan.mixed_precision and gains_by_xla(model, images)
    if compiled:
        say("XLA compiles what is trained: the first epoch takes longer")
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
    _say_worse(learned, start, validated=feeds.validation is not None, say=say)
    return learned


def _say_worse(learned: Learned, start: Start, *, validated: bool, say: Say) -> None:
    """Say where no epoch was better than the frozen network, as far as its loss can tell."""
    name, word = ("val_loss", "validation") if validated else ("loss", "training")
    before = learned.history[f"initial_{name}"][-1]
    if before <= min(learned.history[name][start.epochs :]):
        say(
            f"note: no epoch had a lower {word} loss than before the first ({before:.4f}). A lower "
            f"--learning-rate, a later --unfreeze-from or --augment may help"
        )


def _model_and_feeds(
    start: Start, graphs: Graphs, choice: CutChoice, plan: FinetunePlan, say: Say
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
    folder = activations.path.parent
    say(f"they are in {folder}; `featcache rm` deletes them when they are no longer needed")
    return graphs.above(choice.cut), feeds_of_rows(start, activations, plan)
