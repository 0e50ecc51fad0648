"""The step that Keras adds to EfficientNetB0..B7 for its ImageNet weights, and only for those.

Their files store the standard deviation where the variance belongs, so Keras divides once more by
its square root, when it is asked for "imagenet". The same file given as a path would lack that
step, and the same weight values would give other vectors. So here the weights decide.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from featcache.backbones.keras_import import import_keras
from featcache.backbones.table import Backbone

_STD = (0.229, 0.224, 0.225)


def with_imagenet_rescaling(backbone: Backbone, network: Any) -> Any:
    """The network itself, or one with the step where its weights are of the kind that needs it."""
    if backbone.module != "efficientnet":
        return network
    keras = import_keras()
    normalization = keras.layers.Normalization
    stored = next(layer for layer in network.layers if isinstance(layer, normalization))
    if not np.allclose(stored.adapt_variance.numpy(), _STD, atol=1e-4):
        return network

    def call(layer: Any, *inputs: Any, **options: Any) -> Any:
        output = layer(*inputs, **options)
        if isinstance(layer, normalization):
            output = keras.layers.Rescaling([1.0 / math.sqrt(std) for std in _STD])(output)
        return output

    rescaled = keras.models.clone_model(network, call_function=call)
    for mine, theirs in zip(rescaled.weights, network.weights, strict=True):
        mine.assign(theirs)
    for layer in rescaled.layers:
        if isinstance(layer, normalization):
            layer.finalize_state()
    return rescaled
