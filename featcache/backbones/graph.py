"""The graph of a Keras network: where one tensor carries everything, and at which stride.

Portable names of such places: ``stride8`` is the last layer whose map has an eighth of the input's
height and width and through whose output alone all later layers read the input. The strides of the
layers say so, not the shapes at some size: an alias is the same layer at every input size.
``penultimate`` is what the classifier reads.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

#: Behind these a map has another stride than its layers' strides say, or none.
_NO_STRIDE = ("Global", "UpSampling", "Conv2DTranspose", "Flatten", "Resizing", "Reshape")

STRIDES = (2, 4, 8, 16, 32)
PENULTIMATE = "penultimate"

#: They change the size of a map by a few pixels, and nothing else.
_BORDERS = ("ZeroPadding2D", "Cropping2D")

#: What may stand between a classifier's weights and its output, or before its weights.
_PASSING = ("Activation", "Softmax", "Flatten", "Reshape", "Dropout")


@dataclass(frozen=True, slots=True)
class Step:
    """One operation of a graph and the places of those it reads; `calls` is how often it runs."""

    operation: Any
    parents: tuple[int, ...]
    calls: int

    @property
    def kind(self) -> str:
        return type(self.operation).__name__

    @property
    def is_single(self) -> bool:
        """Whether it gives exactly one tensor, once."""
        output = self.operation.output if self.calls == 1 else None
        return output is not None and not isinstance(output, list | tuple | dict)


def has_graph(network: Any) -> bool:
    """Whether the network is made of layers with known connections (a subclassed one is not)."""
    return hasattr(_functional(network), "operations")


def steps(network: Any) -> list[Step]:
    """The operations of a network, each behind those it reads; not all of them are layers."""
    network = _functional(network)
    operations = network.operations
    places = {id(operation): place for place, operation in enumerate(operations)}
    mine = {id(node) for depth in network._nodes_by_depth.values() for node in depth}
    graph = []
    for operation in operations:
        # A layer may also be part of other networks, with nodes of theirs.
        nodes = [node for node in operation._inbound_nodes if id(node) in mine]
        parents = {places[id(parent.operation)] for node in nodes for parent in node.parent_nodes}
        graph.append(Step(operation, tuple(sorted(parents)), len(nodes)))
    return graph


def tensor_of(network: Any, layer: Any) -> Any:
    """What a layer gives in this very network: it may be part of others, with other tensors."""
    nodes = (node for depth in _functional(network)._nodes_by_depth.values() for node in depth)
    return next(node.outputs[0] for node in nodes if node.operation is layer)


def output_places(network: Any, graph: list[Step]) -> list[int]:
    """The places of the operations whose results the network gives."""
    outputs = {id(tensor._keras_history[0]) for tensor in _functional(network).outputs}
    return [place for place, step in enumerate(graph) if id(step.operation) in outputs]


def cut_places(network: Any, graph: list[Step]) -> set[int]:
    """The places where the graph can be cut: all that follows reads the input through this tensor.

    The graph is in order, so a place is on every path from input to output exactly where no
    connection passes over it: one walk finds all of them.
    """
    furthest = list(range(len(graph)))
    for place, step in enumerate(graph):
        for parent in step.parents:
            first, last = sorted((parent, place))  # a layer that is called again reads backwards
            furthest[first] = max(furthest[first], last)
    for place in output_places(network, graph):
        furthest[place] = len(graph)
    reached = max(place for place, step in enumerate(graph) if not step.parents)
    found = set()
    for place, step in enumerate(graph):
        if reached <= place and step.is_single:
            found.add(place)
        reached = max(reached, furthest[place])
    return found


def strides(graph: list[Step]) -> list[float]:
    """Pixels of the input for each step of each operation's map; infinite where it has no map."""
    found: list[float] = []
    for place, step in enumerate(graph):
        # A gate (squeeze-and-excitation) has no map of its own: the smallest stride is the map's.
        before = min((found[parent] for parent in step.parents if parent < place), default=1.0)
        found.append(before * _own_stride(step.operation))
    return found


def _own_stride(operation: Any) -> float:
    nested: Iterable[Any] = getattr(operation, "layers", ())
    if nested:
        return math.prod(_own_stride(layer) for layer in nested)
    if type(operation).__name__.startswith(_NO_STRIDE):
        return math.inf
    given = getattr(operation, "strides", 1)
    sides = set(given) if isinstance(given, list | tuple) else {given}
    return float(sides.pop()) if len(sides) == 1 else math.inf


def _functional(network: Any) -> Any:
    """A Sequential keeps its graph in a network inside."""
    return getattr(network, "_functional", None) or network


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


def _skipped(graph: list[Step], place: int, kinds: tuple[str, ...] = _PASSING) -> int:
    """The nearest place at or before `place` that is none of these kinds."""
    while graph[place].kind in kinds and len(graph[place].parents) == 1:
        place = graph[place].parents[0]
    return place
