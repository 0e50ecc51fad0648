"""Weights by their name: the usual ones, seeded random ones, or a file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from featcache.backbones.construct import Shape, construct, download
from featcache.backbones.efficientnet_lite0 import load_embedded_weights
from featcache.backbones.table import Backbone
from featcache.backbones.weights import open_from_file
from featcache.errors import FeatcacheError
from featcache.files.home import expanded


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
