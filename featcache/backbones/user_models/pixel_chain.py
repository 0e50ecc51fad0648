"""What a Keras model does first to its pixels: whether it scales them from 0..255 itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

#: Layers that leave a pixel's value range alone, when nothing is trained.
_NEUTRAL = {
    "Identity", "InputLayer", "Resizing", "CenterCrop", "ZeroPadding2D", "Dropout",
    "Cast",
}  # fmt: skip

#: A divisor, mean or inverse factor from here on is made for 0..255; for 0..1 they are near 1.
_BYTES = 30.0


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a layer: what went in, constants and all, and what came out."""

    layer: Any
    inputs: tuple[Any, ...]
    output: Any


def scales_itself(pixels: Any, calls: list[Call]) -> str:
    """How the model brings pixels in 0..255 to its range, as a clause; "" where it does not tell.

    Only a single chain of steps from the input counts: with two branches nothing is certain.
    """
    first = _takers(pixels, calls)
    if all(type(call.layer).__name__ == "GetItem" for call in first):
        # Keras turns RGB round to BGR by taking the channels one by one and stacking them again.
        first = _one_each([taker for call in first for taker in _takers(call.output, calls)])
        if [type(call.layer).__name__ for call in first] == ["Stack"]:
            return scales_itself(first[0].output, calls)
    if len(first) != 1:
        return ""
    layer = first[0].layer
    if hasattr(layer, "layers"):
        return _nested(layer) or _follow(first[0], calls)
    if _takes_bytes(first[0]):
        return f"the model scales pixels 0..255 itself, in its layer {layer.name!r}"
    return _follow(first[0], calls) if _is_neutral(layer) else ""


def _takers(tensor: Any, calls: list[Call]) -> list[Call]:
    """The calls that a tensor goes into, alone or in a list."""
    return [call for call in calls if any(given is tensor for given in _flat(call.inputs))]


def _one_each(calls: list[Call]) -> list[Call]:
    return list({id(call): call for call in calls}.values())


def _flat(inputs: Any) -> list[Any]:
    if not isinstance(inputs, (list, tuple)):
        return [inputs]
    return [value for each in inputs for value in _flat(each)]


def _follow(call: Call, calls: list[Call]) -> str:
    neutral = all(_is_neutral(layer) for layer in _inner(call.layer))
    return scales_itself(call.output, calls) if neutral else ""


def _nested(model: Any) -> str:
    """The same of a model in the model, whose layers stand in order."""
    for layer in _inner(model):
        if _takes_bytes(Call(layer, (), None)):
            return f"the model scales pixels 0..255 itself, in its layer {layer.name!r}"
        if not _is_neutral(layer):
            return ""
    return ""


def _inner(layer: Any) -> list[Any]:
    if not hasattr(layer, "layers"):
        return [layer]
    return [inner for each in layer.layers for inner in _inner(each)]


def _is_neutral(layer: Any) -> bool:
    kind = type(layer).__name__
    return kind in _NEUTRAL or kind.startswith("Random")


def _takes_bytes(call: Call) -> bool:
    """Whether a step's constants are made for pixels in 0..255."""
    kind = type(call.layer).__name__
    if kind == "Rescaling":
        return bool(np.max(np.abs(call.layer.scale)) <= 1 / _BYTES)
    if kind == "Normalization":
        return bool(np.max(np.abs(np.asarray(call.layer.mean))) >= _BYTES)
    constants = [np.asarray(value, np.float64) for value in call.inputs if _is_number(value)]
    if not constants:
        return False
    largest = float(np.max(np.abs(constants[0])))
    if kind == "Multiply":
        return largest <= 1 / _BYTES
    return kind in ("TrueDivide", "Divide", "Subtract", "Add") and largest >= _BYTES


def _is_number(value: Any) -> bool:
    """A constant in a graph of layers: a number, an array, or an eager tensor."""
    return isinstance(value, (int, float, np.ndarray)) or hasattr(value, "numpy")
