"""Plan: what a baseline is trained with, checked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from featcache.errors import FeatcacheError, one_of
from featcache.features.splits.partition import Carve
from featcache.fitting.network import SMALLEST
from featcache.images.augment import Augmentation
from featcache.images.decoder import MAX_PIXELS
from featcache.training import LearningOptions

#: The training of the baseline, where nothing else is asked for.
DEFAULTS = LearningOptions(optimizer="rmsprop", learning_rate=1e-3, epochs=15, batch_size=32)


@dataclass(frozen=True)
class BaselinePlan:
    """What a baseline is trained with.

    Attributes
    ----------
    size: (height, width) in pixels.
    augment: what may change in the training images, as in `extract --augment`; "": nothing.
    out: the .keras file; a run that was killed goes on from a checkpoint beside it. None: neither.
    class_weight: "balanced" makes every class count the same, "none" every image.
    test_from: makes part of a split the test split, as in `extract --test-from`; "": none.
    """

    size: tuple[int, int] = (150, 150)
    augment: str = ""
    options: LearningOptions = DEFAULTS
    out: Path | None = None
    threads: int = 2
    max_pixels: int = MAX_PIXELS
    class_weight: str = "none"
    test_from: str = ""

    def __post_init__(self) -> None:
        one_of("--class-weight", self.class_weight, ("none", "balanced"))
        _ = self.augmentation, self.carve
        if min(self.size) < SMALLEST:
            raise FeatcacheError(
                f"--size {self.size[0]}x{self.size[1]}: three poolings leave no pixel of it; "
                f"expected at least {SMALLEST} (smaller images are enlarged)"
            )
        if self.out is not None and self.out.suffix != ".keras":
            raise FeatcacheError(f"--out {self.out}: expected a name that ends in .keras")

    @property
    def augmentation(self) -> Augmentation | None:
        """What `augment` stands for."""
        return Augmentation.parse(self.augment) if self.augment else None

    @property
    def carve(self) -> Carve | None:
        """What `test_from` stands for."""
        return Carve.parse(self.test_from) if self.test_from else None
