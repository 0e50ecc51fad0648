"""What is known of each network before it is built: its size, counted, and its accuracy, published.

`parameters` and `depth` were counted on the networks themselves (with their ImageNet top, as
Keras's table counts them). The accuracies are those that the named source publishes for ImageNet's
validation images, at the default size; where it publishes none there is none.
"""

from __future__ import annotations

from dataclasses import dataclass

from featcache.backbones.table import Backbone

#: Outputs of the top that the counts include.
_CLASSES = 1000

KERAS_TABLE = "https://keras.io/api/applications/"
KERAS_MOBILENET_V3 = "https://keras.io/api/applications/mobilenet/ (MobileNetV3)"
TENSORFLOW_TPU = "https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite"


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
