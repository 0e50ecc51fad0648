"""Job: an extraction that is checked and ready to run, and its result."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from featcache.backbones.network import Network, Tap
from featcache.extraction.timing import Bound
from featcache.features.cache import FeatureCache
from featcache.features.splits.partition import Carve
from featcache.features.store.recipe_store import RecipeStore
from featcache.features.store.records import Failure
from featcache.images import ImageSet
from featcache.images.augment import Augmentation
from featcache.recipe import Recipe

#: Images of these splits get augmented views; "" are those of a data set without splits.
TRAINING = ("train", "")
#: Failed images that are named.
SHOWN = 10


@dataclass(frozen=True, slots=True)
class Views:
    """The augmented views of a run: how many an image gets, and which images.

    `augmentation` is None where there is the plain image only.
    """

    augmentation: Augmentation | None = None
    count: int = 0
    seed: int = 0
    of_all: bool = False

    def of(self, split: str) -> range:
        """The numbers of the views of an image in a split: 0 is the plain one."""
        is_augmented = self.of_all or split in TRAINING
        return range(1 + (self.count if is_augmented else 0))


@dataclass(frozen=True, slots=True)
class RunSettings:
    """How a run works; nothing here changes a vector.

    `batch` None is the best of the runtime that is used; `rehash`: every image is read, whatever
    its file's times say.
    """

    batch: int | None
    threads: int
    runtime: str
    max_pixels: int
    on_error: str
    retry_failed: bool
    rehash: bool
    carve: Carve | None


@dataclass(frozen=True, slots=True)
class Target:
    """One file of features to fill: a recipe, and the tap of a network that computes it."""

    recipe: Recipe
    network: Network
    tap: Tap
    directory: Path

    @property
    def store(self) -> RecipeStore:
        return RecipeStore(self.directory, self.recipe.to_json())

    @property
    def row_bytes(self) -> int:
        """Bytes of one stored vector."""
        return int(np.prod(self.tap.row_shape)) * np.dtype(self.recipe.dtype).itemsize


@dataclass(frozen=True, slots=True)
class Job:
    """Everything an extraction needs, checked, before the first image is read."""

    images: ImageSet
    targets: list[Target]
    cache: FeatureCache
    settings: RunSettings
    views: Views
    remarks: list[str]

    @property
    def folder(self) -> Path:
        """The folder of the data set in the cache."""
        return self.targets[0].directory.parent

    @property
    def bytes_free(self) -> int:
        """What the file system of the cache has left."""
        place = self.folder.absolute()
        while not place.exists():
            place = place.parent
        return shutil.disk_usage(place).free

    @property
    def rows(self) -> int:
        """Rows of each file: one for every view of every image."""
        return sum(len(self.views.of(split)) for split in self.images.splits)


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run stands; `saved` rows survive anything that happens next.

    `done` of `total` images need no more work, `passed` of them in this run.
    """

    done: int
    total: int
    passed: int
    failed: int
    saved: int
    seconds: float

    @property
    def images_per_second(self) -> float:
        """Images that this run is through with in a second."""
        return self.passed / self.seconds if self.seconds > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Extraction:
    """What a run did to one file.

    Attributes
    ----------
    extracted, reused: rows that the network computed; the other rows.
    computed: images that went through a network, for whichever file of the run.
    seconds: from the first read to the last packed file, without start-up.
    parity: the probe's largest error against live Keras, None where no network ran.
    rounding: the error of live Keras itself on the probe, None where no network ran.
    bound: what the run was bound by, None where no network ran.
    """

    path: Path
    target: Target
    rows: int
    extracted: int
    reused: int
    failures: list[Failure]
    computed: int
    seconds: float
    runtime: str
    choice: str
    parity: float | None
    rounding: float | None
    bound: Bound | None
    remarks: list[str]

    @property
    def dim(self) -> int:
        """Numbers in a row."""
        return int(np.prod(self.target.tap.row_shape))

    @property
    def images_per_second(self) -> float:
        """Images that went through the network in a second, over the whole run."""
        return self.computed / self.seconds if self.seconds > 0 else 0.0


def failure_lines(results: Sequence[Extraction]) -> list[str]:
    """A line for each image that failed in a run, the first `SHOWN` of them."""
    failures = list(dict.fromkeys(each for result in results for each in result.failures))
    lines = [f"failed: {failure.path}: {failure.message}" for failure in failures[:SHOWN]]
    if len(failures) > SHOWN:
        lines.append(f"failed: {len(failures) - SHOWN} more, listed in /failed_path of the file")
    return lines
