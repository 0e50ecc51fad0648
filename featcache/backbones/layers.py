"""Layers by the names a fresh session gives them, and taps on their outputs.

Keras numbers the layers that have no name of their own through the whole process: the same layer
is ``conv2d_93`` in one session and ``conv2d_187`` in the next. Recipes and users need one name.
"""

from __future__ import annotations

import difflib
import re
from typing import Any

from featcache.backbones.keras_import import import_keras
from featcache.errors import FeatcacheError


def canonical_layers(network: Any) -> dict[str, Any]:
    """The layers of a network by canonical name, in the network's order."""
    names = canonical_names(network)
    return {names[layer.name]: layer for layer in network.layers}


def canonical_names(network: Any) -> dict[str, str]:
    """Each layer's name in this process -> its name in a fresh session."""
    numbered: dict[str, list[tuple[int, str]]] = {}
    names = {layer.name: layer.name for layer in network.layers}
    for layer in network.layers:
        prefix, number = _automatic(layer)
        if prefix:
            numbered.setdefault(prefix, []).append((number, layer.name))
    for prefix, found in numbered.items():
        for place, (_, name) in enumerate(sorted(found)):
            names[name] = f"{prefix}_{place}" if place else prefix
    return names


def find_layer(network: Any, name: str) -> tuple[str, Any]:
    """The canonical name and the layer of `name`, which may be an index from the end ("-1").

    Raises `FeatcacheError` with the nearest names where there is none.
    """
    layers = canonical_layers(network)
    if re.fullmatch(r"-[1-9]\d*", name) and int(name) >= -len(layers):
        return list(layers.items())[int(name)]
    if name in layers:
        return name, layers[name]
    near = difflib.get_close_matches(name, layers, n=5, cutoff=0.4) or list(layers)[-5:]
    raise FeatcacheError(
        f"--layer {name!r} is not a layer of {network.name} ({len(layers)} layers): "
        f"nearest are {', '.join(near)}; `featcache layers` lists all of them"
    )


def has_layer(network: Any, name: str) -> bool:
    """Whether `find_layer` would find it."""
    try:
        find_layer(network, name)
    except FeatcacheError:
        return False
    return True


def pooled(layer: Any, pooling: str) -> Any:
    """The layer's output tensor, a map (4-D) pooled as asked for.

    Raises `FeatcacheError` for a layer with several outputs.
    """
    keras = import_keras()
    output = layer.output
    if isinstance(output, (list, tuple, dict)):
        raise FeatcacheError(f"--layer {layer.name!r} has several outputs; choose one with one")
    if len(output.shape) == 4 and pooling == "avg":
        return keras.layers.GlobalAveragePooling2D()(output)
    if len(output.shape) == 4 and pooling == "max":
        return keras.layers.GlobalMaxPooling2D()(output)
    return output


def snake_case(name: str) -> str:
    """A class name as Keras puts it into layer names and weights files."""
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


def _automatic(layer: Any) -> tuple[str, int]:
    """The prefix and number of a name that Keras made up, or ("", 0) for a given name."""
    prefix = snake_case(type(layer).__name__)
    match = re.fullmatch(rf"{prefix}(?:_(\d+))?", layer.name)
    return (prefix, int(match[1] or 0)) if match else ("", 0)
