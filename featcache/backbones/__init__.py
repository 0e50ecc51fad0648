"""Backbones: the table of networks, and the one way to open one.

    find_backbone(name) -> Backbone -> open_network(backbone, weights=..., size=...) -> Network

Listing and naming need no Keras; it is imported when a network is opened.
"""

from featcache.backbones.listing import list_layers
from featcache.backbones.network import Network, Tap, open_classifier, open_network
from featcache.backbones.recall import recall_taps
from featcache.backbones.table import BACKBONES, Backbone, find_backbone

__all__ = [
    "BACKBONES",
    "Backbone",
    "Network",
    "Tap",
    "find_backbone",
    "list_layers",
    "open_classifier",
    "open_network",
    "recall_taps",
]
