"""Layers that stay in inference mode while the model around them is trained.

``base(x, training=False)`` does not do it: when a functional model is called with
``training=True``, Keras 3 hands that to every layer in it, whatever was said when it was built
(keras-team/keras#20285), and an unfrozen BatchNorm then normalises by its batch.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from featcache.backbones.keras_import import import_keras


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
