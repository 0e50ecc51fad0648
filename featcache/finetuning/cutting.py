"""Cutting: where a network can be parted in two, and what lies on either side.

A part below a cut never changes while the layers above it are trained: its activations can be
cached. Costs are counted in multiply-adds of the layers' kernels.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np

from featcache.backbones.graph import Step, cut_places, has_graph, steps
from featcache.backbones.layers import canonical_names


@dataclass(frozen=True, slots=True)
class Cut:
    """A place where one tensor holds all that goes on.

    Attributes
    ----------
    layer: canonical name of the layer whose output it is.
    shape: of that output, without the batch.
    saved: the share of the network's multiply-adds that lies below it.
    above: how many layers with kernels lie above it.
    """

    layer: str
    shape: tuple[int, ...]
    saved: float
    above: int

    @property
    def numbers(self) -> int:
        """Numbers in the activations of one image."""
        return int(np.prod(self.shape))


def list_cuts(network: Any, *, below: Collection[str] | None = None) -> list[Cut]:
    """The cuts of a Keras network, from the input on.

    `below`: only those below all of these layers (canonical names). None: all of them.
    """
    if not has_graph(network):
        return []
    graph = steps(network)
    names = canonical_names(network)
    trained = [
        place
        for place, step in enumerate(graph)
        if below is not None and names.get(step.operation.name) in below
    ]
    costs = np.cumsum([multiply_adds(step) for step in graph])
    kernels = np.cumsum([bool(kernel_shapes(step.operation)) for step in graph])
    layers = {id(layer) for layer in network.layers}
    first = min(trained, default=len(graph))
    return [
        Cut(
            layer=names[graph[place].operation.name],
            shape=tuple(graph[place].operation.output.shape[1:]),
            saved=float(costs[place] / max(costs[-1], 1)),
            above=int(kernels[-1] - kernels[place]),
        )
        for place in sorted(cut_places(network, graph))
        if place < first and _is_cached(graph[place], layers)
    ]


def _is_cached(step: Step, layers: set[int]) -> bool:
    """Whether a step is a layer that can be tapped, and not the input itself."""
    is_layer = id(step.operation) in layers and bool(step.parents)
    return is_layer and None not in step.operation.output.shape[1:]


def multiply_adds(step: Step) -> float:
    """Of the kernels of a layer, for one image; of a network in the network, of all its layers."""
    layer = step.operation
    if hasattr(layer, "layers"):
        return sum(multiply_adds(inner) for inner in steps(layer)) if has_graph(layer) else 0.0
    if not step.is_single:
        return 0.0
    places = float(np.prod([side or 1 for side in layer.output.shape[1:-1]]))
    return places * float(sum(np.prod(shape) for shape in kernel_shapes(layer)))


def total_multiply_adds(network: Any, among: Collection[str] | None = None) -> float:
    """Of all layers of a Keras network, or `among` some (canonical names), for one image.

    0 where the network has no graph to look at.
    """
    if not has_graph(network):
        return 0.0
    names = canonical_names(network)
    return sum(
        multiply_adds(step)
        for step in steps(network)
        if among is None or names.get(step.operation.name) in among
    )


def kernel_shapes(layer: Any) -> list[tuple[int, ...]]:
    """The shapes of a layer's weights of two or more dimensions: no biases, no normalisation."""
    return [tuple(each.shape) for each in getattr(layer, "weights", ()) if len(each.shape) >= 2]
