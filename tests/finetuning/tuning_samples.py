"""What fine-tuning is tested on: a small network of the user's own, and how it is tuned."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from featcache.backbones.keras_import import import_keras
from featcache.finetuning.finetune import finetune
from featcache.finetuning.outcome import Tuned

#: A quick training that changes something.
QUICK = {"epochs": 2, "learning_rate": 1e-3, "batch_size": 8, "optimizer": "adam"}


def save_network(path: Path) -> Path:
    """A network of 16-pixel images: three convolutions, BatchNorm, and a branch in the middle."""
    keras = import_keras()
    keras.utils.set_random_seed(5)
    layers = keras.layers
    pixels = keras.Input((16, 16, 3), name="image")
    x = layers.Conv2D(6, 3, strides=2, padding="same", activation="relu", name="first")(pixels)
    x = layers.BatchNormalization(name="first_bn")(x)
    branch = layers.Conv2D(6, 3, padding="same", activation="relu", name="branch")(x)
    x = layers.Add(name="joined")([x, branch])
    x = layers.Conv2D(8, 3, strides=2, padding="same", activation="relu", name="last")(x)
    x = layers.BatchNormalization(name="last_bn")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    model = keras.Model(pixels, x)
    random = np.random.default_rng(3)
    for layer in ("first_bn", "last_bn"):  # statistics that a batch's own would not be
        shapes = [weight.shape for weight in model.get_layer(layer).weights]
        model.get_layer(layer).set_weights([random.uniform(0.5, 1.5, shape) for shape in shapes])
    model.save(path)
    return path


def tuned(images: Path, network: Path, out: Path, **changes: object) -> Tuned:
    """The network fine-tuned on the images; its cache is beside `out`."""
    options = {
        "backbone": str(network), "trust_model": True, "scale": "0..1",
        "cache": out.parent / "cache", **QUICK, **changes,
    }  # fmt: skip
    return finetune(images, out=out, **options)


def striped(folder: Path, size: tuple[int, int]) -> Path:
    """Two classes of 20 PNG images each: noise with stripes across, or down."""
    random = np.random.default_rng(1)
    for kind in ("across", "down"):
        (folder / kind).mkdir(parents=True)
        for number in range(20):
            pixels = random.integers(0, 150, (*size, 3), dtype=np.uint8)
            (pixels if kind == "across" else pixels.transpose(1, 0, 2))[::4] += 80
            Image.fromarray(pixels).save(folder / kind / f"{number}.png")
    return folder
