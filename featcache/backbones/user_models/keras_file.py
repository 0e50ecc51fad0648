"""A ``.keras`` file as a backbone: its archive is checked, then Keras loads it in safe mode.

Its first layer may say that it scales pixels from 0..255 itself.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from featcache.backbones.keras_import import import_keras
from featcache.backbones.user_models.keras_archive import check_archive
from featcache.backbones.user_models.user_model import (
    UserModel,
    input_problem,
    one_line,
    settle_scale,
    settle_size,
)
from featcache.errors import FeatcacheError

#: What TensorFlow takes for a name in its graphs; Keras saves others, but cannot run them.
_RUNNABLE_NAME = re.compile(r"[A-Za-z0-9_.>-]*")

#: Layers that leave a pixel's value range alone, when nothing is trained.
_NEUTRAL = {
    "Identity", "InputLayer", "Resizing", "CenterCrop", "ZeroPadding2D", "Dropout",
    "Cast",
}  # fmt: skip

#: A mean or inverse factor from here on is made for 0..255; for 0..1 they are near 1.
_BYTES = 30.0


@dataclass(frozen=True, slots=True)
class Replay:
    """A loaded model called once more on pixels of a known size, every layer's output noted.

    `feature` is the name of the model's one output; "" where it has several.
    """

    network: Any
    tensors: dict[str, Any]
    feature: str
    calls: list[Call]


def open_keras_file(
    path: Path, digest: str, *, size: tuple[int, int] | None, scale: str | None
) -> UserModel:
    """Open a ``.keras`` file that the user trusts; every layer called once can be tapped."""
    check_archive(path)
    model = _load(path)
    settled = settle_size(path, _input_sides(path, model), size)
    replay = _replay(path, model, settled)
    scaling, remarks = settle_scale(path, scale, scales_itself(replay.network.input, replay.calls))
    return UserModel(
        path=path,
        digest=digest,
        size=settled,
        scaling=scaling,
        network=replay.network,
        tensors=replay.tensors,
        feature=replay.feature,
        taps=True,
        finetune=bool(replay.network.trainable_weights),
        remarks=(*remarks, *_softmax_remark(model, replay.feature)),
    )


def _load(path: Path) -> Any:
    keras = import_keras()
    try:
        model = keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:
        # A configuration can fail in any layer's own code; the text says in which.
        raise FeatcacheError(f"Keras cannot load {path}: {one_line(error)}") from error
    if not isinstance(model, (keras.Sequential, type(keras.Model(*_identity(keras))))):
        raise FeatcacheError(
            f"{path} holds a {type(model).__name__}, a model without a graph of layers: export it "
            "as a SavedModel: model.export('folder')"
        )
    for layer in model._flatten_layers(include_self=False):
        if not _RUNNABLE_NAME.fullmatch(layer.name):
            raise FeatcacheError(
                f"{path}: TensorFlow cannot run a layer of the name {layer.name[:80]!r}, nor can "
                "Keras's predict: rename it to letters, digits and _.>- and save it again"
            )
    for layer in model._flatten_layers():
        if layer.compute_dtype in ("float16", "bfloat16", "float64"):
            raise FeatcacheError(
                f"{path}: layer {layer.name!r} computes in {layer.compute_dtype}; featcache needs "
                "float32: load it, set layer.dtype_policy = 'float32' on its layers, save it again"
            )
    return model


def _identity(keras: Any) -> tuple[Any, Any]:
    """Input and output of the smallest graph of layers: Keras has no public name for its class."""
    pixels = keras.Input((1,))
    return pixels, keras.layers.Identity()(pixels)


def _input_sides(path: Path, model: Any) -> tuple[int | None, int | None]:
    """(height, width) of the model's one input; None where any will do."""
    inputs = getattr(model, "inputs", None) or []
    if len(inputs) != 1:
        names = ", ".join(tensor.name for tensor in inputs) or "none that is known"
        raise FeatcacheError(
            f"{path} has {len(inputs)} inputs ({names}): expected is one, a batch of RGB images"
        )
    shape, dtype = tuple(inputs[0].shape), inputs[0].dtype
    problem = input_problem(shape, dtype)
    if problem:
        raise FeatcacheError(f"{path}: {problem}")
    return shape[1], shape[2]


def _replay(path: Path, model: Any, size: tuple[int, int]) -> Replay:
    """Call the model's own layers, weights and all, on an input of fixed size."""
    keras = import_keras()
    calls: list[Call] = []

    def call(layer: Any, *inputs: Any, **options: Any) -> Any:
        output = layer(*inputs, **options)
        calls.append(Call(layer, (*inputs, *options.values()), output))
        return output

    pixels = keras.Input((*size, 3), dtype="float32", name="pixels")
    try:
        outputs = _called_again(model, pixels, call)
    except Exception as error:
        # As above: whatever a layer raises for a size that it cannot take.
        size_text = f"{size[0]}x{size[1]}"
        raise FeatcacheError(f"{path} cannot take {size_text}: {one_line(error)}") from error
    network = keras.Model(pixels, outputs[0] if len(outputs) == 1 else outputs)
    tensors = _tensors(calls)
    if len(outputs) != 1:
        return Replay(network, tensors, "", calls)
    names = [name for name, tensor in tensors.items() if tensor is outputs[0]]
    if not names:
        # Its last layer is called more than once.
        tensors["output"] = outputs[0]
    return Replay(network, tensors, names[0] if names else "output", calls)


def _called_again(model: Any, pixels: Any, call: Callable[..., Any]) -> list[Any]:
    """The outputs of the model's layers on `pixels`, each layer called through `call`."""
    keras = import_keras()
    if isinstance(model, keras.Sequential):
        return [functools.reduce(lambda tensor, layer: call(layer, tensor), model.layers, pixels)]
    again = keras.models.clone_model(
        model,
        keras.tree.pack_sequence_as(model.input, [pixels]),
        clone_function=lambda layer: layer,
        call_function=call,
    )
    return list(again.outputs)


def _tensors(calls: list[Call]) -> dict[str, Any]:
    """One output of each layer that is called once, by the name that the file gives it."""
    counts: dict[str, int] = {}
    for call in calls:
        counts[call.layer.name] = counts.get(call.layer.name, 0) + 1
    return {
        call.layer.name: call.output
        for call in calls
        if counts[call.layer.name] == 1 and hasattr(call.output, "shape")
    }


def _softmax_remark(model: Any, feature: str) -> tuple[str, ...]:
    last = model.layers[-1]
    while hasattr(last, "layers"):
        last = last.layers[-1]
    activation = getattr(getattr(last, "activation", None), "__name__", "")
    if feature and (activation == "softmax" or type(last).__name__ == "Softmax"):
        return (f"its output {feature!r} is class probabilities; --layer -2 taps the layer before",)
    return ()


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a layer: what went in, constants and all, and what came out."""

    layer: Any
    inputs: tuple[Any, ...]
    output: Any


def scales_itself(pixels: Any, calls: list[Call]) -> str:
    """How the model brings pixels in 0..255 to its range, as a clause; "" where it does not tell.

    A layer made for that tells, as the first that does anything in a single chain from the input:
    with two branches, or arithmetic between layers, nothing is certain.
    """
    flatten = import_keras().tree.flatten
    takers = [call for call in calls if any(given is pixels for given in flatten(call.inputs))]
    if len(takers) != 1:
        return ""
    for layer in _inner(takers[0].layer):
        if _takes_bytes(layer):
            return f"the model scales pixels 0..255 itself, in its layer {layer.name!r}"
        if not (type(layer).__name__ in _NEUTRAL or type(layer).__name__.startswith("Random")):
            return ""
    return scales_itself(takers[0].output, calls)


def _inner(layer: Any) -> list[Any]:
    """The layers of a model in the model, which stand in order; of any other layer, itself."""
    if not hasattr(layer, "layers"):
        return [layer]
    return [inner for each in layer.layers for inner in _inner(each)]


def _takes_bytes(layer: Any) -> bool:
    """Whether a layer's constants are made for pixels in 0..255."""
    if type(layer).__name__ == "Rescaling":
        return bool(np.max(np.abs(layer.scale)) <= 1 / _BYTES)
    if type(layer).__name__ == "Normalization":
        return bool(np.max(np.abs(np.asarray(layer.mean))) >= _BYTES)
    return False
