"""Draft: what is to be fine-tuned, checked before anything is computed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from featcache.backbones import Network
from featcache.backbones.tuned import check_writable
from featcache.errors import FeatcacheError
from featcache.extraction.extract import extract_options_of, prepare
from featcache.extraction.job import Job, Progress
from featcache.finetuning.folder import check_folder
from featcache.finetuning.layers import LAYERED, as_layers
from featcache.finetuning.plan import check_earlier, plan_settings
from featcache.finetuning.plan_ import FinetunePlan
from featcache.heads.head import Head
from featcache.heads.kinds import HEADS

Say = Callable[[str], None]
Watch = Callable[[Progress], None]

#: Classes of a given head that are named.
NAMED = 8


@dataclass(frozen=True, eq=False)
class Draft:
    """What is to be fine-tuned.

    Attributes
    ----------
    images, options: what `extract` is given for the features; `job` is that extraction.
    head: a saved one, whose recipe is used; None: one of the kind `kind` is fitted first.
    watch: called with the progress of every extraction.
    """

    images: Any
    options: dict[str, Any]
    job: Job
    head: Head | None
    kind: str
    watch: Watch

    @cached_property
    def network(self) -> Network:
        """The network up to the layer that the head reads."""
        target = self.job.targets[0]
        return target.network.only([target.tap])


def look(
    images: Any,
    head: str | Path,
    plan: FinetunePlan,
    options: dict[str, Any],
    *,
    say: Say,
    watch: Watch,
) -> Draft:
    """Find the images and the network, and check what can be checked before an extraction.

    `head` is a kind of head, or the path of a saved one, whose recipe is then used; `options` are
    those of `extract`.

    Raises `FeatcacheError` where the head cannot become layers, options exclude each other, or
    an earlier fine-tuning with other options lies in the plan's folder.
    """
    check_folder(plan.out, images, options.get("cache"))
    check_earlier(plan.out, plan_settings(plan))
    if options.get("views") and plan.from_cut == "no":
        raise FeatcacheError(
            "--views are cached, and go with the cut (--from-cut yes): for a new view in every "
            "epoch leave --views out and keep --augment"
        )
    given = _given(head)
    if given:
        options = {**extract_options_of(given.recipe, given.source.weights_hint), **options}
        say(f"the head {given.path}: {given.kind}, {_named(given.classes)}")
    job = prepare(images, **options)
    _check_job(job)
    check_writable(job.targets[0].network)
    return Draft(images, options, job, given, str(head), watch)


def _given(head: str | Path) -> Head | None:
    """The saved head; None where `head` is a kind of head that can become layers."""
    if str(head) in LAYERED:
        return None
    if str(head) in HEADS:
        raise FeatcacheError(
            f"--head {head}: this kind cannot become layers: fine-tune from one of "
            f"{', '.join(LAYERED)}"
        )
    given = Head.load(head)
    as_layers(given.model)
    return given


def _named(classes: list[str]) -> str:
    more = len(classes) - NAMED
    return ", ".join(classes[:NAMED]) + (f" and {more} more" if more > 0 else "")


def _check_job(job: Job) -> None:
    if len(job.targets) != 1:
        raise FeatcacheError("--layer: fine-tuning takes one layer, that the head reads")
    recipe = job.targets[0].recipe
    if recipe.precision != "float32":
        raise FeatcacheError(
            f"--precision {recipe.precision}: fine-tuning begins with float32 features; on a GPU, "
            f"--mixed-precision float16 makes the training itself faster"
        )
