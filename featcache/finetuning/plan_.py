"""Plan: how a network is fine-tuned, checked before anything is read."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from featcache.errors import FeatcacheError, one_of
from featcache.finetuning.graphs import MIXED
from featcache.images.augment import Augmentation
from featcache.recipe import StoredType
from featcache.training import LearningOptions


@dataclass(frozen=True, kw_only=True)
class FinetunePlan:
    """How a network is fine-tuned.

    Attributes
    ----------
    out: the folder of everything that comes out.
    unfreeze_from: see `freezing.freeze`.
    from_cut: "yes": the frozen part runs once, its activations are cached; "no": it runs in every
        epoch; "auto": once where that can be and is worth its disk.
    cut_dtype: in which activations at the cut are stored.
    augment: a new view of every training image in every epoch, as in `extract --augment`; "": none.
    batch_norm: the network's BatchNorm learns its statistics (and its dropout drops).
    mixed_precision: "float16" or "bfloat16", in which layers then compute; None: float32.
    class_weight: "balanced" makes every class count the same, "none" every image.
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
        one_of("--from-cut", self.from_cut, ("auto", "yes", "no"))
        one_of("--cut-dtype", self.cut_dtype, ("float16", "float32"))
        one_of("--class-weight", self.class_weight, ("none", "balanced"))
        if self.mixed_precision is not None:
            one_of("--mixed-precision", self.mixed_precision, tuple(MIXED))
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
