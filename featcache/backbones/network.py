"""Network: a backbone that is opened, from RGB pixels to the vectors of its taps."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from featcache.backbones.construct import Shape, construct, preprocess
from featcache.backbones.float64 import disturb, disturbed, in_float64
from featcache.backbones.graph import PENULTIMATE
from featcache.backbones.keras_import import import_keras
from featcache.backbones.layers import find_layer, has_layer, output_of, pooled
from featcache.backbones.table import Backbone
from featcache.backbones.weights import open_weights
from featcache.errors import FeatcacheError, one_of
from featcache.recipe import Pooling, Scaling

_POOLINGS = ("avg", "max", "none")

#: Another name of the network's own output, and one of its classifier's.
OUTPUT, PREDICTIONS = "output", "predictions"

#: Images at a time through live Keras, which keeps every layer's map: eight of MobileNetV2's took
#: 400 MB more than two.
LIVE_BATCH = 2

#: A tap as it is asked for: the name of a layer ("" is the network's own output), and a pooling.
Asked = tuple[str, Pooling]


@dataclass(frozen=True, slots=True)
class Built:
    """The Keras models of a network: `model` with the pixel scaling before it, `base` without."""

    model: Any
    base: Any


@dataclass(frozen=True, slots=True)
class Tap:
    """One output of a network.

    Attributes
    ----------
    layer: canonical name of the tapped layer, "" for the network's own output.
    pooling: "avg", "max" or "none".
    row_shape: of one vector.
    weights: SHA-256, in hex, of the weight values it may depend on: of the network without its
        top, or with it where the layer belongs to the top.
    """

    layer: str
    pooling: Pooling
    row_shape: tuple[int, ...]
    weights: str


@dataclass(frozen=True)
class Network:
    """Some taps of one backbone with its weights; Keras builds it when it is first needed.

    Attributes
    ----------
    weights_hint: where the weights came from: "imagenet", "embedded", "random:0" or a path.
    taps: its outputs, which one forward pass gives together.
    build: makes the Keras models; called once, or never where a kept graph will do.
    remarks: what the user should know about it.
    title: as people call it where its backbone's name does not say it.
    """

    backbone: Backbone
    weights_hint: str
    size: tuple[int, int]
    taps: tuple[Tap, ...]
    build: Callable[[], Built] = field(repr=False, compare=False)
    remarks: tuple[str, ...] = ()
    title: str = ""

    @property
    def name(self) -> str:
        """As people call it: the name in the table, or that of the user's own file or folder."""
        if self.title:
            return self.title
        own = self.backbone.source == "own"
        return Path(self.weights_hint).stem if own else self.backbone.name

    @cached_property
    def built(self) -> Built:
        return self.build()

    @property
    def model(self) -> Any:
        """Keras model; RGB pixels 0..255, float32, (batch, H, W, 3) -> (batch, \\*row_shape);
        a list of them where there are several taps.
        """
        return self.built.model

    @property
    def base(self) -> Any:
        """The same without the pixel scaling, for `live`."""
        return self.built.base

    def live(self, pixels: np.ndarray[Any, Any]) -> list[np.ndarray[Any, Any]]:
        """What Keras itself gives: its ``preprocess_input``, then the network called eagerly.

        The parity reference: it uses none of our scaling constants. `pixels` is RGB 0..255,
        (n, H, W, 3) of any number type; the result is (n, \\*row_shape) float32 for each tap.
        """
        scaled = preprocess(self.backbone, np.asarray(pixels))
        return [tap.astype(np.float32, copy=False) for tap in _called(self.base, scaled)]

    def exact(self, pixels: np.ndarray[Any, Any]) -> list[np.ndarray[Any, Any]] | None:
        """The same computed in float64, (n, \\*row_shape) float64 for each tap.

        None where the network cannot be built in float64: see `disturbed`.
        """
        copy = in_float64(self.base)
        if copy is None:
            return None
        return _called(copy, preprocess(self.backbone, np.asarray(pixels)).astype(np.float64))

    def disturbed(self, pixels: np.ndarray[Any, Any], seed: int) -> list[np.ndarray[Any, Any]]:
        """What `live` gives where weights and inputs differ by their last bit.

        Which of them, and in which direction, is a function of `seed`.
        """
        scaled = preprocess(self.backbone, np.asarray(pixels))
        with disturbed(self.base, seed):
            return _called(self.base, disturb(scaled, np.random.default_rng([seed])))

    def only(self, taps: Sequence[Tap]) -> Network:
        """The same network with some of its taps, in the order given."""
        if tuple(taps) == self.taps:
            return self
        positions = [self.taps.index(tap) for tap in taps]

        def build() -> Built:
            outputs = [self.base.outputs[position] for position in positions]
            return assemble(self.base.input, outputs, self.backbone, self.size)

        return replace(self, taps=tuple(taps), build=build)


def _called(model: Any, scaled: np.ndarray[Any, Any]) -> list[np.ndarray[Any, Any]]:
    """A Keras model's rows for each tap, called eagerly on a few images at a time."""
    pieces = []
    for start in range(0, len(scaled), LIVE_BATCH):
        rows = model(scaled[start : start + LIVE_BATCH], training=False)
        pieces.append([np.array(tap) for tap in each_tap(rows)])
    return [np.concatenate(tap) for tap in zip(*pieces, strict=True)]


def each_tap(outputs: Any) -> list[Any]:
    """What a Keras model gave, one for each tap: Keras gives a single output without its list."""
    return list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]


def open_network(
    backbone: Backbone,
    *,
    weights: str | None,
    size: tuple[int, int],
    layer: str = "",
    pooling: Pooling = "avg",
) -> Network:
    """Open a backbone with one tap; see `open_taps`."""
    return open_taps(backbone, [(layer, pooling)], weights=weights, size=size)[0][0]


def open_taps(
    backbone: Backbone, asked: Sequence[Asked], *, weights: str | None, size: tuple[int, int]
) -> list[tuple[Network, Tap]]:
    """Open a backbone: build it, give it its weights, tap it, put the pixel scaling before it.

    `weights` is None (the usual ones), "imagenet", "embedded", "random", "random:SEED" or the
    path of a weights file. `size` is (height, width) in pixels. Imports Keras. Gives each tap
    once, in the order asked for, with its network: as few networks as Keras allows, so that one
    forward pass answers for all of its taps.

    Raises `FeatcacheError` for a size, layer, pooling or weights that cannot be.
    """
    for _, pooling in asked:
        one_of("--pooling", pooling, _POOLINGS)
    asked = list(dict.fromkeys((_own_name(backbone, layer), pooling) for layer, pooling in asked))
    found = []
    for shape, members in _shapes(backbone, asked, size):
        network = _open_shape(backbone, shape, members, weights=weights, size=size)
        found += list(zip(members, [(network, tap) for tap in network.taps], strict=True))
    found.sort(key=lambda item: asked.index(item[0]))
    return list(dict.fromkeys(pair for _, pair in found))


def _shapes(
    backbone: Backbone, asked: Sequence[Asked], size: tuple[int, int]
) -> list[tuple[Shape, list[Asked]]]:
    """Which Keras networks answer for the taps.

    Only Keras's own pooled output will do for the network's own (ConvNeXt normalises after its
    pooling), so each pooling of that is a network; a named layer comes from any of them.
    """
    own = [(layer, pooling) for layer, pooling in asked if not layer]
    named = [(layer, pooling) for layer, pooling in asked if layer]
    shapes = [
        (Shape(size, None if pooling == "none" else pooling), [("", pooling)]) for _, pooling in own
    ]
    if named and _needs_top(backbone, [layer for layer, _ in named], size):
        shapes.append((Shape(None, include_top=True), named))
    elif named and shapes:
        shapes[0][1].extend(named)
    elif named:
        shapes.append((Shape(size), named))
    return shapes


def _own_name(backbone: Backbone, layer: str) -> str:
    """A layer as it is asked for, but for two names that are the same in every network."""
    if layer == PENULTIMATE:
        return backbone.penultimate
    return "" if layer == OUTPUT else layer


def _needs_top(backbone: Backbone, layers: list[str], size: tuple[int, int]) -> bool:
    """Whether one of the layers is in the network only with its top."""
    plain = construct(backbone, Shape(size))
    above = [layer for layer in layers if not has_layer(plain, layer)]
    if not above:
        return False
    _found(construct(backbone, Shape(None, include_top=True)), above[0])
    if size != (backbone.size, backbone.size):
        raise FeatcacheError(
            f"--layer {above[0]!r} is in the top of {backbone.name}, which takes images of "
            f"{backbone.size}x{backbone.size} only, not {size[0]}x{size[1]}: leave --size out"
        )
    return True


def _found(network: Any, name: str) -> tuple[str, Any]:
    """`find_layer`; most networks call their classifier's layer "predictions", but not all."""
    if name == PREDICTIONS and not has_layer(network, name):
        name = "-1"
    return find_layer(network, name)


def _open_shape(
    backbone: Backbone,
    shape: Shape,
    asked: list[Asked],
    *,
    weights: str | None,
    size: tuple[int, int],
) -> Network:
    whole, hint = open_weights(backbone, shape, weights=weights)
    below = whole
    if shape.include_top:
        below = construct(backbone, Shape(size))
    digests = {len(whole.weights): _digest(whole.weights)}
    count = len(below.weights)
    digests.setdefault(count, _digest(whole.weights[:count]))
    taps, outputs = [], []
    for asked_layer, pooling in asked:
        layer, output = "", whole.output
        if asked_layer:
            layer, tapped = _found(whole, asked_layer)
            output = pooled(output_of(tapped), pooling)
        in_top = shape.include_top and not has_layer(below, layer)
        digest = digests[len(whole.weights) if in_top else count]
        taps.append(Tap(layer, pooling, row_shape(output, layer), digest))
        outputs.append(output)
    built = assemble(whole.input, outputs, backbone, size)
    return Network(backbone, hint, size, tuple(taps), lambda: built)


def assemble(pixels: Any, outputs: list[Any], backbone: Backbone, size: tuple[int, int]) -> Built:
    """The Keras models from an input of scaled pixels to some outputs of its graph."""
    base = import_keras().Model(pixels, outputs)
    return Built(with_scaling(base, backbone.scaling, size), base)


def whole_network(network: Network) -> Any:
    """The Keras network, from scaled pixels, that the first tap of a network is part of.

    Its weights are those that the network began with. Imports Keras.
    """
    tap = network.taps[0]
    shape = _shapes(network.backbone, [(tap.layer, tap.pooling)], network.size)[0][0]
    return open_weights(network.backbone, shape, weights=network.weights_hint)[0]


def with_scaling(base: Any, scaling: Scaling, size: tuple[int, int]) -> Any:
    """`base` behind the pixel scaling, always in inference mode.

    The call says ``training=False`` itself: a sub-model does not inherit it from the outer one.
    """
    keras = import_keras()
    pixels = keras.Input((*size, 3), dtype="float32", name="pixels")
    return keras.Model(pixels, base(scale_pixels(pixels, scaling), training=False))


def scale_pixels(pixels: Any, scaling: Scaling) -> Any:
    """``(pixels / divisor - mean) / std`` in the network's channel order, without idle steps."""
    x = pixels[..., ::-1] if scaling.order == "bgr" else pixels
    if scaling.divisor != 1.0:
        x = x / scaling.divisor
    if any(scaling.mean):
        x = x - np.array(scaling.mean, np.float32)
    if scaling.std != (1.0, 1.0, 1.0):
        x = x / np.array(scaling.std, np.float32)
    return x


def _digest(weights: Sequence[Any]) -> str:
    """SHA-256 over (index, dtype, shape, bytes) of every weight's value, in the network's order."""
    digest = hashlib.sha256()
    for index, variable in enumerate(weights):
        value = np.ascontiguousarray(variable.numpy())
        digest.update(f"{index} {value.dtype.str} {value.shape}\n".encode("ascii"))
        digest.update(value.data)
    return digest.hexdigest()


def row_shape(output: Any, layer: str) -> tuple[int, ...]:
    """The shape of one row of a tap; raises `FeatcacheError` where it is not fixed."""
    shape = tuple(output.shape[1:])
    if not shape or None in shape:
        raise FeatcacheError(
            f"--layer {layer!r} gives rows of shape {shape}, which is not fixed: choose a layer "
            "whose height, width and channels are known"
        )
    return shape
