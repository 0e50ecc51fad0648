"""A backbone as a Keras network: its architecture, with or without top, seeded or downloaded."""

from __future__ import annotations

import contextlib
import random
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from featcache.backbones import efficientnet_lite0
from featcache.backbones.keras_import import import_keras
from featcache.backbones.table import Backbone
from featcache.errors import FeatcacheError


@dataclass(frozen=True, slots=True)
class Shape:
    """What of a backbone is built: input (height, width), pooling, and its top or not.

    `size` is None for the default size, which a top needs; `pooling` is "avg", "max" or None.
    """

    size: tuple[int, int] | None
    pooling: str | None = None
    include_top: bool = False
    classes: int = 1000

    def with_top(self, classes: int) -> Shape:
        return replace(self, size=None, pooling=None, include_top=True, classes=classes)


def construct(backbone: Backbone, shape: Shape, *, seed: int = 0) -> Any:
    """The network with seeded random weights, the same whatever the process did before."""
    check_size(backbone, shape.size)
    import_keras()
    with _seeded(seed):
        if backbone.source == "embedded":
            return efficientnet_lite0.build(
                size=shape.size,
                pooling=shape.pooling,
                include_top=shape.include_top,
                classes=shape.classes,
            )
        return _construct_keras(backbone, shape, weights=None)


def download(backbone: Backbone, shape: Shape) -> Any:
    """The network with the ImageNet weights that Keras downloads, or has downloaded before.

    Raises `FeatcacheError` where they cannot be loaded, and names the alternatives.
    """
    check_size(backbone, shape.size)
    import_keras()
    try:
        return _construct_keras(backbone, shape, weights="imagenet")
    except Exception as error:
        # Keras raises a bare Exception for a failed download, so its text must tell.
        if not _is_download_failure(error):
            raise
        raise FeatcacheError(
            f"the ImageNet weights of {backbone.name} could not be loaded: {error}",
            after="They are looked for in ~/.keras/models and downloaded when they are not there. "
            "Without a network: --weights PATH (a .weights.h5, .h5 or .safetensors file), or "
            "--backbone efficientnet_lite0, whose weights come with featcache",
        ) from error


def check_size(backbone: Backbone, size: tuple[int, int] | None) -> None:
    """Raise `FeatcacheError` where an input side is smaller than the network can take."""
    if size is not None and min(size) < backbone.smallest:
        raise FeatcacheError(
            f"--size {size[0]}x{size[1]} is too small for {backbone.name}: "
            f"its smallest side is {backbone.smallest} pixels (default {backbone.size})"
        )


def preprocess(backbone: Backbone, pixels: Any) -> Any:
    """The family's own ``preprocess_input``, on a float32 copy of the pixels.

    A user's own model has no family: its scaling is applied as it was asked for.
    """
    copy = pixels.astype("float32", copy=True)
    if backbone.source == "own":
        scaling = backbone.scaling
        ordered = copy[..., ::-1] if scaling.order == "bgr" else copy
        mean, std = (np.array(each, np.float32) for each in (scaling.mean, scaling.std))
        return (ordered / np.float32(scaling.divisor) - mean) / std
    if backbone.source == "embedded":
        return efficientnet_lite0.preprocess_input(copy)
    return getattr(import_keras().applications, backbone.module).preprocess_input(copy)


def _construct_keras(backbone: Backbone, shape: Shape, *, weights: str | None) -> Any:
    constructor = getattr(import_keras().applications, backbone.constructor)
    with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
        # MobileNets: "weights for input shape (224, 224) will be loaded". That is what is wanted.
        warnings.filterwarnings("ignore", message=r"`input_shape` is undefined or non-square")
        return constructor(
            include_top=shape.include_top,
            weights=weights,
            input_shape=None if shape.size is None else (*shape.size, 3),
            pooling=shape.pooling,
            classes=shape.classes,
        )


def _is_download_failure(error: Exception) -> bool:
    text = str(error)
    return (
        isinstance(error, OSError)
        or "URL fetch failure" in text
        or "Incomplete or corrupted file" in text
    )


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Keras seeds its initialisers from Python's `random`; the user's state is given back."""
    state = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(state)
