"""Training of the baseline: look at the images, train, judge, save."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from featcache.evaluation.evaluate import Predicted, judge
from featcache.evaluation.report import Report
from featcache.features.splits.roles import Roles, assign_roles
from featcache.files.write import whole_file
from featcache.fitting.found import Found
from featcache.fitting.network import small_network, with_probabilities
from featcache.fitting.plan import BaselinePlan
from featcache.images import ImageSet
from featcache.training import Checkpoint, Learned, digest_of, learn, predict_proba
from featcache.training.state import parameter_counts


@dataclass(frozen=True, eq=False)
class Baseline:
    """A trained baseline, how good it is, and how long it took in seconds.

    Attributes
    ----------
    model: from pixels (n, height, width, 3) in 0..255 to class probabilities (n, K).
    failures: (name, why) of images that could not be used.
    """

    model: Any
    classes: list[str]
    report: Report
    learned: Learned
    parameters: int
    failures: list[tuple[str, str]]
    seconds: float


def train_baseline(
    images: ImageSet, plan: BaselinePlan, *, say: Callable[[str], None] = lambda line: None
) -> Baseline:
    """Train the small network on labelled images, and judge it on images it has not seen.

    Raises
    ------
    FeatcacheError: no labels, a single class, too few images; `ImageFailure`: no image can be
        used; `StorageFailure`: `plan.out` cannot be written.
    """
    started = time.monotonic()
    found = Found.look(images, plan)
    for name, why in found.failures:
        say(f"failed: {name}: {why}")
    roles = assign_roles(found.rows, plan.options.seed, stopped=True)
    classes = found.rows[roles.train].classes
    model = small_network(plan.size, len(classes), plan.options.seed)
    parameters = parameter_counts(model)["total"]
    options = plan.options
    say(
        f"parameters: {parameters:,}, all trainable, none pretrained; {options.optimizer} at "
        f"{options.learning_rate:g}, batches of {options.batch_size}"
    )
    checkpoint = _checkpoint(found, plan)
    learned = learn(
        model,
        found.feed(roles.train, classes, plan, trains=True),
        found.feed(roles.stop, classes, plan) if roles.stop.any() else None,
        plan.options,
        checkpoint=checkpoint,
        say=say,
    )
    report = _judged(model, found, roles, classes, plan)
    model = with_probabilities(model)
    if plan.out is not None:
        with whole_file(plan.out) as draft:
            model.save(draft)
    if checkpoint:
        checkpoint.remove()
    seconds = time.monotonic() - started
    return Baseline(model, classes, report, learned, parameters, found.failures, seconds)


def _judged(
    model: Any, found: Found, roles: Roles, classes: list[str], plan: BaselinePlan
) -> Report:
    probabilities = predict_proba(model, found.feed(roles.judge, classes, plan))
    return judge(
        Predicted(classes, probabilities),
        found.rows[roles.judge],
        protocol=roles.protocol,
        remarks=roles.remarks,
    )


def _checkpoint(found: Found, plan: BaselinePlan) -> Checkpoint | None:
    if plan.out is None:
        return None
    rows = found.rows
    settings = {
        "images": digest_of(rows.names, rows.keys, rows.labels, rows.splits, rows.groups),
        "size": list(plan.size),
        "augment": plan.augmentation.spec if plan.augmentation else "",
        "class_weight": plan.class_weight,
        **asdict(plan.options),
    }
    path = plan.out.with_name(f"{plan.out.name}.checkpoint")
    return Checkpoint(path, settings)
