"""The layers of a backbone, for those who want to tap one."""

from __future__ import annotations

from featcache.backbones.layers import canonical_layers
from featcache.backbones.network import open_network
from featcache.backbones.table import Backbone


def list_layers(backbone: Backbone) -> list[tuple[str, tuple[int, ...]]]:
    """Canonical name and output shape of every layer, at the default size; needs no weights."""
    size = (backbone.size, backbone.size)
    network = open_network(backbone, weights="random", size=size, pooling="none")
    return [
        (name, tuple(int(side) for side in layer.output.shape[1:]))
        for name, layer in canonical_layers(network.base).items()
    ]
