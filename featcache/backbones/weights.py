"""Weights files of Keras and safetensors, fitted to a backbone or refused by name.

A file is loaded into the network without its top, or with it, whichever has as many weights as
the file; from a network with a top, the weights below are then copied.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from featcache.backbones.construct import Shape, construct
from featcache.backbones.imagenet_rescaling import with_imagenet_rescaling
from featcache.backbones.table import Backbone
from featcache.backbones.weights_file import ReadableWeights, open_stored, settle
from featcache.errors import FeatcacheError

#: One-dimensional weights of a top that are not its classifier's.
_INNER_TOP = {
    "vgg16": [4096, 4096],
    "vgg19": [4096, 4096],
    "mobilenetv3small": [1024],
    "mobilenetv3large": [1280],
}


def open_from_file(backbone: Backbone, shape: Shape, *, path: Path) -> Any:
    """The network with the weights of a ``.weights.h5``, legacy ``.h5`` or ``.safetensors`` file.

    Raises `FeatcacheError` where the file is missing, is no weights file, or is another network's,
    naming the first layer or tensor that disagrees.
    """
    stored = open_stored(path)
    network = construct(backbone, shape)
    try:
        target = network
        if stored.count != len(network.weights):
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
    if shape.include_top or stored.count < below:
        raise FeatcacheError(f"the file has {stored.count} weights, the network {below}")
    classes = _classes(backbone, network, stored)
    target = construct(backbone, shape.with_top(classes)) if classes else network
    if stored.count != len(target.weights):
        raise FeatcacheError(
            f"the file has {stored.count} weights; the network has {below} without its top"
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
