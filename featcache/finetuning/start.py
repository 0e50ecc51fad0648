"""Start: what is fine-tuned, checked; the cached features, who trains and judges, a head."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from featcache.backbones.network import Network
from featcache.backbones.tuned import check_writable
from featcache.errors import FeatcacheError
from featcache.evaluation.evaluate import judge, prefixes
from featcache.evaluation.report import Report
from featcache.extraction.extract import extract_options_of, prepare
from featcache.extraction.job import Extraction, Job, Progress, failure_lines
from featcache.extraction.update import run_job
from featcache.features.features import Features
from featcache.features.splits.roles import Roles, assign_roles
from featcache.features.splits.ties import Ties, find_ties
from featcache.files.folders import check_no_link
from featcache.finetuning.graphs import LAYERED, as_layers
from featcache.finetuning.plan import (
    FinetunePlan,
    FinetuneSettings,
    check_earlier,
    check_folder,
    earlier_settings,
    head_settings,
    image_settings,
    plan_settings,
)
from featcache.fitting.fit_head import fit
from featcache.heads.dense import DenseHead
from featcache.heads.head import Head
from featcache.heads.kinds import HEADS, option_names
from featcache.options import flag

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
    network: up to the layer that the head reads.
    head: a saved one, whose recipe is used; None: one of the kind `kind` is fitted first.
    watch: called with the progress of every extraction.
    """

    images: Any
    options: dict[str, Any]
    job: Job
    network: Network
    head: Head | None
    kind: str
    watch: Watch


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
        options = _with_recipe(given, options)
        say(f"the head {given.path}: {given.kind}, {_named(given.classes)}")
    elif "backbone" not in options:
        raise FeatcacheError(
            "--backbone: which network is to be fine-tuned? Name one, such as vgg16, or give "
            "--head FILE, a head that `featcache fit-head` saved"
        )
    job = prepare(images, **options)
    _check_job(job)
    (target,) = job.targets
    check_writable(target.network)
    network = target.network.only([target.tap])
    return Draft(images, options, job, network, given, str(head), watch)


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


def _with_recipe(head: Head, options: dict[str, Any]) -> dict[str, Any]:
    """The options of a saved head's recipe, with others that are none of it.

    The weights may have moved: whether they are still the same is checked.
    """
    of_recipe = extract_options_of(head.recipe, head.source.weights_hint)
    if others := [flag(name) for name in options if name in {*of_recipe, "scale"} - {"weights"}]:
        raise FeatcacheError(
            f"{', '.join(others)}: the head {head.path} was fitted on features of its own recipe, "
            f"which is used: leave them out, or name a kind of head ({', '.join(LAYERED)})"
        )
    return of_recipe | options


def _named(classes: list[str]) -> str:
    more = len(classes) - NAMED
    return ", ".join(classes[:NAMED]) + (f" and {more} more" if more > 0 else "")


def _check_job(job: Job) -> None:
    if len(job.targets) != 1:
        raise FeatcacheError("--layer: fine-tuning takes one layer, that the head reads")
    recipe = job.targets[0].recipe
    if recipe.precision != "float32":
        raise FeatcacheError(
            f"--precision {recipe.precision}: fine-tuning starts from float32 features; on a GPU, "
            f"--mixed-precision float16 makes the training itself faster"
        )


@dataclass(frozen=True, eq=False)
class Start:
    """What fine-tuning starts from.

    Attributes
    ----------
    draft: the images and options; `extraction` is what came of them, `features` its rows.
    head: fitted on them; `layers` is the same as layers.
    report: how good it is on the rows that judge.
    settings: everything that the result depends on.
    """

    draft: Draft
    extraction: Extraction
    features: Features
    roles: Roles
    head: Head
    layers: DenseHead
    report: Report
    settings: FinetuneSettings

    @property
    def history(self) -> dict[str, list[float]]:
        """By epoch, of the head's own training; empty where it had no epochs."""
        settings = self.head.model.settings
        return {name: list(values) for name, values in settings.get("history", {}).items()}

    @property
    def epochs(self) -> int:
        """How many epochs the head was trained for."""
        return len(self.history.get("loss", ()))

    def again(self, **changes: Any) -> Features:
        """The features of the same images under other options; only missing rows are computed."""
        job = prepare(self.draft.images, **{**self.draft.options, **changes})
        return job.cache.load(run_job(job, self.draft.watch)[0].path)

    def codes(self, rows: Features) -> np.ndarray:
        """(n,) the class of each row, by its place in the head's classes."""
        place = {name: code for code, name in enumerate(self.head.classes)}
        return np.array([place[label] for label in rows.labels.tolist()], np.int32)


def begin(draft: Draft, plan: FinetunePlan, *, say: Say) -> Start:
    """Extract what is not cached yet, and fit a head, or take the one that is given.

    Raises `FeatcacheError` where labels or images are too few, the head is not of these classes,
    was trained on images that are to judge, or the folder holds a fine-tuning of other images.
    """
    job = draft.job
    extraction = run_job(job, draft.watch)[0]
    for line in [*(f"note: {each}" for each in extraction.remarks), *failure_lines([extraction])]:
        say(line)
    features = job.cache.load(extraction.path)
    ties = find_ties(features)
    roles = assign_roles(features, plan.learning.seed, stopped=True, ties=ties)
    settings = {**plan_settings(plan), **image_settings(features, roles)}
    check_earlier(plan.out, settings)
    if draft.head:
        roles = replace(roles, remarks=[*roles.remarks, *_remarks(draft.head, features, roles)])
    head = draft.head or _fitted(features, draft.kind, plan, ties, say)
    layers = as_layers(head.model, temperature=head.temperature)
    settings |= head_settings(head.kind, layers)
    check_earlier(plan.out, settings)
    report = judge(head, features[roles.judge], protocol=roles.protocol, remarks=roles.remarks)
    return Start(draft, extraction, features, roles, head, layers, report, settings)


def _fitted(features: Features, kind: str, plan: FinetunePlan, ties: Ties, say: Say) -> Head:
    """A head of a kind, without the rows that choose the best epoch.

    That of an earlier run is taken again: another fit may differ in the last digit, and the run
    would not go on from its checkpoint, or know that it was finished.
    """
    path = plan.out / "frozen" / f"{kind}.head"
    if path.exists() and earlier_settings(plan.out) is not None:
        return Head.load(path)
    check_no_link(path.parent)
    options: dict[str, Any] = {}
    if "class_weight" in option_names(kind):
        options = {"class_weight": plan.class_weight}
    return fit(
        features,
        head=kind,
        seed=plan.learning.seed,
        out=path,
        stopped=True,
        ties=ties,
        say=say,
        **options,
    ).head


def _remarks(head: Head, features: Features, roles: Roles) -> list[str]:
    """What is to be known of a given head on these rows; raises where it could not be judged."""
    head.check_fits(features)
    strange = sorted(set(features[roles.train | roles.stop].classes) - set(head.classes))
    if strange:
        raise FeatcacheError(
            f"the head {head.path} does not know {', '.join(map(repr, strange[:5]))}: fit one on "
            f"these images, or leave those classes out"
        )
    keys = prefixes(features.keys)
    seen = np.isin(keys, head.trained_on)
    if (seen & roles.judge).any():
        raise FeatcacheError(
            f"the head {head.path} was trained on {int((seen & roles.judge).sum())} of the "
            f"{int(roles.judge.sum())} images that are to judge: give the --seed that it was "
            f"fitted with, or fit it again"
        )
    if not (seen & roles.stop).any() or head.kind == "dense":
        return []
    return [
        "the head was fitted on the images that choose the best epoch, too: before the first "
        "epoch, its validation loss flatters it"
    ]
