"""The baseline: a network of three blocks, as tutorials build it, trained from scratch and judged.

plan -> images that can be used, read once -> feeds of some of them -> network -> report, file
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from featcache.errors import BadImage, FeatcacheError, ImageFailure, one_of
from featcache.evaluation.evaluate import Predicted, judge
from featcache.evaluation.report import Report
from featcache.features.rows import Labelled
from featcache.features.splits.partition import Carve
from featcache.features.splits.roles import assign_roles
from featcache.files.write import whole_file
from featcache.heads.logistic.table import balanced_weights
from featcache.images import ImageSet
from featcache.images.augment import Augmentation
from featcache.images.decoder import MAX_PIXELS
from featcache.images.threads import read_ahead
from featcache.recipe import Decoding
from featcache.training.checkpoint import Checkpoint, digest_of
from featcache.training.loop import Learned, learn
from featcache.training.options import LearningOptions
from featcache.training.pixels import Pictures, PixelFeed
from featcache.training.state import parameter_counts
from featcache.training.steps import predict_proba

#: The training of the baseline, where nothing else is asked for.
DEFAULTS = LearningOptions(optimizer="rmsprop", learning_rate=1e-3, epochs=15, batch_size=32)

#: Filters of the three blocks, and units of the dense layer.
FILTERS, UNITS = (16, 32, 64), 512
#: A side below this has no pixel left after three blocks: each takes 2 pixels and halves the rest.
SMALLEST = 22


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
    probabilities = predict_proba(model, found.feed(roles.judge, classes, plan))
    report = judge(
        Predicted(classes, probabilities),
        found.rows[roles.judge],
        protocol=roles.protocol,
        remarks=roles.remarks,
    )
    model = with_probabilities(model)
    if plan.out is not None:
        with whole_file(plan.out) as draft:
            model.save(draft)
    if checkpoint:
        checkpoint.remove()
    seconds = time.monotonic() - started
    return Baseline(model, classes, report, learned, parameters, found.failures, seconds)


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


@dataclass(frozen=True, eq=False)
class Found:
    """The labelled images that can be used: who they are, and their numbers in the set."""

    rows: Labelled
    indices: np.ndarray
    pictures: Pictures
    failures: list[tuple[str, str]] = field(default_factory=list)

    @classmethod
    def look(cls, images: ImageSet, plan: BaselinePlan) -> Found:
        """Read, hash and decode every labelled image once."""
        labelled = [index for index, label in enumerate(images.labels) if label]
        decoding = Decoding(plan.size)
        pictures = Pictures.of(images, decoding, count=len(labelled), max_pixels=plan.max_pixels)

        def key_of(index: int) -> tuple[str, str]:
            try:
                return pictures[index].key, ""
            except BadImage as bad:
                return "", bad.message

        keys = list(read_ahead(key_of, labelled, plan.threads, 64))
        failures = [
            (images.names[index], why)
            for index, (_, why) in zip(labelled, keys, strict=True)
            if why
        ]
        if failures and len(failures) == len(labelled):
            raise ImageFailure(
                f"not one of {len(failures)} images could be used: {failures[0][0]}: "
                f"{failures[0][1]}"
            )
        usable = np.array([i for i, (key, _) in zip(labelled, keys, strict=True) if key], int)
        rows = Labelled.of(images, usable, np.array([key for key, _ in keys if key], dtype=str))
        if plan.carve:
            splits = plan.carve.apply(
                rows.splits, rows.keys, labels=rows.labels, groups=rows.groups
            )
            rows = replace(rows, splits=splits)
        return cls(rows, usable, pictures, failures)

    def feed(
        self, mask: np.ndarray, classes: list[str], plan: BaselinePlan, *, trains: bool = False
    ) -> PixelFeed:
        """The images under a mask as a feed; a class that is not among `classes` has code 0.

        Where it `trains`, images vary and count as the plan says.
        """
        place = {name: number for number, name in enumerate(classes)}
        labels = self.rows.labels[mask].tolist()
        codes = np.array([place.get(label, 0) for label in labels], np.int32)
        weights = balanced_weights(np.bincount(codes, minlength=len(classes)))
        return PixelFeed(
            pictures=self.pictures,
            indices=self.indices[mask],
            codes=codes,
            weights=weights[codes] if trains and plan.class_weight == "balanced" else None,
            options=plan.options,
            augmentation=plan.augmentation if trains else None,
            threads=plan.threads,
        )


def small_network(size: tuple[int, int], classes: int, seed: int) -> Any:
    """The network from pixels (n, height, width, 3) in 0..255 to logits (n, classes)."""
    from featcache.backbones.keras_import import import_keras

    keras = import_keras()
    layers = keras.layers

    def start(number: int) -> Any:
        return keras.initializers.GlorotUniform(seed + number)

    inputs = keras.Input((*size, 3), name="pixels")
    outputs = layers.Rescaling(1 / 255)(inputs)
    for number, filters in enumerate(FILTERS):
        convolution = layers.Conv2D(filters, 3, activation="relu", kernel_initializer=start(number))
        outputs = layers.MaxPooling2D()(convolution(outputs))
    outputs = layers.Flatten()(outputs)
    dense = layers.Dense(UNITS, activation="relu", kernel_initializer=start(len(FILTERS)))
    logits = layers.Dense(classes, kernel_initializer=start(len(FILTERS) + 1), name="logits")
    return keras.Model(inputs, logits(dense(outputs)), name="baseline")


def with_probabilities(model: Any) -> Any:
    """The same network, from pixels to class probabilities."""
    from featcache.backbones.keras_import import import_keras

    keras = import_keras()
    return keras.Model(model.inputs, keras.layers.Softmax()(model.outputs[0]), name=model.name)
