"""Baseline: a small network trained from scratch, to see what a pretrained one is worth.

    pixels -> 3 x (convolution, pooling) -> flatten -> dense -> classes

The splits, the held-out images and the report are those of `fit_head` on the same images.
"""

from featcache.baseline.network import small_network
from featcache.baseline.plan import Plan
from featcache.baseline.training import Baseline, train_baseline

__all__ = ["Baseline", "Plan", "small_network", "train_baseline"]
