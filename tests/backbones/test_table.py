"""The table of backbones says what Keras says, and finds what people type."""

from __future__ import annotations

import subprocess
import sys

import pytest

from featcache.backbones.construct import Shape, construct
from featcache.backbones.keras_import import import_keras
from featcache.backbones.table import BACKBONES, find_backbone
from featcache.errors import FeatcacheError
from tests.backbones.networks import QUICK_FAMILIES


def test_every_network_of_keras_is_there():
    """The table holds every constructor of keras.applications, and one embedded network."""
    keras = import_keras()
    constructors = {name for name in dir(keras.applications) if name[0].isupper()}
    rows = [row for row in BACKBONES.values() if row.source == "keras"]
    assert {row.constructor for row in rows} == constructors
    assert {row.name for row in BACKBONES.values() if row.source == "embedded"} == {
        "efficientnet_lite0"
    }
    for row in rows:
        constructor = getattr(keras.applications, row.constructor)
        assert constructor.__module__.rsplit(".", 1)[1] == row.module
        assert callable(getattr(keras.applications, row.module).preprocess_input)


def check_row(name: str) -> None:
    row = BACKBONES[name]
    network = construct(row, Shape((row.smallest, row.smallest), "avg"))
    assert network.output_shape == (None, row.width)
    if row.source == "keras" and row.smallest > 32:
        with pytest.raises(ValueError, match="at least"):
            getattr(import_keras().applications, row.constructor)(
                include_top=False, weights=None, input_shape=(row.smallest - 1,) * 2 + (3,)
            )


@pytest.mark.parametrize("name", QUICK_FAMILIES)
def test_width_and_smallest_size(name):
    """A network built at its smallest size has the width that the table says."""
    check_row(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(BACKBONES) - set(QUICK_FAMILIES)))
def test_width_and_smallest_size_of_the_others(name):
    """The same for every other network, the huge ones too."""
    check_row(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(BACKBONES))
def test_default_size(name):
    """The table's default side is the one that Keras gives the network with its top."""
    row = BACKBONES[name]
    shape = construct(row, Shape(None, include_top=True)).input_shape[1:3]
    # MobileNetV3 leaves its input open; its published weights are of 224 pixels.
    assert shape in ((row.size, row.size), (None, None))


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("VGG-16", "vgg16"),
        ("MobileNetV2", "mobilenetv2"),
        ("mobilenet_v2", "mobilenetv2"),
        ("EfficientNet Lite0", "efficientnet_lite0"),
        ("ConvNeXt-Tiny", "convnexttiny"),
        ("MobileNetV3-Small", "mobilenetv3small"),
    ],
)
def test_names_are_found_however_they_are_written(typed, name):
    """Case, spaces, hyphens and underscores do not matter."""
    assert find_backbone(typed).name == name


def test_an_unknown_name_gets_the_nearest():
    """An unknown backbone is an error that names near ones and where all are listed."""
    with pytest.raises(FeatcacheError, match="resnet50") as caught:
        find_backbone("resnet5")
    assert "featcache backbones" in str(caught.value)


def test_the_table_needs_no_keras():
    """Importing backbones and runtimes, and finding one, imports neither Keras nor TensorFlow."""
    code = (
        "import sys, featcache.backbones.opening, featcache.runtimes.proof;"
        "from featcache.backbones.table import find_backbone; find_backbone('vgg16');"
        "sys.exit(any(m.split('.')[0] in ('keras', 'tensorflow') for m in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
