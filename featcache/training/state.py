"""What changes in a model while it is trained: its weights, and its random numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

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
