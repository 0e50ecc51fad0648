"""Settings: everything that the result of a fine-tuning depends on, as plain JSON."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from typing import Any

import numpy as np

from featcache.finetuning.plan import Plan
from featcache.finetuning.start import Start
from featcache.learning import digest_of


def settings_of(start: Start, plan: Plan) -> dict[str, Any]:
    """The plan, the recipe, and digests of the images, their roles and the head.

    Where two of these are equal, so is what comes out: it need not be made again.
    """
    features, roles = start.features, start.roles
    who = (features.names, features.keys, features.labels, features.views)
    values = {name: value for name, value in asdict(plan).items() if name != "out"}
    settings = {
        "recipe": features.recipe.key,
        "images": digest_of(*who, roles.train, roles.stop, roles.judge),
        "head": f"{start.head.kind} {_digest(start.layers.arrays)}",
        **values,
        "augment": plan.augmentation.spec if plan.augmentation else "",
    }
    plain: dict[str, Any] = json.loads(json.dumps(settings))  # as it is read again from a file
    return plain


def _digest(arrays: dict[str, np.ndarray]) -> str:
    """Sixteen hex digits of some arrays."""
    total = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        total.update(f"{name} {array.shape}".encode() + np.ascontiguousarray(array).tobytes())
    return total.hexdigest()[:16]
