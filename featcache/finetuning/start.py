"""Start: the cached features, who trains and who judges, and a head fitted on them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from featcache.api import options_of, prepare
from featcache.backbones.tuned import read_record
from featcache.errors import FeatcacheError
from featcache.evaluation import judge, prefixes
from featcache.extraction import run
from featcache.features import Features
from featcache.finetuning.plan import Plan
from featcache.fitting import fit
from featcache.heads import HEADS, Head
from featcache.heads.dense import DenseHead
from featcache.heads.layers import as_layers
from featcache.job import Job, Progress
from featcache.report import Report
from featcache.roles import Roles, assign_roles

#: Beside what comes out, while the training lasts.
CHECKPOINT = "checkpoint.safetensors"

Say = Callable[[str], None]
Watch = Callable[[Progress], None]


@dataclass(frozen=True, eq=False)
class Start:
    """What fine-tuning begins with.

    Attributes
    ----------
    images, options: what `extract` was given for the features; `job` is that extraction.
    head: fitted on them; `layers` is the same as layers.
    report: how good it is on the rows that judge.
    watch: called with the progress of every extraction.
    """

    images: Any
    job: Job
    options: dict[str, Any]
    features: Features
    roles: Roles
    head: Head
    layers: DenseHead
    report: Report
    watch: Watch

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
        job = prepare(self.images, **{**self.options, **changes})
        return job.cache.load(run(job, self.watch)[0].path)

    def codes(self, rows: Features) -> np.ndarray:
        """(n,) the class of each row, by its place in the head's classes."""
        place = {name: code for code, name in enumerate(self.head.classes)}
        return np.array([place[label] for label in rows.labels.tolist()], np.int32)


def begin(
    images: Any,
    head: str | Path,
    plan: Plan,
    options: dict[str, Any],
    *,
    say: Say,
    progress: Watch,
) -> Start:
    """Extract what is not cached yet, and fit a head, or take the one that is given.

    `head` is a kind of head, or the path of one that was saved, whose recipe is then used;
    `options` are those of `extract`.

    Raises `FeatcacheError` where labels or images are too few, the head is not of these classes
    or cannot become layers, or was trained on images that shall judge.
    """
    given = None if str(head) in HEADS else Head.load(head)
    if given:
        options = {**options_of(given.recipe, given.source.weights_hint), **options}
        say(f"the head {given.path}: {given.kind}, {', '.join(given.classes[:8])}")
        as_layers(given.model)  # a kind that cannot become layers should not cost an extraction
    job = prepare(images, **options)
    _check_job(job)
    features = job.cache.load(run(job, progress)[0].path)
    roles = assign_roles(features, plan.learning.seed, stopped=True)
    if given:
        roles = replace(roles, remarks=[*roles.remarks, *_remarks(given, features, roles)])
    fitted = given or _fitted(features, str(head), plan, say)
    judged = features[roles.judge]
    report = judge(fitted, judged, protocol=roles.protocol, remarks=roles.remarks)
    layers = as_layers(fitted.model, temperature=fitted.temperature)
    return Start(images, job, options, features, roles, fitted, layers, report, progress)


def _fitted(features: Features, kind: str, plan: Plan, say: Say) -> Head:
    """A head of a kind, without the rows that choose the best epoch.

    That of an earlier run is taken again: another fit may differ in the last digit, and the run
    would not go on from its checkpoint, or know that it was finished.
    """
    path = plan.out / "frozen" / f"{kind}.head"
    if path.exists() and ((plan.out / CHECKPOINT).exists() or read_record(plan.out)):
        earlier = Head.load(path)
        if earlier.recipe == features.recipe:
            return earlier
    return fit(
        features,
        head=kind,
        seed=plan.learning.seed,
        out=path,
        sample_weight=None,
        stopped=True,
        say=say,
    ).head


def _check_job(job: Job) -> None:
    if len(job.targets) != 1:
        raise FeatcacheError("--layer: fine-tuning takes one layer, that the head reads")
    recipe = job.targets[0].recipe
    if recipe.precision != "float32":
        raise FeatcacheError(
            f"--precision {recipe.precision}: fine-tuning begins with float32 features; on a GPU, "
            f"--mixed-precision float16 makes the training itself faster"
        )


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
            f"{int(roles.judge.sum())} images that shall judge: give the --seed that it was fitted "
            f"with, or fit it again"
        )
    if not (seen & roles.stop).any() or head.kind == "dense":
        return []
    return [
        "the head was fitted on the images that choose the best epoch, too: before the first "
        "epoch, its validation loss flatters it"
    ]
