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
