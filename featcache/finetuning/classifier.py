"""Classifier: the network and its head as one Keras model from uint8 pixels to probabilities."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from featcache.backbones.keras_import import import_keras
from featcache.recipe import Decoding
from featcache.whole_file import whole_file

FILE = "classifier.keras"
CLASSES = "classes.txt"


def build_classifier(whole: Any, decoding: Decoding) -> Any:
    """The model of a network from RGB pixels 0..255 to logits; gives probabilities (n, K).

    Pixels are uint8 at the network's input size, (n, H, W, 3); of any one size where the recipe
    resizes as Keras does (``squash`` and ``keras``): then the resizing is inside too.
    """
    keras = import_keras()
    is_inside = resizes_inside(decoding)
    sides = (None, None) if is_inside else decoding.size
    pixels = keras.Input((*sides, 3), dtype="uint8", name="pixels")
    scaled = keras.ops.cast(pixels, "float32")
    if is_inside:
        scaled = keras.layers.Resizing(*decoding.size, interpolation="bilinear")(scaled)
    logits = whole(scaled, training=False)
    if logits.shape[-1] == 1:
        # One sigmoid is a softmax whose first logit is 0.
        logits = keras.ops.pad(logits, [[0, 0], [1, 0]])
    return keras.Model(pixels, keras.layers.Softmax(name="probabilities")(logits))


def resizes_inside(decoding: Decoding) -> bool:
    """Whether Keras's own layer resizes exactly as the recipe does."""
    return decoding.interpolation == "keras" and decoding.resize == "squash"


def save_classifier(model: Any, classes: list[str], folder: Path) -> Path:
    """Write the model, and the names of its outputs; raises `StorageFailure`."""
    target = folder / FILE
    with whole_file(folder / CLASSES) as draft:
        draft.write_text("".join(f"{name}\n" for name in classes), encoding="utf-8")
    with whole_file(target) as draft:
        model.save(draft)
    return target
