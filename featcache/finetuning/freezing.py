"""Freezing: which layers of a network learn, and where it can be split in two.

A part below a cut never changes while the layers above it are trained: its activations can be
cached. Costs are counted in multiply-adds of the layers' kernels.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np

from featcache.backbones.graph import Step, cut_places, has_graph, steps
from featcache.backbones.layers import (
    aliases,
    canonical_layers,
    canonical_names,
    find_layer,
    has_layer,
    nearest,
)
from featcache.errors import FeatcacheError

#: The share of the layers with kernels that learns where nothing else is asked for.
USUAL_SHARE = 0.25
#: Above this rate, what was pretrained is soon lost.
HIGH_RATE = 1e-4


@dataclass(frozen=True, slots=True)
class Freeze:
    """Where learning begins in a network.

    Attributes
    ----------
    first: canonical name of the first layer that learns; all that follow it learn too.
    learning: canonical names of the layers with weights that learn.
    total: how many layers with weights there are.
    """

    first: str
    learning: tuple[str, ...]
    total: int

    @property
    def is_everything(self) -> bool:
        """Whether no layer with weights is frozen."""
        return len(self.learning) == self.total


def freeze(base: Any, unfreeze_from: str | None) -> Freeze:
    """Set which layers of a Keras network learn: the one that is named, and all behind it.

    `unfreeze_from` is a layer's name or alias, its number as Keras counts (100), from the end
    (-20), "all", or None: about the top quarter, from a place where the network can be cut.

    Raises `FeatcacheError` where there is no such layer, or nothing that could learn behind it.
    """
    base.trainable = True  # a model may have been saved with frozen layers
    if not base.trainable_weights:
        raise FeatcacheError(
            "this model has no weights that can be trained: name another --backbone, or fit a head "
            "on its features with `featcache fit-head`"
        )
    layers = canonical_layers(base)
    names = list(layers)
    first, last = _first(base, names, unfreeze_from), _last(base)
    if first > last:
        raise FeatcacheError(
            f"--unfreeze-from {unfreeze_from}: no layer from {names[first]!r} on has weights; the "
            f"last that has is {names[last]!r}. For the head alone, `featcache fit-head` is enough"
        )
    for place, layer in enumerate(layers.values()):
        layer.trainable = place >= first
    learning = tuple(name for name in names[first:] if layers[name].weights)
    return Freeze(names[first], learning, sum(bool(layer.weights) for layer in layers.values()))


def remarks_on(found: Freeze, learning_rate: float) -> list[str]:
    """What is likely to go wrong."""
    if learning_rate <= HIGH_RATE:
        return []
    what = "every layer learns" if found.is_everything else "pretrained layers learn"
    return [
        f"{what} at a rate of {learning_rate:g}: the first steps are so large that what was "
        f"pretrained is lost before the head has settled; usual are 1e-5 to {HIGH_RATE:g}"
    ]


def _first(base: Any, names: list[str], asked: str | None) -> int:
    if asked is None:
        return names.index(_usual(base))
    if asked == "all":
        return 0
    if re.fullmatch(r"-?\d+", asked):
        if not -len(names) <= int(asked) < len(names):
            raise FeatcacheError(
                f"--unfreeze-from {asked}: the network has {len(names)} layers, 0 to "
                f"{len(names) - 1}, or from the end -1 to -{len(names)}; `featcache layers` lists "
                f"them"
            )
        return int(asked) % len(names)
    if not has_layer(base, asked):
        could_learn = names[: _last(base) + 1]
        known = [alias for alias, name in aliases(base).items() if name in could_learn]
        raise FeatcacheError(
            f"--unfreeze-from {asked!r} is not a layer of the network ({len(names)} layers): "
            f"{nearest(asked, could_learn, known)}"
        )
    return list(canonical_layers(base).values()).index(find_layer(base, asked)[1])


def _last(base: Any) -> int:
    """The place of the last layer that could learn."""
    layers = canonical_layers(base).values()
    return max(place for place, layer in enumerate(layers) if layer.trainable_weights)


def _usual(base: Any) -> str:
    """The first layer of about the top quarter; if it can be, the first behind a cut."""
    layers = canonical_layers(base)
    kernels = [name for name, layer in layers.items() if kernel_shapes(layer)]
    wanted = USUAL_SHARE * len(kernels)
    near = [cut for cut in list_cuts(base) if wanted / 2 <= cut.above <= 2 * wanted]
    if not near:
        return kernels[-max(1, round(wanted))]
    # Of equals the one with the smallest rows, and of those the last: behind a layer's BatchNorm.
    cut = min(near, key=lambda cut: (abs(cut.above - wanted), cut.numbers, -near.index(cut)))
    behind = list(layers)[list(layers).index(cut.layer) + 1 :]
    return next(name for name in behind if layers[name].weights)


@dataclass(frozen=True, slots=True)
class Cut:
    """A place where one tensor carries everything.

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


def kernel_shapes(layer: Any) -> list[tuple[int, ...]]:
    """The shapes of a layer's weights of two or more dimensions: no biases, no normalisation."""
    return [tuple(each.shape) for each in getattr(layer, "weights", ()) if len(each.shape) >= 2]
