"""The table of backbones: every network there is, and what is known of it before it is built.

Its size, width and pixel scaling; its parameters and depth, counted with the ImageNet top, as
Keras's table counts them; the accuracy that the named source publishes for ImageNet's validation
images at the default size, if it does; and whether its weights are on this machine already. Nothing
here imports Keras, so that listing and naming backbones costs nothing.
"""

from __future__ import annotations

import difflib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from featcache.errors import FeatcacheError
from featcache.recipe import Scaling

#: The pixel scalings of ``keras.applications``, as constants of the recipe.
_TF = Scaling(divisor=127.5, mean=(1.0, 1.0, 1.0))
_TORCH = Scaling(divisor=255.0, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
_CAFFE = Scaling(order="bgr", mean=(103.939, 116.779, 123.68))
_INSIDE = Scaling()  # the graph scales its own pixels
_LITE = Scaling(mean=(127.0, 127.0, 127.0), std=(128.0, 128.0, 128.0))

#: Outputs of the top that the counts include.
_CLASSES = 1000

KERAS_TABLE = "https://keras.io/api/applications/"
KERAS_MOBILENET_V3 = "https://keras.io/api/applications/mobilenet/ (MobileNetV3)"
TENSORFLOW_TPU = "https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite"

Whereabouts = Literal["embedded", "here", "download"]


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


@dataclass(frozen=True, slots=True)
class Published:
    """Figures of one network.

    Attributes
    ----------
    parameters: all numbers of the network with its top, trained or not.
    base_parameters: the same without the top: what an extraction computes with.
    depth: layers with parameters, with the top.
    top1, top5: accuracy on ImageNet in percent; None where the source gives none.
    source: who publishes the accuracies.
    """

    parameters: int
    base_parameters: int
    depth: int
    top1: float | None
    top5: float | None
    source: str

    @property
    def megabytes(self) -> float:
        """The weights with the top as float32, in units of 2**20 bytes, as Keras's table has it."""
        return self.parameters * 4 / 2**20


#: name: (parameters, depth, top-1, top-5), of Keras's table.
_KERAS: dict[str, tuple[int, int, float, float | None]] = {
    "vgg16": (138_357_544, 16, 71.3, 90.1),
    "vgg19": (143_667_240, 19, 71.3, 90.0),
    "xception": (22_910_480, 81, 79.0, 94.5),
    "inceptionv3": (23_851_784, 189, 77.9, 93.7),
    "inceptionresnetv2": (55_873_736, 449, 80.3, 95.3),
    "mobilenet": (4_253_864, 55, 70.4, 89.5),
    "mobilenetv2": (3_538_984, 105, 71.3, 90.1),
    "efficientnetb0": (5_330_571, 132, 77.1, 93.3),
    "efficientnetb1": (7_856_239, 186, 79.1, 94.4),
    "efficientnetb2": (9_177_569, 186, 80.1, 94.9),
    "efficientnetb3": (12_320_535, 210, 81.6, 95.7),
    "efficientnetb4": (19_466_823, 258, 82.9, 96.4),
    "efficientnetb5": (30_562_527, 312, 83.6, 96.7),
    "efficientnetb6": (43_265_143, 360, 84.0, 96.8),
    "efficientnetb7": (66_658_687, 438, 84.3, 97.0),
    "efficientnetv2b0": (7_200_312, 151, 78.7, 94.3),
    "efficientnetv2b1": (8_212_124, 185, 79.8, 95.0),
    "efficientnetv2b2": (10_178_374, 193, 80.5, 95.1),
    "efficientnetv2b3": (14_467_622, 225, 82.0, 95.8),
    "efficientnetv2s": (21_612_360, 281, 83.9, 96.7),
    "efficientnetv2m": (54_431_388, 403, 85.3, 97.4),
    "efficientnetv2l": (119_027_848, 557, 85.7, 97.5),
    "densenet121": (8_062_504, 242, 75.0, 92.3),
    "densenet169": (14_307_880, 338, 76.2, 93.2),
    "densenet201": (20_242_984, 402, 77.3, 93.6),
    "convnexttiny": (28_589_128, 96, 81.3, None),
    "convnextsmall": (50_223_688, 186, 82.3, None),
    "convnextbase": (88_591_464, 186, 85.3, None),
    "convnextlarge": (197_767_336, 186, 86.3, None),
    "convnextxlarge": (350_196_968, 186, 86.7, None),
    "nasnetmobile": (5_326_716, 389, 74.4, 91.9),
    "nasnetlarge": (88_949_818, 533, 82.5, 96.0),
    "resnet50": (25_636_712, 107, 74.9, 92.1),
    "resnet101": (44_707_176, 209, 76.4, 92.8),
    "resnet152": (60_419_944, 311, 76.6, 93.1),
    "resnet50v2": (25_613_800, 103, 76.0, 93.0),
    "resnet101v2": (44_675_560, 205, 77.2, 93.8),
    "resnet152v2": (60_380_648, 307, 78.0, 94.2),
}

#: Those of others, with the source, and the parameters of the tops that are not one layer.
_OTHERS: dict[str, tuple[int, int, float, float | None, str]] = {
    "efficientnet_lite0": (4_694_024, 99, 75.1, None, TENSORFLOW_TPU),
    "mobilenetv3small": (2_554_968, 88, 68.1, None, KERAS_MOBILENET_V3),
    "mobilenetv3large": (5_507_432, 110, 75.6, None, KERAS_MOBILENET_V3),
}
_BASES = {
    "vgg16": 14_714_688,
    "vgg19": 20_024_384,
    "mobilenetv3small": 939_120,
    "mobilenetv3large": 2_996_352,
}


def published(backbone: Backbone) -> Published:
    """The figures of a network of the table."""
    name = backbone.name
    parameters, depth, top1, top5, source = _OTHERS.get(name) or (*_KERAS[name], KERAS_TABLE)
    one_layer = (backbone.width + 1) * _CLASSES
    base = _BASES.get(name, parameters - one_layer)
    return Published(parameters, base, depth, top1, top5, source)


def whereabouts(backbone: Backbone) -> Whereabouts:
    """Where the weights for extracting features would come from.

    "embedded" with the installation, "here" where Keras has downloaded the network without its
    top, else "download".
    """
    if backbone.source == "embedded":
        return "embedded"
    there = any(_is_of(name, backbone) for name in downloaded_files().values())
    return "here" if there else "download"


def downloaded_files() -> dict[Path, str]:
    """Keras's weights files, sorted, and the name of each without case and punctuation."""
    folder = Path(os.environ.get("KERAS_HOME") or "~/.keras").expanduser() / "models"
    return {path: re.sub(r"[\W_]+", "", path.name.lower()) for path in sorted(folder.glob("*.h5"))}


def _is_of(plain: str, backbone: Backbone) -> bool:
    """Whether Keras would take a file of this name for this backbone without its top."""
    named = [name for name in BACKBONES if name in plain]  # mobilenet, too, in mobilenetv2...
    return "notop" in plain and max(named, key=len, default="") == backbone.name
