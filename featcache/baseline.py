"""Baseline: a small network trained from scratch, to see what a pretrained one is worth.

    pixels -> 3 x (convolution, pooling) -> flatten -> dense -> classes

The splits, the held-out images and the report are those of `fit_head` on the same images.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from featcache.augment import Augmentation
from featcache.decode import MAX_PIXELS, BadImage
from featcache.errors import FeatcacheError, ImageFailure, StorageFailure
from featcache.evaluation import Predicted, Report, judge
from featcache.images import ImageSet
from featcache.labelled import Labelled
from featcache.learning import (
    Checkpoint,
    Learned,
    LearningOptions,
    Pictures,
    PixelFeed,
    learn,
    predict_proba,
)
from featcache.reading import read_ahead
from featcache.recipe import Decoding
from featcache.roles import Roles, assign_roles

#: Filters of the three blocks, and units of the dense layer.
FILTERS, UNITS = (16, 32, 64), 512
#: A side below this has no pixel left after three blocks: each takes 2 pixels and halves the rest.
SMALLEST = 22
#: The training of the baseline, where nothing else is asked for.
DEFAULTS = LearningOptions(optimizer="rmsprop", learning_rate=1e-3, epochs=15, batch_size=32)


@dataclass(frozen=True)
class Plan:
    """What a baseline is trained with.

    Attributes
    ----------
    size: (height, width) in pixels.
    augment: what may change in the training images, as in `extract --augment`; "": nothing.
    out: the .keras file; a run that was killed goes on from a checkpoint beside it. None: neither.
    """

    size: tuple[int, int] = (150, 150)
    augment: str = ""
    options: LearningOptions = DEFAULTS
    out: Path | None = None
    threads: int = 2
    max_pixels: int = MAX_PIXELS

    def __post_init__(self) -> None:
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
    images: ImageSet, plan: Plan, *, say: Callable[[str], None] = lambda line: None
) -> Baseline:
    """Train the small network on labelled images, and judge it on images it has not seen.

    Raises
    ------
    FeatcacheError: no labels, a single class, too few images; `ImageFailure`: no image can be
        used; `StorageFailure`: `plan.out` cannot be written.
    """
    started = time.monotonic()
    found = _Found.look(images, plan)
    for name, why in found.failures:
        say(f"failed: {name}: {why}")
    roles = assign_roles(found.rows, plan.options.seed, stopped=True)
    classes = found.rows[roles.train].classes
    model = small_network(plan.size, len(classes), plan.options.seed)
    parameters = sum(int(np.prod(each.shape)) for each in model.weights)
    options = plan.options
    say(
        f"parameters: {parameters:,}, all trainable, none pretrained; {options.optimizer} at "
        f"{options.learning_rate:g}, batches of {options.batch_size}"
    )
    checkpoint = _checkpoint(found, plan)
    # A class that only these images have cannot be learned: they would only mislead.
    stop = roles.stop & np.isin(found.rows.labels, classes)
    learned = learn(
        model,
        found.feed(roles.train, classes, plan, augmented=True),
        found.feed(stop, classes, plan) if stop.any() else None,
        plan.options,
        checkpoint=checkpoint,
        say=say,
    )
    report = _judged(model, found, roles, classes, plan)
    model = _with_probabilities(model)
    if plan.out is not None:
        _save(model, plan.out)
    if checkpoint:
        checkpoint.remove()
    seconds = time.monotonic() - started
    return Baseline(model, classes, report, learned, parameters, found.failures, seconds)


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


@dataclass(frozen=True, eq=False)
class _Found:
    """The labelled images that can be used: who they are, and their numbers in the set."""

    images: ImageSet
    rows: Labelled
    indices: np.ndarray
    pictures: Pictures
    failures: list[tuple[str, str]] = field(default_factory=list)

    @classmethod
    def look(cls, images: ImageSet, plan: Plan) -> _Found:
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
        return cls(images, rows, usable, pictures, failures)

    def feed(
        self, mask: np.ndarray, classes: list[str], plan: Plan, *, augmented: bool = False
    ) -> PixelFeed:
        """The images under a mask as a feed; a class that is not among `classes` has code 0."""
        place = {name: number for number, name in enumerate(classes)}
        codes = [place.get(label, 0) for label in self.rows.labels[mask].tolist()]
        return PixelFeed(
            images=self.images,
            indices=self.indices[mask],
            codes=np.array(codes, np.int32),
            weights=None,
            decoding=self.pictures.decoding,
            options=plan.options,
            augmentation=plan.augmentation if augmented else None,
            threads=plan.threads,
            max_pixels=plan.max_pixels,
            pictures=self.pictures,
        )


def _judged(model: Any, found: _Found, roles: Roles, classes: list[str], plan: Plan) -> Report:
    probabilities = predict_proba(model, found.feed(roles.judge, classes, plan))
    return judge(
        Predicted(classes, probabilities),
        found.rows[roles.judge],
        protocol=roles.protocol,
        remarks=roles.remarks,
    )


def _checkpoint(found: _Found, plan: Plan) -> Checkpoint | None:
    if plan.out is None:
        return None
    rows = found.rows
    columns = [rows.names, rows.keys, rows.labels, rows.splits, rows.groups]
    listing = json.dumps([column.tolist() for column in columns])
    fingerprint = {
        "images": hashlib.sha256(listing.encode()).hexdigest()[:16],
        "size": list(plan.size),
        "augment": plan.augmentation.spec if plan.augmentation else "",
        **asdict(plan.options),
    }
    path = plan.out.with_name(f"{plan.out.name}.checkpoint")
    return Checkpoint(path, json.dumps(fingerprint, sort_keys=True))


def _with_probabilities(model: Any) -> Any:
    import keras

    return keras.Model(model.inputs, keras.layers.Softmax()(model.outputs[0]), name=model.name)


def _save(model: Any, path: Path) -> None:
    """One .keras file, whole or not at all."""
    draft = path.with_name(f".tmp-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        model.save(draft)
        draft.replace(path)
    except OSError as error:
        raise StorageFailure(f"cannot write {path}: {error}; give another --out") from error
