"""A Keras model in float64: what its float32 results are measured against.

The model is built again from its own configuration with another type, and given the same weight
values. Where that cannot be done (a SavedModel is a finished float32 graph), float32 itself is
disturbed by its last bit, which moves the results about as far as its rounding does.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np


def in_float64(model: Any) -> Any | None:
    """A copy of a model that computes in float64; None where it cannot be built so.

    Its input is cast, its weights have the model's values. The copy takes twice their memory.
    """
    try:
        copy = type(model).from_config(_converted(model.get_config()))
    except (NotImplementedError, TypeError, ValueError):
        return None  # a layer that cannot be built from its configuration
    if [_floats(each) for each in copy.weights] != [_floats(each) for each in model.weights]:
        return None
    for ours, theirs in zip(copy.weights, model.weights, strict=True):
        if _floats(ours) and str(ours.dtype) != "float64":
            return None  # a layer that keeps its own type
        value = theirs.numpy()
        # The kernel of a convolution by channels has its last two axes the other way round.
        ours.assign(value if value.shape == tuple(ours.shape) else np.swapaxes(value, -1, -2))
    return copy


def _converted(config: Any) -> Any:
    """A configuration with float64 for float32 everywhere, sub-models and wrapped layers too."""
    if isinstance(config, dict):
        return {name: _converted(value) for name, value in _by_channels(config).items()}
    if isinstance(config, (list, tuple)):
        return type(config)(_converted(value) for value in config)
    return "float64" if isinstance(config, str) and config == "float32" else config


def _by_channels(config: dict[str, Any]) -> dict[str, Any]:
    """A convolution with a group for each channel, as the layer made for that.

    Keras hands groups to XLA, which takes thirty times as long for them in float64.
    """
    if config.get("class_name") != "Conv2D":
        return config
    own, shape = dict(config["config"]), config.get("build_config", {}).get("input_shape")
    channels = own["groups"]
    if channels == 1 or not shape or not channels == own["filters"] == shape[-1]:
        return config
    for name in ("filters", "groups"):
        del own[name]
    for name in ("initializer", "regularizer", "constraint"):
        own[f"depthwise_{name}"] = own.pop(f"kernel_{name}")
    return {**config, "class_name": "DepthwiseConv2D", "config": own}


def _floats(variable: Any) -> bool:
    return "float" in str(variable.dtype)


@contextlib.contextmanager
def disturbed(model: Any, seed: int) -> Iterator[None]:
    """Within it, weights of a model are one unit in the last place up or down, by `seed`."""
    generator = np.random.default_rng(seed)
    weights = [each for each in model.weights if str(each.dtype) == "float32"]
    before = [each.numpy() for each in weights]
    try:
        for variable, value in zip(weights, before, strict=True):
            variable.assign(disturb(value, generator))
        yield
    finally:
        for variable, value in zip(weights, before, strict=True):
            variable.assign(value)


def disturb(values: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """float32 `values`, each as it is, or the next number above or below it."""
    step = generator.integers(-1, 2, values.shape, dtype=np.int8)
    moved = np.nextafter(values, np.where(step > 0, np.float32(np.inf), np.float32(-np.inf)))
    return np.where(step == 0, values, moved)
