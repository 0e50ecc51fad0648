"""Network: a backbone that is opened, from RGB pixels to the vector of one tap."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from featcache.backbones.construct import Shape, preprocess
from featcache.backbones.keras_import import import_keras
from featcache.backbones.layers import cut, find_layer
from featcache.backbones.table import Backbone
from featcache.backbones.weights import open_weights
from featcache.errors import FeatcacheError
from featcache.recipe import Scaling

_POOLINGS = ("avg", "max", "none")


@dataclass(frozen=True, slots=True)
class Built:
    """The Keras models of a network: `model` with the pixel scaling before it, `base` without."""

    model: Any
    base: Any


@dataclass(frozen=True)
class Network:
    """One tap of one backbone with its weights; Keras builds it when it is first needed.

    Attributes
    ----------
    weights_digest: SHA-256 of the weight values of the network without its top, in hex.
    weights_hint: where they came from: "imagenet", "embedded", "random:0" or a path.
    layer: canonical name of the tapped layer, "" for the network's own output.
    row_shape: of one vector.
    build: makes the Keras models; called once, or never where a kept graph will do.
    """

    backbone: Backbone
    weights_digest: str
    weights_hint: str
    layer: str
    pooling: str
    size: tuple[int, int]
    row_shape: tuple[int, ...]
    build: Callable[[], Built] = field(repr=False, compare=False)

    @cached_property
    def built(self) -> Built:
        return self.build()

    @property
    def model(self) -> Any:
        """Keras model; RGB pixels 0..255, float32, (batch, H, W, 3) -> (batch, \\*row_shape)."""
        return self.built.model

    @property
    def base(self) -> Any:
        """The same without the pixel scaling, for `live`."""
        return self.built.base

    def live(self, pixels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """What Keras itself gives: its ``preprocess_input``, then the network called eagerly.

        The parity reference: it uses none of our scaling constants. `pixels` is RGB 0..255,
        (n, H, W, 3) of any number type; the result is (n, \\*row_shape) float32.
        """
        scaled = preprocess(self.backbone, np.asarray(pixels))
        rows = self.base(scaled, training=False)
        return np.array(rows, dtype=np.float32)


def open_network(
    backbone: Backbone,
    *,
    weights: str | None,
    size: tuple[int, int],
    layer: str = "",
    pooling: str = "avg",
) -> Network:
    """Open a backbone: build it, give it its weights, tap it, put the pixel scaling before it.

    `weights` is None (the usual ones), "imagenet", "embedded", "random", "random:SEED" or the
    path of a weights file. `size` is (height, width) in pixels. Imports Keras.

    Raises `FeatcacheError` for a size, layer, pooling or weights that cannot be.
    """
    if pooling not in _POOLINGS:
        raise FeatcacheError(f"--pooling {pooling!r} is not one of {', '.join(_POOLINGS)}")
    # ConvNeXt normalises after its pooling: only Keras's own pooled output will do for layer "".
    own_pooling = pooling if pooling != "none" and not layer else None
    whole, hint = open_weights(backbone, Shape(size, own_pooling), weights=weights)
    base = whole
    if layer:
        layer, tapped = find_layer(whole, layer)
        base = cut(whole, tapped, pooling=pooling)
    built = Built(with_scaling(base, backbone.scaling, size), base)
    return Network(
        backbone=backbone,
        weights_digest=_digest(whole),
        weights_hint=hint,
        layer=layer,
        pooling=pooling,
        size=size,
        row_shape=_row_shape(base, layer),
        build=lambda: built,
    )


def open_classifier(backbone: Backbone, *, weights: str | None) -> Any:
    """The network with its own top, as a Keras model from RGB pixels 0..255 to probabilities.

    Its input has the backbone's default size. Raises `FeatcacheError` as `open_network` does.
    """
    size = (backbone.size, backbone.size)
    whole, _ = open_weights(backbone, Shape(None, include_top=True), weights=weights)
    return with_scaling(whole, backbone.scaling, size)


def with_scaling(base: Any, scaling: Scaling, size: tuple[int, int]) -> Any:
    """`base` behind the pixel scaling, always in inference mode.

    The call says ``training=False`` itself: a sub-model does not inherit it from the outer one.
    """
    keras = import_keras()
    pixels = keras.Input((*size, 3), dtype="float32", name="pixels")
    return keras.Model(pixels, base(_scale(pixels, scaling), training=False))


def _scale(pixels: Any, scaling: Scaling) -> Any:
    """``(pixels / divisor - mean) / std`` in the network's channel order, without idle steps."""
    x = pixels[..., ::-1] if scaling.order == "bgr" else pixels
    if scaling.divisor != 1.0:
        x = x / scaling.divisor
    if any(scaling.mean):
        x = x - np.array(scaling.mean, np.float32)
    if scaling.std != (1.0, 1.0, 1.0):
        x = x / np.array(scaling.std, np.float32)
    return x


def _digest(network: Any) -> str:
    """SHA-256 over (index, dtype, shape, bytes) of every weight's value, in the network's order."""
    digest = hashlib.sha256()
    for index, variable in enumerate(network.weights):
        value = np.ascontiguousarray(variable.numpy())
        digest.update(f"{index} {value.dtype.str} {value.shape}\n".encode("ascii"))
        digest.update(value.data)
    return digest.hexdigest()


def _row_shape(base: Any, layer: str) -> tuple[int, ...]:
    shape = tuple(base.output_shape[1:])
    if not shape or None in shape:
        raise FeatcacheError(
            f"--layer {layer!r} gives rows of shape {shape}, which is not fixed: choose a layer "
            "whose height, width and channels are known"
        )
    return shape
