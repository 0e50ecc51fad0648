"""Backbones: the table of networks, and the one way to open one.

    opening.recall_backbone(name, [(layer, pooling)], source) -> [(Network, Tap)]

Listing and naming need no Keras; it is imported when a network is opened.
"""
