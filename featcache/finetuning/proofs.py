"""Proofs: what fine-tuning begins with is what was cached, and what comes out is one whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from featcache.errors import FeatcacheError
from featcache.finetuning.feeds import Feeds
from featcache.finetuning.start import Start
from featcache.heads.dense import DenseHead
from featcache.learning import Feed

#: How far logits may be from the cached head's, as a share of the largest term in their sums.
LOGITS = {"float32": 1e-3, "float16": 1e-2}
#: How far the joined model may be from its two parts.
JOINED = 1e-5
#: Images that are compared.
COMPARED = 64


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far logits are from those expected, as a share of the largest term in their sums.

    `changed` of `images` predictions differ.
    """

    error: float
    images: int
    changed: int

    @property
    def words(self) -> str:
        return (
            f"before the first epoch the logits are the cached head's to {self.error:.1e}, "
            f"{self.images - self.changed} of {self.images} predictions the same"
        )


def check_start(start: Start, model: Any, feeds: Feeds, *, stored: str) -> Agreement:
    """Compare the model, before it learns, with the head on the cached vectors.

    Raises `FeatcacheError` where logits differ by more than rounding of the `stored` type, or a
    prediction differs that is no near-tie.
    """
    roles = start.roles
    mask = roles.stop if feeds.validation else roles.train
    rows = start.features[mask & (start.features.views == 0)]
    inputs = _first_inputs(feeds.validation or feeds.train)
    given = np.asarray(model(inputs.astype(np.float32), training=False))
    vectors = rows[: len(inputs)].vectors.astype(np.float32)
    expected, scale = start.layers.logits(vectors), largest_term(start.layers, vectors)
    error = float(np.abs(given - expected).max()) / scale
    changed = _decided(given) != _decided(expected)
    bound = LOGITS["float16" if "float16" in (stored, start.features.recipe.dtype) else "float32"]
    clear = _margin(expected) > 2 * bound * scale
    if not error <= bound or (changed & clear).any():
        raise FeatcacheError(
            f"before the first epoch the network's logits differ from the cached head's by "
            f"{error:.1e} of the largest term, at most {bound:g} is rounding: the network or the "
            f"images are not those of the features. Run `featcache extract --check 64` on them"
        )
    return Agreement(error, len(inputs), int(changed.sum()))


def _first_inputs(feed: Feed) -> np.ndarray:
    """Of the first images, at most `COMPARED`."""
    found: list[np.ndarray] = []
    for batch in feed.plain():
        found.append(batch.inputs)
        if sum(map(len, found)) >= COMPARED:
            break
    return np.concatenate(found)[:COMPARED]


def largest_term(layers: DenseHead, vectors: np.ndarray) -> float:
    """What the rounding of logits is measured by: large terms may cancel to a small sum."""
    sizes = [np.abs(layers.logits(vectors)).max()]
    if layers.layers[0]["layer"] == "dense":
        sizes.append((np.abs(vectors) @ np.abs(layers.arrays["0.kernel"])).max())
    return max(float(max(sizes)), 1e-6)


def _decided(logits: np.ndarray) -> np.ndarray:
    codes: np.ndarray = logits[:, 0] > 0 if logits.shape[1] == 1 else logits.argmax(axis=1)
    return codes


def _margin(logits: np.ndarray) -> np.ndarray:
    """By how much the likeliest class leads."""
    if logits.shape[1] == 1:
        size: np.ndarray = np.abs(logits[:, 0])
        return size
    two = np.partition(logits, -2, axis=1)[:, -2:]
    lead: np.ndarray = two[:, 1] - two[:, 0]
    return lead


def check_joined(whole: Any, parts: tuple[Any, Any], pixels: np.ndarray) -> float:
    """How far the whole network is from its part below the cut followed by that above it.

    Raises `FeatcacheError` above 1e-5 of the largest logit.
    """
    below, above = parts
    given = np.asarray(whole(pixels, training=False))
    expected = np.asarray(above(below(pixels, training=False), training=False))
    error = float(np.abs(given - expected).max() / max(np.abs(expected).max(), 1e-6))
    if not error <= JOINED:
        raise FeatcacheError(
            f"the joined network differs from its two parts by {error:.1e}: a defect of "
            f"featcache or Keras; run with --from-cut no, and report it, please"
        )
    return error
