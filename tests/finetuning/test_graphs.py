"""Whether XLA compiles a training: where it gains, and where the training is long enough."""

from __future__ import annotations

import pytest

from featcache.backbones.keras_import import import_keras
from featcache.finetuning.graphs import gains_by_xla


def network(kind: str) -> object:
    """Two convolutions of 8x8 pixels, the second one of the kind."""
    keras = import_keras()
    pixels = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, padding="same", name="first")(pixels)
    second = {
        "plain": keras.layers.Conv2D(4, 3, padding="same", name="second"),
        "depthwise": keras.layers.DepthwiseConv2D(3, padding="same", name="second"),
        "grouped": keras.layers.Conv2D(4, 3, padding="same", groups=2, name="second"),
    }[kind]
    return keras.Model(pixels, second(x))


@pytest.mark.parametrize(
    ("kind", "images", "expected"),
    [
        ("plain", 1000, True),
        ("plain", 999, False),
        ("depthwise", 1000, False),
        ("grouped", 1000, False),
    ],
)
def test_long_trainings_without_channelwise_convolutions_are_compiled(kind, images, expected):
    """A short one would not make up for the compiling; channel by channel XLA is slow."""
    assert gains_by_xla(network(kind), images) == expected
