"""Layers by the names a fresh session gives them, and taps on their outputs.

Keras numbers the layers that have no name of their own through the whole process: the same layer
is ``conv2d_93`` in one session and ``conv2d_187`` in the next. Recipes and users need one name.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from featcache.backbones.graph import PENULTIMATE, classifier_input, stride_layers
from featcache.backbones.keras_import import import_keras
from featcache.errors import FeatcacheError

#: From so many numbers on, a sum is taken in two stages.
LONG_SUM = 1024


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


def aliases(network: Any) -> dict[str, str]:
    """Portable alias -> canonical name of its layer, as far as this network has them.

    `penultimate` is there only with the top (see `Backbone.penultimate` for one without); its
    name is "" where the classifier reads what the base itself gives when it is pooled.
    """
    names = canonical_names(network)
    found = {alias: names[layer.name] for alias, layer in stride_layers(network).items()}
    read = classifier_input(network)
    if read is not None:
        layer, is_own_output = read
        found[PENULTIMATE] = "" if is_own_output else names[layer.name]
    return found


def find_layer(network: Any, name: str) -> tuple[str, Any]:
    """The canonical name and the layer of `name`: a name, an index from the end, or an alias.

    An index is "-1", "-2" ...; the aliases are those of `aliases`. Raises `FeatcacheError` with
    the nearest names where there is none.
    """
    layers = canonical_layers(network)
    if re.fullmatch(r"-[1-9]\d*", name) and int(name) >= -len(layers):
        return list(layers.items())[int(name)]
    if name in layers:
        return name, layers[name]
    known = aliases(network)
    read = classifier_input(network) if name == PENULTIMATE else None
    if read is not None:
        return known[name], read[0]
    if name in known:
        return known[name], layers[known[name]]
    raise FeatcacheError(
        f"--layer {name!r} is not a layer of {network.name} ({len(layers)} layers): "
        f"{nearest(name, list(layers), list(known))}"
    )


def nearest(name: str, layers: list[str], known: list[str]) -> str:
    """Words that name the nearest of layers and aliases (or the last layers), and all aliases."""
    near = difflib.get_close_matches(name, [*layers, *known], n=5, cutoff=0.4)
    words = f"nearest are {', '.join(near)}" if near else f"the last are {', '.join(layers[-5:])}"
    aliased = f"; aliases here are {', '.join(known)}" if known else ""
    return f"{words}{aliased}; `featcache layers` lists all of them"


def has_layer(network: Any, name: str) -> bool:
    """Whether `find_layer` would find it."""
    try:
        find_layer(network, name)
    except FeatcacheError:
        return False
    return True


def output_of(layer: Any) -> Any:
    """The layer's output tensor; raises `FeatcacheError` where it has several."""
    output = layer.output
    if isinstance(output, (list, tuple, dict)):
        raise FeatcacheError(f"--layer {layer.name!r} has several outputs; choose one with one")
    return output


def pooled(output: Any, pooling: str) -> Any:
    """A tensor, pooled as asked for where it is a map (4-D)."""
    keras = import_keras()
    if len(output.shape) == 4 and pooling == "avg":
        return _mean(output)
    if len(output.shape) == 4 and pooling == "max":
        return keras.layers.GlobalMaxPooling2D()(output)
    return output


def _mean(output: Any) -> Any:
    """The mean over height and width; of a large map over the height first, then over the width.

    Both runtimes add up numbers one after the other in float32: of 112 x 112 nearly equal ones,
    Keras's own mean was off by 1.8e-5.
    """
    layers = import_keras().layers
    _, height, width, channels = output.shape
    if None in (height, width) or height * width < LONG_SUM:
        return layers.GlobalAveragePooling2D()(output)
    columns = layers.GlobalAveragePooling1D()(layers.Reshape((height, width * channels))(output))
    return layers.GlobalAveragePooling1D()(layers.Reshape((width, channels))(columns))


@contextmanager
def computing_in(layers: Sequence[Any], precision: str) -> Iterator[None]:
    """Within it, Keras layers compute in "float16" or "bfloat16"; weights stay float32 values.

    The policy is Keras's own mixed one, set on the layers that are there: no weight is copied or
    changed, and afterwards, or in "float32", they are what they were.
    """
    layers = [] if precision == "float32" else layers
    before = [layer.dtype_policy for layer in layers]
    try:
        for layer in layers:
            layer.dtype_policy = f"mixed_{precision}"
        yield
    finally:
        for layer, policy in zip(layers, before, strict=True):
            layer.dtype_policy = policy


def snake_case(name: str) -> str:
    """A class name as Keras puts it into layer names and weights files."""
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


def _automatic(layer: Any) -> tuple[str, int]:
    """The prefix and number of a name that Keras made up, or ("", 0) for a given name."""
    prefix = snake_case(type(layer).__name__)
    match = re.fullmatch(rf"{prefix}(?:_(\d+))?", layer.name)
    return (prefix, int(match[1] or 0)) if match else ("", 0)
