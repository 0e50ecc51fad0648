"""Settings: everything that the result of a fine-tuning depends on, as plain JSON.

Where two are equal, so is what comes out: it need not be made again. Where they differ, what lies
in the folder took long, and is not written over.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from featcache.backbones.tuned_record import read_tuned_record
from featcache.errors import FeatcacheError
from featcache.features.features import Features
from featcache.features.splits.roles import Roles
from featcache.finetuning.plan_ import FinetunePlan
from featcache.heads.dense import DenseHead
from featcache.training import Checkpoint, differences, digest_of

#: Beside what comes out, while the training lasts.
CHECKPOINT = "checkpoint.safetensors"

FinetuneSettings = dict[str, Any]


def plan_settings(plan: FinetunePlan) -> FinetuneSettings:
    """What the plan says."""
    values = {name: value for name, value in asdict(plan).items() if name != "out"}
    values |= values.pop("learning")
    augment = plan.augmentation.spec if plan.augmentation else ""
    return _plain({**values, "augment": augment})


def image_settings(features: Features, roles: Roles) -> FinetuneSettings:
    """The recipe, the images and what each of them is for."""
    who = (features.names, features.keys, features.labels, features.views)
    digest = digest_of(*who, roles.train, roles.stop, roles.judge)
    return {
        "recipe": _plain(json.loads(features.recipe.to_json())),
        "images": f"{len(features)} rows, {digest}",
    }


def head_settings(kind: str, layers: DenseHead) -> FinetuneSettings:
    """The head that it begins with."""
    total = hashlib.sha256()
    for name, array in sorted(layers.arrays.items()):
        total.update(f"{name} {array.shape}".encode() + np.ascontiguousarray(array).tobytes())
    return {"head": f"{kind} {total.hexdigest()[:16]}"}


def earlier_settings(out: Path) -> FinetuneSettings | None:
    """Those of what lies in a folder already, finished or interrupted; None: there is nothing."""
    interrupted = Checkpoint(out / CHECKPOINT, {}).settings_there()
    if interrupted is not None:
        return interrupted
    record = read_tuned_record(out)
    return None if record is None else dict(record.get("settings", {}))


def check_earlier(out: Path, settings: FinetuneSettings) -> None:
    """Raises `FeatcacheError` where what lies in a folder has other values of these settings."""
    there = earlier_settings(out)
    if there is None:
        return
    mine = {name: there[name] for name in settings if name in there}
    if differing := differences(mine, settings):
        raise FeatcacheError(
            f"--out {out}: a fine-tuning of other images or settings is there "
            f"({'; '.join(differing)}). Name another folder, or delete this one"
        )


def _plain(settings: FinetuneSettings) -> FinetuneSettings:
    """As it is when it is read again from a file."""
    plain: FinetuneSettings = json.loads(json.dumps(settings))
    return plain
