"""Graphs: the network and its head as one Keras model: whole, from a cut on, or from uint8 pixels.

All of them share their layers: what one learns, the others know. A head begins as one Dense layer
if it is logistic or linear.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from featcache.backbones.graph import tensor_of
from featcache.backbones.keras_import import import_keras
from featcache.backbones.layers import canonical_layers, computing_in
from featcache.backbones.network import Network, each_tap, scale_pixels
from featcache.backbones.tuned_record import CLASSES
from featcache.backbones.tuned_record import CLASSIFIER as FILE
from featcache.errors import FeatcacheError
from featcache.files.write import whole_file, write_whole
from featcache.finetuning.freezing import Cut
from featcache.heads.dense import DenseHead
from featcache.heads.linear import LinearHead
from featcache.heads.logreg import LogisticHead
from featcache.heads.model import Model
from featcache.recipe import Decoding
from featcache.training.state import inference_mode, without_wrappers

#: From so many images in all epochs on, XLA saves more time than compiling takes: at 224 x 224
#: pixels VGG16 does from some 20 on, ResNet50 from 500; at fewer pixels, and from a cut, later.
WORTH_COMPILING = 1000

#: The kinds of heads that can become layers, with their default options at least.
LAYERED = ("logreg", "dense", "ridge", "svm")


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


def gains_by_xla(model: Any, images: int) -> bool:
    """Whether XLA makes a training of so many images, epochs counted, faster on a CPU.

    TensorFlow's own convolutions, above all their gradient, are slow: compiled, the whole of VGG16
    learned 1.7 times as fast, its last block 1.8, ResNet50's 1.9 times. A convolution of each
    channel by itself is slow in XLA: EfficientNet-Lite0 learned a tenth as fast. Compiling takes
    0.2 s for every layer, whatever the images.
    """
    channelwise = any(
        "Depthwise" in type(layer).__name__
        or "Separable" in type(layer).__name__
        or getattr(layer, "groups", 1) not in (1, None)
        for layer in model._flatten_layers()
    )
    return not channelwise and images >= WORTH_COMPILING


def mixed_precision(model: Any, half: str | None) -> AbstractContextManager[None]:
    """Let all of the model's layers compute in `half`, float16 or bfloat16; None: in float32."""
    layers = {id(layer): layer for layer in model._flatten_layers()}
    return computing_in(list(layers.values()), half or "float32")


def build_classifier(whole: Any, decoding: Decoding) -> Any:
    """The model of a network from RGB pixels 0..255 to logits; gives probabilities (n, K).

    Pixels are those of the recipe at the network's input size, (n, H, W, 3), uint8 or, where the
    recipe rounds nothing, float32. Where a layer of Keras resizes as the recipe does, the resizing
    is inside: then they are uint8 of any one size.
    """
    keras = import_keras()
    is_inside = resizes_inside(decoding)
    sides, kind = ((None, None), "uint8") if is_inside else (decoding.size, decoding.pixel_type)
    pixels = keras.Input((*sides, 3), dtype=kind, name="pixels")
    scaled = keras.ops.cast(pixels, "float32")
    if is_inside:
        crops = decoding.resize == "crop"
        scaled = keras.layers.Resizing(
            *decoding.size, interpolation="bilinear", crop_to_aspect_ratio=crops
        )(scaled)
    logits = whole(scaled, training=False)
    if logits.shape[-1] == 1:
        # One sigmoid is a softmax whose first logit is 0.
        logits = keras.ops.pad(logits, [[0, 0], [1, 0]])
    return keras.Model(pixels, keras.layers.Softmax(name="probabilities")(logits))


def resizes_inside(decoding: Decoding) -> bool:
    """Whether a layer of Keras resizes exactly as the recipe does.

    Its padding is not `tf.image.resize_with_pad`'s, and it crops to no share.
    """
    whole = decoding.resize == "squash" or (decoding.resize == "crop" and decoding.crop == 1.0)
    return decoding.interpolation == "keras" and whole


def check_can_be_saved(whole: Any, decoding: Decoding) -> None:
    """Raises `FeatcacheError` where the classifier of a network could not be saved as a model."""
    try:
        build_classifier(whole, decoding).to_json()
    except (NotImplementedError, TypeError, ValueError) as error:
        raise FeatcacheError(
            f"this network and head cannot be saved as one Keras model, so they are not trained: "
            f"{error}"
        ) from error


def save_classifier(model: Any, classes: list[str], folder: Path) -> Path:
    """Write the model, and the names of its outputs; raises `StorageFailure`."""
    target = folder / FILE
    names = "".join(f"{name}\n" for name in classes).encode("utf-8")
    write_whole(folder / CLASSES, names, base=folder)
    with whole_file(target, base=folder) as draft:
        model.save(draft)
    return target


def as_layers(model: Model, *, temperature: float = 1.0) -> DenseHead:
    """The same classifier as a dense head: scaling and temperature are folded into its layers.

    Raises `FeatcacheError` for a kind of head that layers cannot express.
    """
    if isinstance(model, DenseHead):
        found = model
    elif isinstance(model, LogisticHead):
        kernel = model.coefficients.astype(np.float64) / model.scale
        found = _one_layer(kernel, model.intercept - kernel @ model.mean)
    elif isinstance(model, LinearHead) and not model.settings.get("unit_length"):
        found = _one_layer(model.coefficients, model.intercept)
    else:
        raise FeatcacheError(
            "a head of nearest neighbours or of cosine distances cannot become layers: fine-tune "
            "from --head logreg, dense, ridge or svm"
        )
    return _cooled(found, temperature) if temperature != 1.0 else found


def _one_layer(weights: np.ndarray, bias: np.ndarray) -> DenseHead:
    """`weights` (K, D), or (1, D) of the second of two classes."""
    last = {"units": len(bias), "activation": "sigmoid" if len(bias) == 1 else "softmax"}
    layers: list[dict[str, Any]] = [{"layer": "dense", **last}]
    arrays = {"0.kernel": weights.T.astype(np.float32), "0.bias": bias.astype(np.float32)}
    return DenseHead(arrays, {"layers": layers}, weights.shape[1])


def _cooled(head: DenseHead, temperature: float) -> DenseHead:
    """The head whose logits are divided by the temperature."""
    last = len(head.layers) - 1
    arrays = dict(head.arrays)
    for name in (f"{last}.kernel", f"{last}.bias"):
        arrays[name] = (arrays[name] / temperature).astype(np.float32)
    return DenseHead(arrays, head.settings, head.width)
