"""The layers of a backbone, for those who want to tap one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from featcache.backbones.construct import Shape, construct
from featcache.backbones.graph import PENULTIMATE, cut_places, steps
from featcache.backbones.layers import aliases, canonical_layers, canonical_names, find_layer
from featcache.backbones.table import Backbone
from featcache.backbones.user_models.user_network import open_user_model


@dataclass(frozen=True, slots=True)
class LayerRow:
    """One layer of a backbone at its default size.

    Attributes
    ----------
    name: canonical name, as --layer takes it.
    kind: class of the layer.
    shape: of its output for one image; () where it has several.
    cut: whether the graph can be cut here: all later layers read the input through this output.
    alias: its portable name, "" where it has none.
    top: whether it belongs to the ImageNet classifier.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    cut: bool
    alias: str
    top: bool

    @property
    def numbers(self) -> int:
        """Numbers in the output of one image."""
        return math.prod(self.shape) if self.shape else 0

    @property
    def bytes(self) -> int:
        """Bytes of the output of one image as float32."""
        return 4 * self.numbers


def list_layers(backbone: Backbone) -> list[LayerRow]:
    """Every layer at the default size, those of the top last; needs no weights."""
    size = (backbone.size, backbone.size)
    base = construct(backbone, Shape(size))
    whole = construct(backbone, Shape(size, include_top=True))
    rows = _rows(base, {name: alias for alias, name in aliases(base).items()}, top=False)
    names = {row.name for row in rows}
    _, read = find_layer(whole, PENULTIMATE)
    penultimate = {canonical_names(whole)[read.name]: PENULTIMATE}
    return rows + [row for row in _rows(whole, penultimate, top=True) if row.name not in names]


def list_user_layers(
    path: Path, *, trusted: bool, size: tuple[int, int] | None = None
) -> tuple[list[LayerRow], str]:
    """What of a user's own model can be tapped, and a sentence on what can be done with it.

    Raises `FeatcacheError` as `open_user_model` does.
    """
    model = open_user_model(path, trusted=trusted, size=size, scale="none")
    kinds = {layer.name: type(layer).__name__ for layer in model.network.layers}
    rows = [
        LayerRow(name, kinds.get(name, "output"), tuple(tensor.shape[1:]), False, "", top=False)
        for name, tensor in model.tensors.items()
    ]
    taps = "its layers can be tapped" if model.taps else "its outputs alone can be tapped"
    tuning = "it can be fine-tuned" if model.finetune else "it cannot be fine-tuned"
    return rows, f"{taps}; {tuning}; it runs in OpenVINO and in TensorFlow"


def _rows(network: Any, alias_of: dict[str, str], *, top: bool) -> list[LayerRow]:
    graph = steps(network)
    cuts = {id(graph[place].operation) for place in cut_places(network, graph)}
    return [
        LayerRow(
            name=name,
            kind=type(layer).__name__,
            shape=_shape(layer),
            cut=id(layer) in cuts,
            alias=alias_of.get(name, ""),
            top=top,
        )
        for name, layer in canonical_layers(network).items()
    ]


def _shape(layer: Any) -> tuple[int, ...]:
    output = layer.output
    if isinstance(output, list | tuple | dict):
        return ()
    return tuple(int(side) for side in output.shape[1:])
