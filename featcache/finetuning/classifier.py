"""Classifier: the network and its head as one Keras model from uint8 pixels to probabilities."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from featcache.backbones.keras_import import import_keras
from featcache.backbones.tuned_record import CLASSES
from featcache.backbones.tuned_record import CLASSIFIER as FILE
from featcache.errors import FeatcacheError
from featcache.files.write import whole_file, write_whole
from featcache.recipe import Decoding


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
