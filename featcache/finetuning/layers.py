"""A head as layers: what fine-tuning begins with. Logistic and linear heads are one Dense layer."""

from __future__ import annotations

from typing import Any

import numpy as np

from featcache.errors import FeatcacheError
from featcache.heads.dense import DenseHead
from featcache.heads.linear import LinearHead
from featcache.heads.logreg import LogisticHead
from featcache.heads.model import Model

#: The kinds of heads that can become layers, with their default options at least.
LAYERED = ("logreg", "dense", "ridge", "svm")


def as_layers(model: Model, *, temperature: float = 1.0) -> DenseHead:
    """The same classifier as a dense head: scaling and temperature are folded into its layers.

    Raises `FeatcacheError` for a kind of head that layers cannot say.
    """
    if isinstance(model, DenseHead):
        found = model
    elif isinstance(model, LogisticHead):
        kernel = model.coefficients.astype(np.float64) / model.scale
        found = _one_layer(kernel, model.intercept - kernel @ model.mean)
    elif isinstance(model, LinearHead) and not model.settings.get("unit_length"):
        found = _one_layer(model.coefficients, model.intercept)
    else:
        raise FeatcacheError(
            "a head of nearest neighbours or of cosine distances cannot become layers: fine-tune "
            "from --head logreg, dense, ridge or svm"
        )
    return _cooled(found, temperature) if temperature != 1.0 else found


def _one_layer(weights: np.ndarray, bias: np.ndarray) -> DenseHead:
    """`weights` (K, D), or (1, D) of the second of two classes."""
    last = {"units": len(bias), "activation": "sigmoid" if len(bias) == 1 else "softmax"}
    layers: list[dict[str, Any]] = [{"layer": "dense", **last}]
    arrays = {"0.kernel": weights.T.astype(np.float32), "0.bias": bias.astype(np.float32)}
    return DenseHead(arrays, {"layers": layers}, weights.shape[1])


def _cooled(head: DenseHead, temperature: float) -> DenseHead:
    """The head whose logits are divided by the temperature."""
    last = len(head.layers) - 1
    arrays = dict(head.arrays)
    for name in (f"{last}.kernel", f"{last}.bias"):
        arrays[name] = (arrays[name] / temperature).astype(np.float32)
    return DenseHead(arrays, head.settings, head.width)
