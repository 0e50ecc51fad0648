"""Predicting: what a trained model says of the images of a feed."""

from __future__ import annotations

from typing import Any

import numpy as np

from featcache.training.feeds_ import Feed
from featcache.training.steps import Graph, logits_of, softmax


def predict_logits(model: Any, feed: Feed) -> np.ndarray:
    """What the model gives for every image, (n, K) or (n, 1) float32, in the order of `plain`."""

    def logits(inputs: Any, codes: Any, weights: Any) -> Any:
        return logits_of(model, inputs, training=False)

    graph = Graph(logits)
    return np.concatenate([graph(batch).numpy() for batch in feed.plain()])


def predict_proba(model: Any, feed: Feed) -> np.ndarray:
    """Class probabilities (n, K), float32, of every image, in the order of `plain`.

    The model gives logits (n, K), or (n, 1) where a sigmoid tells two classes apart.
    """
    logits = predict_logits(model, feed)
    # One sigmoid is a softmax whose first logit is 0.
    both = np.concatenate([np.zeros_like(logits), logits], 1) if logits.shape[1] == 1 else logits
    return softmax(both)
