"""Graphs: the network and its head as one Keras model, whole, or from a cut on.

All of them share their layers: what one learns, the others know.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from featcache.backbones import Network
from featcache.backbones.graph import tensor_of
from featcache.backbones.keras_import import import_keras
from featcache.backbones.layers import canonical_layers
from featcache.backbones.network import each_tap, scale_pixels
from featcache.finetuning.cutting import Cut
from featcache.training.state import inference_mode, without_wrappers

#: Seconds that XLA saves of a multiply-add on two cores (8e-12 with VGG16, whole and from the cut),
#: and seconds that it takes to compile a layer.
SAVED, COMPILING = 6e-12, 0.2
#: The names that Keras has for computing in half precision.
MIXED = {"float16": "mixed_float16", "bfloat16": "mixed_bfloat16"}


@dataclass(frozen=True, eq=False)
class Graphs:
    """A network of one tap, and its head as Keras layers, from vectors to logits.

    `batch_norm`: whether the network's BatchNorm (and dropout) run as in training.
    """

    network: Network
    head: Any
    batch_norm: bool = False

    @property
    def base(self) -> Any:
        """From scaled pixels to the tap."""
        return self.network.base

    @cached_property
    def whole(self) -> Any:
        """From RGB pixels 0..255, float32, (n, H, W, 3), to logits (n, K) or (n, 1)."""
        return self._from_pixels(self._features, self.head)

    @cached_property
    def plain(self) -> Any:
        """As `whole`, of Keras's own layers alone: to be saved, not to be trained."""
        head = without_wrappers(self.head)
        return self._from_pixels(lambda model, inputs: each_tap(model(inputs))[0], head)

    def _from_pixels(self, features: Callable[[Any, Any], Any], head: Any) -> Any:
        keras = import_keras()
        pixels = keras.Input((*self.network.size, 3), dtype="float32", name="pixels")
        scaled = scale_pixels(pixels, self.network.backbone.scaling)
        return keras.Model(pixels, _logits(features(self.base, scaled), head))

    def above(self, cut: Cut) -> Any:
        """From the activations at a cut, flat (n, numbers), to logits."""
        keras = import_keras()
        part = keras.Model(self._tensor(cut), self.base.outputs[0])
        rows = keras.Input((cut.numbers,), dtype="float32", name="activations")
        shaped = keras.layers.Reshape(cut.shape)(rows)
        return keras.Model(rows, _logits(self._features(part, shaped), self.head))

    def below(self, cut: Cut) -> Any:
        """From RGB pixels to the activations at a cut, flat (n, numbers)."""
        keras = import_keras()
        part = keras.Model(self.base.inputs[0], self._tensor(cut))
        pixels = keras.Input((*self.network.size, 3), dtype="float32", name="pixels")
        maps = each_tap(part(scale_pixels(pixels, self.network.backbone.scaling), training=False))
        return keras.Model(pixels, keras.layers.Reshape((cut.numbers,))(maps[0]))

    def _features(self, model: Any, inputs: Any) -> Any:
        return each_tap((model if self.batch_norm else inference_mode(model))(inputs))[0]

    def _tensor(self, cut: Cut) -> Any:
        return tensor_of(self.base, canonical_layers(self.base)[cut.layer])


def _logits(features: Any, head: Any) -> Any:
    if len(features.shape) > 2:
        features = import_keras().layers.Flatten()(features)
    return head(features)


def gains_by_xla(model: Any, multiply_adds: float) -> bool:
    """Whether XLA makes a training of so many multiply-adds faster on a CPU.

    TensorFlow's own convolutions, above all their gradient, are slow: compiled, the whole of VGG16
    learned 1.7 times as fast, its last block 1.8, ResNet50's 1.9 times. A convolution of each
    channel by itself is slow in XLA: EfficientNet-Lite0 learned a tenth as fast. Compiling takes
    its time for every layer, whatever the images.
    """
    layers = list(model._flatten_layers())
    channelwise = any(
        "Depthwise" in type(layer).__name__
        or "Separable" in type(layer).__name__
        or getattr(layer, "groups", 1) not in (1, None)
        for layer in layers
    )
    return not channelwise and SAVED * multiply_adds > COMPILING * len(layers)


@contextmanager
def mixed_precision(model: Any, half: str | None) -> Iterator[None]:
    """Let the model's layers compute in "float16" or "bfloat16"; their weights stay float32."""
    if half is None:
        yield
        return
    keras = import_keras()
    layers = {id(layer): layer for layer in model._flatten_layers()}.values()
    before = [layer.dtype_policy for layer in layers]
    try:
        for layer in layers:
            layer.dtype_policy = keras.DTypePolicy(MIXED[half])
        yield
    finally:
        for layer, policy in zip(layers, before, strict=True):
            layer.dtype_policy = policy
