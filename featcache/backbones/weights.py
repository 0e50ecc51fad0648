"""Weights by their name: the usual ones, seeded random ones, or a file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from featcache.backbones.construct import Shape, construct, download
from featcache.backbones.efficientnet_lite0 import load_embedded_weights
from featcache.backbones.table import Backbone
from featcache.backbones.weights_file import open_from_file
from featcache.errors import FeatcacheError


def open_weights(backbone: Backbone, shape: Shape, *, weights: str | None) -> tuple[Any, str]:
    """The Keras network with its weights, and the hint that says where they came from.

    `weights` is None, "imagenet", "embedded", "random", "random:SEED" or a path. Random weights
    are only ever given when they are asked for.
    """
    usual = "embedded" if backbone.source == "embedded" else "imagenet"
    name = weights or usual
    if name == "imagenet":
        name = usual
    if name == "embedded":
        return _embedded(backbone, shape), "embedded"
    if name == "imagenet":
        return download(backbone, shape), "imagenet"
    if name.split(":")[0] == "random":
        seed = _seed(name)
        return construct(backbone, shape, seed=seed), f"random:{seed}"
    path = Path(name).expanduser().absolute()
    return open_from_file(backbone, shape, path=path), str(path)


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
