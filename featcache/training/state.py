"""What changes in a model while it is trained, weights and random numbers; what is held still.

``base(x, training=False)`` does not hold a layer still: when a functional model is called with
``training=True``, Keras 3 hands that to every layer in it, whatever was said when it was built
(keras-team/keras#20285), and an unfrozen BatchNorm then normalises by its batch.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from featcache.backbones.keras_import import import_keras
from featcache.errors import FeatcacheError


def changing_weights(model: Any) -> list[Any]:
    """The variables that training may change: the trainable ones, and others of layers that are
    not frozen (a BatchNorm's moving statistics). The order is the model's.

    Innermost layers decide: a block that was frozen whole may have been thawed in part.
    """
    learned = {id(variable) for variable in model.trainable_variables}
    frozen = {
        id(variable)
        for layer in model._flatten_layers()
        if not layer.trainable and not layer._flatten_layers(include_self=False)
        for variable in layer.weights
    }
    return [each for each in model.weights if id(each) in learned or id(each) not in frozen]


def values_of(variables: list[Any]) -> list[np.ndarray]:
    """A copy of what the variables hold."""
    return [np.array(variable.numpy()) for variable in variables]


def assign(variables: list[Any], values: list[np.ndarray]) -> None:
    """Give each variable its value; raises `FeatcacheError` where they are another model's."""
    there, here = [value.shape for value in values], [tuple(each.shape) for each in variables]
    if there != here:
        raise FeatcacheError(
            f"the saved weights are not this model's: {len(there)} arrays for {len(here)} variables"
        )
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def seed_generators(model: Any, *, seed: int, epoch: int) -> None:
    """Set the state of every random generator in the model by the seed and the epoch alone.

    Keras keeps no such state with the weights: a resumed run would draw other numbers.
    """
    weights = {id(variable) for variable in model.weights}
    states = [variable for variable in model.variables if id(variable) not in weights]
    for place, state in enumerate(states):
        random = np.random.default_rng([seed, epoch, place])
        state.assign(random.integers(2**31, size=state.shape).astype(state.dtype))


def parameter_counts(model: Any) -> dict[str, int]:
    """How many numbers a Keras model has: total, trainable and frozen."""
    trainable = sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)
    # Of the seeds that dropout carries, nothing is learned: they do not count.
    total = sum(int(np.prod(variable.shape)) for variable in model.weights)
    return {"total": total, "trainable": trainable, "frozen": total - trainable}


def inference_mode(layer: Any) -> Any:
    """A layer that always runs `layer` with ``training=False``; its weights learn as ever."""
    return _wrapper()(layer)


def without_wrappers(model: Any) -> Any:
    """A chain of layers as Keras's own alone, which can be saved; the weights are shared."""
    keras = import_keras()
    outputs = inputs = keras.Input(model.inputs[0].shape[1:], name=model.inputs[0].name)
    for layer in model.layers[1:]:
        outputs = (layer.inner if isinstance(layer, _wrapper()) else layer)(outputs)
    return keras.Model(inputs, outputs)


@cache
def _wrapper() -> Any:
    keras = import_keras()

    class InferenceMode(keras.layers.Layer):  # type: ignore[misc, name-defined]
        """Calls its inner layer in inference mode."""

        def __init__(self, inner: Any) -> None:
            super().__init__()
            self.inner = inner

        def call(self, inputs: Any) -> Any:
            return self.inner(inputs, training=False)

    return InferenceMode
