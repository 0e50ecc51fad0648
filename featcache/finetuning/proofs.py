"""Proofs: what fine-tuning starts from is what was cached, and what comes out is one whole."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from featcache.backbones.keras_import import import_keras
from featcache.errors import FeatcacheError
from featcache.extraction.known import roundings_of
from featcache.features.features import Features
from featcache.features.store.packed_file import open_packed
from featcache.finetuning.cut import Feeds
from featcache.finetuning.graphs import as_layers, resizes_inside
from featcache.finetuning.start import Start
from featcache.heads.dense import DenseHead
from featcache.heads.head import Head
from featcache.images.decoder import decode
from featcache.recipe import Decoding
from featcache.runtimes.probe import probe_pixels
from featcache.runtimes.rounding import allowed_error, rounding_of
from featcache.training.feeds import Feed

#: How far logits may be from the cached head's where float16 was stored, as a share of the size of
#: their terms: below the cut its rounding passes through the rest of the network.
HALF_LOGITS = 1e-2
#: The same for the saved model's probabilities, whose vectors alone were stored in float16.
HALF_VECTORS = 1e-3
#: Images that are compared.
COMPARED = 64
#: Images on which that is checked.
CHECKED = 8


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far logits are from those expected, on some images.

    Attributes
    ----------
    error: the largest difference of a logit; `share`, as a share of the largest logit.
    changed: images of `images` with another prediction.
    stored: the type of the activations it began with, "" where there were none.
    """

    error: float
    share: float
    images: int
    changed: int
    stored: str

    @property
    def words(self) -> str:
        words = (
            f"before the first epoch the logits are the cached head's to {self.error:.1e} "
            f"({self.share:.1e} of the largest), {self.images - self.changed} of {self.images} "
            f"predictions the same"
        )
        if self.share > 1e-3 and self.stored == "float16":
            words += "; that is the rounding of float16 activations, --cut-dtype float32 has none"
        return words


def check_start(start: Start, model: Any, feeds: Feeds, *, stored: str) -> Agreement:
    """Compare the model, before it learns, with the head on the cached vectors.

    Raises `FeatcacheError` where logits differ by more than rounding of the `stored` type can
    explain; where they do not, only near-ties can change a prediction.
    """
    roles = start.roles
    mask = roles.stop if feeds.validation else roles.train
    rows = start.features[mask & (start.features.views == 0)]
    inputs = _first_inputs(feeds.validation or feeds.train)
    given = np.asarray(model(inputs.astype(np.float32), training=False))
    vectors = rows[: len(inputs)].vectors.astype(np.float32)
    expected = start.layers.logits(vectors)
    error = float(np.abs(given - expected).max())
    bound = allowed_error(rounding_at_start(start)) * reach(start.layers, vectors)
    if "float16" in (stored, start.features.recipe.dtype):
        bound += HALF_LOGITS * size_of_terms(start.layers, vectors)
    if not error <= bound:
        raise FeatcacheError(
            f"before the first epoch the network's logits differ from the cached head's by "
            f"{error:.1e}, at most {bound:.1e} is rounding: the network or the images are not "
            f"those of the features. Run `featcache extract --check 64` on them"
        )
    changed = int((_decided(given) != _decided(expected)).sum())
    share = error / max(float(np.abs(expected).max()), 1e-6)
    return Agreement(error, share, len(inputs), changed, stored)


def _first_inputs(feed: Feed) -> np.ndarray:
    """Of the first images, at most `COMPARED`."""
    found: list[np.ndarray] = []
    for batch in feed.plain():
        found.append(batch.inputs)
        if sum(map(len, found)) >= COMPARED:
            break
    return np.concatenate(found)[:COMPARED]


def rounding_at_start(start: Start) -> float:
    """That of the network as it was when the features were made; Keras has built it."""
    pixels = probe_pixels(start.features.recipe.decoding).astype(np.float32)
    return rounding_of(start.draft.network, pixels)[0]


def reach(layers: DenseHead, vectors: np.ndarray) -> float:
    """How far an error of 1 in the vectors can move a logit, the largest of any row.

    Errors of vectors are shares of the largest value of a row (see `probe.row_error`).
    """
    largest = np.abs(vectors).max(axis=1, keepdims=True)
    return max(float(layers.passed_on(np.broadcast_to(largest, vectors.shape)).max()), 1e-6)


def size_of_terms(layers: DenseHead, vectors: np.ndarray) -> float:
    """The largest sum of a logit's terms without their signs: its rounding grows with that.

    Large terms may cancel to a small logit.
    """
    sizes = [np.abs(layers.logits(vectors)).max()]
    if layers.layers[0]["layer"] == "dense":
        sizes.append((np.abs(vectors) @ np.abs(layers.arrays["0.kernel"])).max())
    return max(float(max(sizes)), 1e-6)


def _decided(logits: np.ndarray) -> np.ndarray:
    codes: np.ndarray = logits[:, 0] > 0 if logits.shape[1] == 1 else logits.argmax(axis=1)
    return codes


def check_joined(start: Start, whole: Any, parts: tuple[Any, Any], *, rounding: float) -> float:
    """How far the whole network is from its part below the cut followed by that above it.

    As a share of the largest logit, on two images of the probe; `rounding` is the network's.
    Raises `FeatcacheError` where it is more than rounding.
    """
    below, above = parts
    pixels = probe_pixels(start.features.recipe.decoding)[:2].astype(np.float32)
    given = np.asarray(whole(pixels, training=False))
    expected = np.asarray(above(below(pixels, training=False), training=False))
    size = max(float(np.abs(expected).max()), 1e-6)
    error = float(np.abs(given - expected).max()) / size
    vectors = start.draft.network.live(pixels)[0].reshape(len(pixels), -1)
    bound = allowed_error(rounding) * reach(start.layers, vectors) / size
    if not error <= bound:
        raise FeatcacheError(
            f"the joined network differs from its two parts by {error:.1e} of the largest logit, "
            f"at most {bound:.1e} is rounding: a defect of featcache or Keras; run with "
            f"--from-cut no, and report it, please"
        )
    return error


def check_classifier(path: Path, head: Head, rows: Features, start: Start) -> float:
    """How far the saved model's probabilities are from those of `predict` on the same images.

    It is read again from its file. Raises `FeatcacheError` where they differ by more than rounding.
    """
    model = import_keras().saving.load_model(path)
    rows = rows[: min(CHECKED, len(rows))]
    place = {name: index for index, name in enumerate(start.draft.job.images.names)}
    pixels = (_pixels(start, place[name], rows.recipe.decoding) for name in rows.names.tolist())
    given = np.concatenate([np.asarray(model(each[None], training=False)) for each in pixels])
    error = float(np.abs(given - head.predict_proba(rows)).max())
    vectors = rows.vectors.astype(np.float32)
    layers = as_layers(head.model)
    bound = allowed_error(*roundings_of(open_packed(rows.path).provenance)) * reach(layers, vectors)
    if rows.recipe.dtype == "float16":
        bound += HALF_VECTORS * max(1.0, size_of_terms(layers, vectors))
    if not error <= bound:
        raise FeatcacheError(
            f"{path}: the model's probabilities differ from those of `featcache predict` by "
            f"{error:.1e}, at most {bound:.1e} is rounding: please report it"
        )
    return error


def _pixels(start: Start, index: int, decoding: Decoding) -> np.ndarray:
    """What the saved model takes of an image: the recipe's pixels, or the file's own."""
    content, most = start.draft.job.images.read(index).content, start.draft.job.settings.max_pixels
    decoded = decode(content, decoding, max_pixels=most)
    if not resizes_inside(decoding):
        return decoded.pixels
    own = replace(decoding, size=decoded.source_size, resize="squash", crop=1.0)
    return np.rint(decode(content, own, max_pixels=most).pixels).astype(np.uint8)
