"""Backbones: the table of networks, and the one way to open one.

    recall_backbone(name, [(layer, pooling)], Source(weights, size)) -> [(Network, Tap)]

Listing and naming need no Keras; it is imported when a network is opened.
"""

from featcache.backbones.imagenet_labels import class_names
from featcache.backbones.listing import LayerRow, list_layers, list_user_layers
from featcache.backbones.network import Network, Tap, open_network
from featcache.backbones.opening import BackboneSource, recall_backbone, recall_recipe
from featcache.backbones.table import (
    BACKBONES,
    Backbone,
    Published,
    find_backbone,
    published,
    whereabouts,
)
from featcache.backbones.user_models.user_network import is_user_model

__all__ = [
    "BACKBONES",
    "Backbone",
    "LayerRow",
    "Network",
    "Published",
    "BackboneSource",
    "Tap",
    "class_names",
    "find_backbone",
    "list_layers",
    "list_user_layers",
    "is_user_model",
    "open_network",
    "published",
    "recall_backbone",
    "recall_recipe",
    "whereabouts",
]
