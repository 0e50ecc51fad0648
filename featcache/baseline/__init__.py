"""Baseline: a small network trained from scratch, to see what a pretrained one is worth.

    pixels -> 3 x (convolution, pooling) -> flatten -> dense -> classes

The splits, the held-out images and the report are those of `fit_head` on the same images.
"""
