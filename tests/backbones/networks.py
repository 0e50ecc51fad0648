"""What the tests of backbones and runtimes share: small networks whose features mean something."""

from __future__ import annotations

import matplotlib.cbook
import numpy as np
import skimage.data
from PIL import Image

from featcache.backbones.construct import preprocess
from featcache.backbones.keras_import import import_keras
from featcache.backbones.network import Network, open_network
from featcache.backbones.table import find_backbone

#: One small network of every family; the first ones, quick to build, have every kind of scaling.
QUICK_FAMILIES = [
    "efficientnet_lite0",
    "vgg16",
    "mobilenet",
    "mobilenetv2",
    "mobilenetv3small",
]
FAMILIES = [
    *QUICK_FAMILIES,
    "densenet121",
    "convnexttiny",
    "vgg19",
    "xception",
    "inceptionv3",
    "inceptionresnetv2",
    "efficientnetb0",
    "efficientnetv2b0",
    "nasnetmobile",
    "resnet50",
    "resnet50v2",
]


def photographs(size: tuple[int, int], count: int) -> np.ndarray:
    """`count` uint8 RGB crops of two real photographs, (count, H, W, 3), all different."""
    sources = [skimage.data.chelsea(), np.asarray(Image.open(grace_hopper()).convert("RGB"))]
    height, width = size
    crops = []
    for number in range(count):
        zoom = 2 + number % 3
        picture = Image.fromarray(sources[number % 2]).resize((zoom * width, zoom * height))
        left, top = (number * 37) % width, (number * 53) % height
        crops.append(np.asarray(picture.crop((left, top, left + width, top + height))))
    return np.stack(crops)


def grace_hopper() -> str:
    return str(matplotlib.cbook.get_sample_data("grace_hopper.jpg", asfileobj=False))


def small_network(name: str, **options: object) -> Network:
    """The network at a small size, with BatchNorm statistics of real photographs.

    Untouched random weights can give features of 1e-10, where any comparison passes; and at 32
    pixels the last maps are single pixels, whose statistics over 64 photographs are too thin.
    """
    backbone = find_backbone(name)
    side = 2 * backbone.smallest
    size = (side, side)
    network = open_network(backbone, weights="random:3", size=size, **options)
    set_statistics(network, photographs(size, 64))
    return network


def set_statistics(network: Network, pixels: np.ndarray, *, offset: float = 2.0) -> None:
    """Set every moving mean and variance to those of this batch, and every offset to 2.

    With an offset of 0, half of each map is cut off by its ReLU at random, and a deep network
    magnifies rounding so much that Keras in float32 is 2e-5 (MobileNetV2) to 3e-4 (InceptionV3)
    from itself in float64. An offset of 2 keeps the rounding of such a network near 1e-6.
    """
    keras = import_keras()
    layers = [
        layer for layer in network.base.layers if isinstance(layer, keras.layers.BatchNormalization)
    ]
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.momentum = 0.0
        layer.beta.assign(np.full(layer.beta.shape, offset, np.float32))
    network.base(preprocess(network.backbone, pixels), training=True)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum


def error_norm(rows: np.ndarray, reference: np.ndarray) -> float:
    """The worst row's max|a - b| / max|b|."""
    flat, flat_reference = (a.reshape(len(a), -1).astype(float) for a in (rows, reference))
    worst = np.abs(flat - flat_reference).max(axis=1) / np.abs(flat_reference).max(axis=1)
    return float(worst.max())
