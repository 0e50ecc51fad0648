"""Whether XLA compiles a training: where it gains, and where the training is long enough."""

from __future__ import annotations

import pytest

from featcache.backbones.keras_import import import_keras
from featcache.finetuning.freezing import total_multiply_adds
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
    ("kind", "work", "expected"),
    [
        ("plain", 1e13, True),
        ("plain", 1e9, False),
        ("depthwise", 1e13, False),
        ("grouped", 1e13, False),
    ],
)
def test_long_trainings_without_channelwise_convolutions_are_compiled(kind, work, expected):
    """A short one would not make up for the compiling; channel by channel XLA is slow."""
    assert gains_by_xla(network(kind), work) == expected


def test_multiply_adds_are_those_of_the_kernels():
    """Of all layers, or of some: pixels x kernel numbers."""
    model = network("plain")
    first, second = 64 * 3 * 3 * 3 * 4, 64 * 3 * 3 * 4 * 4
    assert total_multiply_adds(model) == first + second
    assert total_multiply_adds(model, ["second"]) == second
