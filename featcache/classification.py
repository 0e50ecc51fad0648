"""Images through a backbone's own ImageNet top: English class names and probabilities."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from featcache.backbones import Backbone, class_names, open_classifier
from featcache.decode import MAX_PIXELS, BadImage, decode
from featcache.errors import FeatcacheError
from featcache.heads import Prediction
from featcache.images import ImageSet
from featcache.reading import Outcome, read_ahead
from featcache.recipe import Decoding

BATCH = 32


def classify(
    images: ImageSet,
    backbone: Backbone,
    *,
    weights: str | None = None,
    top: int = 5,
    threads: int = 2,
) -> Iterator[Prediction]:
    """The `top` ImageNet classes of each image, best first, in order; bad images say why.

    Memory does not grow with the number of images. Raises `FeatcacheError` where the weights
    cannot be had, have no top, or have one that is not ImageNet's.
    """
    if top < 1:
        raise FeatcacheError(f"--top {top}: expected at least 1 class")
    model = open_classifier(backbone, weights=weights)
    names = class_names(int(model.output_shape[-1]))
    decoding = Decoding((backbone.size, backbone.size))
    waiting: list[Outcome] = []
    for outcome in _decoded(images, decoding, threads):
        waiting.append(outcome)
        if len(waiting) == BATCH:
            yield from _predictions(model, names, images, waiting, top)
            waiting = []
    if waiting:
        yield from _predictions(model, names, images, waiting, top)


def _decoded(images: ImageSet, decoding: Decoding, threads: int) -> Iterator[Outcome]:
    """The pixels of each image, in order, read ahead in threads."""

    def read(index: int) -> Outcome:
        outcome = Outcome(index)
        try:
            content = images.read(index).content
            decoded = decode(content, decoding, max_pixels=MAX_PIXELS)
            outcome.pictures = [[(0, decoded.pixels)]]
        except BadImage as bad:
            outcome.trouble = (bad.code, bad.message)
        return outcome

    return read_ahead(read, range(len(images)), threads, ahead=2 * BATCH)


def _predictions(
    model: Any, names: list[str], images: ImageSet, outcomes: list[Outcome], top: int
) -> Iterator[Prediction]:
    pixels = [pictures[0][1] for outcome in outcomes for pictures in outcome.pictures]
    probabilities = iter(_probabilities(model, pixels))
    for outcome in outcomes:
        name = images.names[outcome.index]
        if outcome.trouble:
            yield Prediction(name, [], [], outcome.trouble[1])
            continue
        row = next(probabilities)
        best = np.argsort(-row, kind="stable")[:top].tolist()
        yield Prediction(name, [names[i] for i in best], [float(row[i]) for i in best])


def _probabilities(model: Any, pixels: list[np.ndarray]) -> np.ndarray:
    """A row of probabilities for each image; the batch has one shape always: traced once."""
    batch = np.zeros((BATCH, *model.input_shape[1:]), np.float32)
    for place, image in enumerate(pixels):
        batch[place] = image
    if not pixels:
        return np.zeros((0, 0), np.float32)
    rows: np.ndarray = np.asarray(model.predict_on_batch(batch))[: len(pixels)]
    return rows
