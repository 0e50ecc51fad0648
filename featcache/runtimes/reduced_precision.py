"""Reduced precision in TensorFlow: layers that compute in float16 or bfloat16 while traced."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

#: They stay in float32: pixels before they are scaled, and sums over a whole map. (BatchNorm and
#: LayerNorm go to float32 by themselves.) Both cost nothing beside the convolutions.
_FULL = {
    "Rescaling",
    "Normalization",
    "GlobalAveragePooling2D",
    "GlobalMaxPooling2D",
}


@contextlib.contextmanager
def computing_in(precision: str, model: Any) -> Iterator[None]:
    """Within it, calls of a Keras model compute in `precision`; weights stay float32 values.

    The policy is Keras's own mixed one, set on the layers that are there: no weight is copied or
    changed, and afterwards, or in float32, the model is what it was.
    """
    layers = [] if precision == "float32" else _layers(model)
    before = [layer.dtype_policy for layer in layers]
    try:
        for layer in layers:
            layer.dtype_policy = f"mixed_{precision}"
        yield
    finally:
        for layer, policy in zip(layers, before, strict=True):
            layer.dtype_policy = policy


def _layers(model: Any) -> list[Any]:
    """The layers that compute, those of models inside the model included."""
    found = []
    for layer in model.layers:
        if hasattr(layer, "layers"):
            found += _layers(layer)
        elif type(layer).__name__ not in _FULL:
            found.append(layer)
    return found
