"""Weights: the usual ones, seeded random ones, or a file that is fitted to a backbone or refused.

A file is loaded into the network without its top, or with it, whichever has as many weights as
the file; from a network with a top, the weights below are then copied.

EfficientNetB0..B7's files store the standard deviation where the variance belongs, so Keras divides
once more by its square root, when it is asked for "imagenet". The same file given as a path would
lack that step, and the same values would give other vectors. So here the weights decide.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from featcache.backbones.construct import Shape, construct, download
from featcache.backbones.efficientnet_lite0 import load_embedded_weights
from featcache.backbones.keras_import import import_keras
from featcache.backbones.table import Backbone
from featcache.backbones.weights_file import ReadableWeights, open_stored, settle
from featcache.errors import FeatcacheError
from featcache.files.home import expanded

#: One-dimensional weights of a top that are not its classifier's.
_INNER_TOP = {
    "vgg16": [4096, 4096],
    "vgg19": [4096, 4096],
    "mobilenetv3small": [1024],
    "mobilenetv3large": [1280],
}

_STD = (0.229, 0.224, 0.225)


def resolve_weights(backbone: Backbone, weights: str | None) -> str:
    """What `weights` means: "imagenet", "embedded", "random:SEED" or an absolute path.

    `weights` is None (the usual ones), "imagenet", "embedded", "random", "random:SEED" or a path.
    """
    usual = "embedded" if backbone.source == "embedded" else "imagenet"
    if weights in (None, "", "imagenet"):
        return usual
    if weights == "embedded":
        return weights
    if weights.split(":")[0] == "random":
        return f"random:{_seed(weights)}"
    return str(expanded(weights).absolute())


def open_weights(backbone: Backbone, shape: Shape, *, weights: str | None) -> tuple[Any, str]:
    """The Keras network with its weights, and the hint that says where they came from.

    Random weights are only ever given when they are asked for.
    """
    hint = resolve_weights(backbone, weights)
    if hint == "embedded":
        return _embedded(backbone, shape), hint
    if hint == "imagenet":
        return download(backbone, shape), hint
    if hint.startswith("random:"):
        return construct(backbone, shape, seed=_seed(hint)), hint
    return open_from_file(backbone, shape, path=Path(hint)), hint


def _embedded(backbone: Backbone, shape: Shape) -> Any:
    if backbone.source != "embedded":
        raise FeatcacheError(
            f"--weights embedded: {backbone.name} has no embedded weights; "
            "use imagenet, a weights file, or --backbone efficientnet_lite0"
        )
    network = construct(backbone, shape)
    load_embedded_weights(network)
    return network


def _seed(name: str) -> int:
    match = re.fullmatch(r"random(?::(\d{1,9}))?", name)
    if match is None:
        raise FeatcacheError(
            f"--weights {name!r}: expected random or random:SEED, SEED a whole number of at most "
            "nine digits, as in random:7"
        )
    return int(match[1] or 0)


def open_from_file(backbone: Backbone, shape: Shape, *, path: Path) -> Any:
    """The network with the weights of a ``.weights.h5``, legacy ``.h5`` or ``.safetensors`` file.

    Raises `FeatcacheError` where the file is missing, is no weights file, or is another network's,
    naming the first layer or tensor that disagrees.
    """
    stored = open_stored(path)
    network = construct(backbone, shape)
    try:
        target = network
        if len(stored.shapes) != len(network.weights):
            target = _with_top(backbone, shape, network=network, stored=stored)
        stored.load(target)
    except FeatcacheError as error:
        raise FeatcacheError(
            f"{path} does not hold the weights of {backbone.name}: {error}. "
            "Give the --backbone that the file was made for"
        ) from error
    if target is not network:
        _copy_below_top(target, network)
    return with_imagenet_rescaling(backbone, network)


def _with_top(backbone: Backbone, shape: Shape, *, network: Any, stored: ReadableWeights) -> Any:
    """The network with the top that the file seems to have."""
    below = len(network.weights)
    if shape.include_top or len(stored.shapes) < below:
        raise FeatcacheError(f"the file has {len(stored.shapes)} weights, the network {below}")
    classes = _classes(backbone, network, stored)
    target = construct(backbone, shape.with_top(classes)) if classes else network
    if len(stored.shapes) != len(target.weights):
        raise FeatcacheError(
            f"the file has {len(stored.shapes)} weights; the network has {below} without its top"
            + (f" and {len(target.weights)} with it" if classes else "")
        )
    return target


def _classes(backbone: Backbone, network: Any, stored: ReadableWeights) -> int:
    """How many classes the file's top names: the one vector that is in no other layer; or 0."""
    extra = Counter(shape[0] for shape in stored.shapes if len(shape) == 1)
    extra -= Counter(weight.shape[0] for weight in network.weights if len(weight.shape) == 1)
    extra -= Counter(_INNER_TOP.get(backbone.name, []))
    left = list(extra.elements())
    return left[0] if len(left) == 1 else 0


def _copy_below_top(source: Any, network: Any) -> None:
    """Copy the weights that both networks have; they come first, in the same order."""
    for mine, theirs in zip(network.weights, source.weights, strict=False):
        mine.assign(theirs)
    settle(network)


def with_imagenet_rescaling(backbone: Backbone, network: Any) -> Any:
    """The network itself, or one with the step where its weights are of the kind that needs it."""
    if backbone.module != "efficientnet":
        return network
    keras = import_keras()
    normalization = keras.layers.Normalization
    stored = next(layer for layer in network.layers if isinstance(layer, normalization))
    if not np.allclose(stored.adapt_variance.numpy(), _STD, atol=1e-4):
        return network

    def call(layer: Any, *inputs: Any, **options: Any) -> Any:
        output = layer(*inputs, **options)
        if isinstance(layer, normalization):
            output = keras.layers.Rescaling([1.0 / math.sqrt(std) for std in _STD])(output)
        return output

    rescaled = keras.models.clone_model(network, call_function=call)
    for mine, theirs in zip(rescaled.weights, network.weights, strict=True):
        mine.assign(theirs)
    for layer in rescaled.layers:
        if isinstance(layer, normalization):
            layer.finalize_state()
    return rescaled
