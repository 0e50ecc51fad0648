"""Plan: how a network is fine-tuned, checked before anything is read, and what lies in OUT already.

Its settings are everything that the result depends on, as plain JSON. Where two are equal, so is
what comes out: it need not be made again. Where they differ, what lies in the folder took long, and
is not written over. The folder is empty or of an earlier run, never one with the user's own files.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from featcache.backbones.tuned_record import RECORD, read_tuned_record
from featcache.errors import FeatcacheError
from featcache.features.cache import FeatureCache
from featcache.features.features import Features
from featcache.features.splits.roles import Roles
from featcache.files.home import expanded
from featcache.heads.dense import DenseHead
from featcache.images.augment import Augmentation
from featcache.recipe import StoredType
from featcache.training.checkpoint import Checkpoint, differences, digest_of
from featcache.training.options import LearningOptions

#: Beside what comes out, while the training lasts.
CHECKPOINT = "checkpoint.safetensors"

FinetuneSettings = dict[str, Any]

#: Names of foreign files that an error lists.
_SHOWN = 3


@dataclass(frozen=True, kw_only=True)
class FinetunePlan:
    """How a network is fine-tuned.

    Attributes
    ----------
    out: the folder of everything that comes out.
    augment: a new view of every training image in every epoch; "": none.

    The others are options of `featcache.finetune`, which describes and checks them.
    """

    out: Path
    learning: LearningOptions = field(default_factory=LearningOptions)
    unfreeze_from: str | None = None
    from_cut: str = "auto"
    cut_dtype: StoredType = "float16"
    augment: str = ""
    batch_norm: bool = False
    mixed_precision: str | None = None
    class_weight: str = "none"

    def __post_init__(self) -> None:
        if self.out.exists() and not self.out.is_dir():
            raise FeatcacheError(f"--out {self.out}: expected a folder, and there is a file")
        if self.from_cut == "yes" and self.augment:
            raise FeatcacheError(
                "--from-cut yes with --augment: a new view in every epoch changes what is below "
                "the cut. Cache views with --views 8 --augment ..., or leave --from-cut out"
            )
        _ = self.augmentation

    @property
    def augmentation(self) -> Augmentation | None:
        """What `augment` stands for."""
        return Augmentation.parse(self.augment) if self.augment else None


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
    """The head that it starts from."""
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


def check_folder(out: Path, images: Any, cache: str | Path | None = None) -> None:
    """Raise `FeatcacheError` where what comes out would lie among, or write over, foreign files.

    `images` and `cache` are those of `extract`; a cache inside `out` is not foreign, nor is what
    an earlier run left, or a hidden file.
    """
    if not out.is_dir():
        return
    if isinstance(images, (str, Path)) and expanded(images).resolve() == out.resolve():
        raise FeatcacheError(
            f"--out {out}: these are the images; expected is a folder of its own, such as "
            f"{out.parent / (out.resolve().name + '-tuned')}"
        )
    cache_there = FeatureCache.open(cache).directory.resolve()
    foreign = sorted(
        entry.name
        for entry in out.iterdir()
        if not entry.name.startswith(".") and entry.resolve() != cache_there
    )
    if foreign and not _is_ours(out):
        listed = ", ".join(foreign[:_SHOWN]) + (", ..." if foreign[_SHOWN:] else "")
        raise FeatcacheError(
            f"--out {out}: a folder with other files in it ({listed}), which might be written "
            f"over; expected is a new or empty folder, or that of an earlier fine-tuning"
        )


def _is_ours(out: Path) -> bool:
    return (
        (out / RECORD).is_file() or (out / CHECKPOINT).is_file() or any(out.glob("frozen/*.head"))
    )
