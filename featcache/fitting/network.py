"""The network of the baseline: three blocks, as tutorials build it."""

from __future__ import annotations

from typing import Any

#: Filters of the three blocks, and units of the dense layer.
FILTERS, UNITS = (16, 32, 64), 512
#: A side below this has no pixel left after three blocks: each takes 2 pixels and halves the rest.
SMALLEST = 22


def small_network(size: tuple[int, int], classes: int, seed: int) -> Any:
    """The network from pixels (n, height, width, 3) in 0..255 to logits (n, classes)."""
    from featcache.backbones.keras_import import import_keras

    keras = import_keras()
    layers = keras.layers

    def start(number: int) -> Any:
        return keras.initializers.GlorotUniform(seed + number)

    inputs = keras.Input((*size, 3), name="pixels")
    outputs = layers.Rescaling(1 / 255)(inputs)
    for number, filters in enumerate(FILTERS):
        convolution = layers.Conv2D(filters, 3, activation="relu", kernel_initializer=start(number))
        outputs = layers.MaxPooling2D()(convolution(outputs))
    outputs = layers.Flatten()(outputs)
    dense = layers.Dense(UNITS, activation="relu", kernel_initializer=start(len(FILTERS)))
    logits = layers.Dense(classes, kernel_initializer=start(len(FILTERS) + 1), name="logits")
    return keras.Model(inputs, logits(dense(outputs)), name="baseline")


def with_probabilities(model: Any) -> Any:
    """The same network, from pixels to class probabilities."""
    from featcache.backbones.keras_import import import_keras

    keras = import_keras()
    return keras.Model(model.inputs, keras.layers.Softmax()(model.outputs[0]), name=model.name)
