"""The table of backbones: every network there is, with its size, width and pixel scaling.

Nothing here imports Keras, so that listing and naming backbones costs nothing.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import Literal

from featcache.errors import FeatcacheError
from featcache.recipe import Scaling

#: The pixel scalings of ``keras.applications``, as constants of the recipe.
_TF = Scaling(divisor=127.5, mean=(1.0, 1.0, 1.0))
_TORCH = Scaling(divisor=255.0, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
_CAFFE = Scaling(order="bgr", mean=(103.939, 116.779, 123.68))
_INSIDE = Scaling()  # the graph scales its own pixels
_LITE = Scaling(mean=(127.0, 127.0, 127.0), std=(128.0, 128.0, 128.0))


@dataclass(frozen=True, slots=True)
class Backbone:
    """One network of the table.

    Attributes
    ----------
    name: canonical name, the lower-cased Keras class name.
    source: "keras" for ``keras.applications``, "embedded" for weights that come as a package,
        "own" for a model of the user's, which is in no table.
    size: default input side, in pixels.
    width: number of features of the pooled output.
    scaling: from RGB pixels in 0..255 to what the network was trained on.
    constructor, module: where ``keras.applications`` has it ("" when embedded).
    smallest: smallest legal input side without the classifier, in pixels.
    penultimate: what its classifier reads: a layer of its top, or "" for its own pooled output.
    """

    name: str
    source: Literal["embedded", "keras", "own"]
    size: int
    width: int
    scaling: Scaling
    constructor: str
    module: str
    smallest: int
    penultimate: str = ""


def _family(
    module: str,
    scaling: Scaling,
    networks: dict[str, tuple[int, int]],
    *,
    smallest: int = 32,
    penultimate: str = "",
) -> list[Backbone]:
    """The rows of one module of ``keras.applications``: class name -> (size, width)."""
    return [
        Backbone(name.lower(), "keras", size, width, scaling, name, module, smallest, penultimate)
        for name, (size, width) in networks.items()
    ]


_ROWS: list[Backbone] = [
    Backbone("efficientnet_lite0", "embedded", 224, 1280, _LITE, "", "", 32),
    *_family("vgg16", _CAFFE, {"VGG16": (224, 512)}, penultimate="fc2"),
    *_family("vgg19", _CAFFE, {"VGG19": (224, 512)}, penultimate="fc2"),
    *_family("xception", _TF, {"Xception": (299, 2048)}, smallest=71),
    *_family("inception_v3", _TF, {"InceptionV3": (299, 2048)}, smallest=75),
    *_family("inception_resnet_v2", _TF, {"InceptionResNetV2": (299, 1536)}, smallest=75),
    *_family("mobilenet", _TF, {"MobileNet": (224, 1024)}),
    *_family("mobilenet_v2", _TF, {"MobileNetV2": (224, 1280)}),
    # Their tops have a convolution of their own between pooling and classifier.
    *_family(
        "mobilenet_v3", _INSIDE, {"MobileNetV3Small": (224, 576)}, penultimate="activation_18"
    ),
    *_family(
        "mobilenet_v3", _INSIDE, {"MobileNetV3Large": (224, 960)}, penultimate="activation_20"
    ),
    *_family(
        "efficientnet",
        _INSIDE,
        {
            "EfficientNetB0": (224, 1280),
            "EfficientNetB1": (240, 1280),
            "EfficientNetB2": (260, 1408),
            "EfficientNetB3": (300, 1536),
            "EfficientNetB4": (380, 1792),
            "EfficientNetB5": (456, 2048),
            "EfficientNetB6": (528, 2304),
            "EfficientNetB7": (600, 2560),
        },
    ),
    *_family(
        "efficientnet_v2",
        _INSIDE,
        {
            "EfficientNetV2B0": (224, 1280),
            "EfficientNetV2B1": (240, 1280),
            "EfficientNetV2B2": (260, 1408),
            "EfficientNetV2B3": (300, 1536),
            "EfficientNetV2S": (384, 1280),
            "EfficientNetV2M": (480, 1280),
            "EfficientNetV2L": (480, 1280),
        },
    ),
    *_family(
        "densenet",
        _TORCH,
        {
            "DenseNet121": (224, 1024),
            "DenseNet169": (224, 1664),
            "DenseNet201": (224, 1920),
        },
    ),
    *_family(
        "convnext",
        _INSIDE,
        {
            "ConvNeXtTiny": (224, 768),
            "ConvNeXtSmall": (224, 768),
            "ConvNeXtBase": (224, 1024),
            "ConvNeXtLarge": (224, 1536),
            "ConvNeXtXLarge": (224, 2048),
        },
    ),
    *_family("nasnet", _TF, {"NASNetMobile": (224, 1056), "NASNetLarge": (331, 4032)}),
    *_family(
        "resnet",
        _CAFFE,
        {"ResNet50": (224, 2048), "ResNet101": (224, 2048), "ResNet152": (224, 2048)},
    ),
    *_family(
        "resnet_v2",
        _TF,
        {"ResNet50V2": (224, 2048), "ResNet101V2": (224, 2048), "ResNet152V2": (224, 2048)},
    ),
]

#: Every backbone by its canonical name.
BACKBONES: dict[str, Backbone] = {row.name: row for row in _ROWS}

_BY_PLAIN_NAME = {re.sub(r"[\W_]+", "", name): row for name, row in BACKBONES.items()}


def find_backbone(name: str) -> Backbone:
    """The backbone of that name; case, spaces, underscores and hyphens do not matter.

    Raises `FeatcacheError` naming the nearest names where there is none.
    """
    plain = re.sub(r"[\W_]+", "", name.lower())
    if plain in _BY_PLAIN_NAME:
        return _BY_PLAIN_NAME[plain]
    near = difflib.get_close_matches(plain, _BY_PLAIN_NAME, n=4, cutoff=0.5)
    hint = f"did you mean {', '.join(_BY_PLAIN_NAME[n].name for n in near)}? " if near else ""
    raise FeatcacheError(
        f"--backbone {name!r} is not a known network: {hint}`featcache backbones` lists all of them"
    )
