"""Portable names for places in a network: the same word in every architecture.

``stride8`` is the last layer whose map has an eighth of the input's height and width and through
whose output alone all later layers read the input. The strides of the layers say so, not the
shapes at some size: an alias is the same layer at every input size.

``penultimate`` is what the classifier reads.
"""

from __future__ import annotations

from typing import Any

from featcache.backbones.graph import Step, cut_places, has_graph, output_places, steps, strides
from featcache.backbones.table import Backbone

STRIDES = (2, 4, 8, 16, 32)
PENULTIMATE = "penultimate"

#: They change the size of a map by a few pixels, and nothing else.
_BORDERS = ("ZeroPadding2D", "Cropping2D")

#: What may stand between a classifier's weights and its output, or before its weights.
_PASSING = ("Activation", "Softmax", "Flatten", "Reshape", "Dropout")


def stride_layers(network: Any) -> dict[str, Any]:
    """The layer of each ``strideN``, as far as the network has one."""
    if not has_graph(network):
        return {}
    graph = steps(network)
    layers = {id(layer) for layer in network.layers}
    stride = strides(graph)
    found = {}
    for place in sorted(cut_places(network, graph)):
        step = graph[place]
        is_map = len(step.operation.output.shape) == 4 and step.kind not in _BORDERS
        if is_map and id(step.operation) in layers and stride[place] in STRIDES:
            found[f"stride{int(stride[place])}"] = step.operation
    return dict(sorted(found.items(), key=lambda pair: int(pair[0].removeprefix("stride"))))


def classifier_input(network: Any) -> tuple[Any, bool] | None:
    """The layer that a network's classifier reads, and whether it is what the base itself gives.

    None where the network has no classifier.
    """
    if not has_graph(network):
        return None
    graph = steps(network)
    outputs = output_places(network, graph)
    place = _skipped(graph, outputs[0]) if len(outputs) == 1 else None
    if place is None or not graph[place].kind.startswith(("Dense", "Conv2D")):
        return None
    if len(graph[outputs[0]].operation.output.shape) != 2 or len(graph[place].parents) != 1:
        return None
    read = _skipped(graph, graph[place].parents[0], ("Dropout",))
    before = _skipped(graph, read, ("LayerNormalization", "Reshape"))
    return graph[read].operation, graph[before].kind.startswith("Global")


def penultimate_layer(backbone: Backbone) -> str:
    """What a backbone's classifier reads: "" for its own pooled output, or a layer of its top."""
    return backbone.penultimate


def _skipped(graph: list[Step], place: int, kinds: tuple[str, ...] = _PASSING) -> int:
    """The nearest place at or before `place` that is none of these kinds."""
    while graph[place].kind in kinds and len(graph[place].parents) == 1:
        place = graph[place].parents[0]
    return place
