"""Images through a backbone's own ImageNet top: English class names and probabilities."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from featcache.backbones.imagenet_labels import class_names
from featcache.backbones.network import Network, Tap
from featcache.backbones.opening import BackboneSource, recall_backbone
from featcache.backbones.tuned import TunedBackbone
from featcache.errors import FeatcacheError, at_least
from featcache.extraction.pipeline import Batch, run_pass
from featcache.extraction.reading import AHEAD, Reading, Stream
from featcache.heads.head import Prediction
from featcache.images import ImageSet
from featcache.images.decoder import MAX_PIXELS
from featcache.recipe import Decoding, Recipe
from featcache.runtimes.proof import open_proven
from featcache.runtimes.runtime import Runtime

#: The layer of the classifier's probabilities, in every network.
_PREDICTIONS = "predictions"


def classify(
    images: ImageSet,
    backbone: str,
    source: BackboneSource,
    *,
    top: int = 5,
    threads: int = 2,
    say: Callable[[str], None] = lambda line: None,
) -> Iterator[Prediction]:
    """The `top` ImageNet classes of each image, best first, in order; bad images say why.

    Memory does not grow with the number of images. Raises `FeatcacheError` where the weights
    cannot be loaded, have no top, or have one that is not ImageNet's.
    """
    at_least("--top", top, 1)
    network, tap = _open_top(backbone, source)
    names = class_names(tap.row_shape[-1])
    decoding = Decoding(network.size)
    stream = Stream(
        decoding=decoding,
        needs=lambda index, key, content: [0],
        open_runtime=lambda: _open_runtime(network, tap, decoding, say),
        ahead=AHEAD,
        unique=False,
    )
    for batch in run_pass(images, range(len(images)), [stream], Reading(threads, MAX_PIXELS)):
        yield from _predictions(batch, images, names, top)


def _open_top(backbone: str, source: BackboneSource) -> tuple[Network, Tap]:
    """The network with its classifier; a user's own model is taken to end in one."""
    if TunedBackbone.find(backbone):
        raise FeatcacheError(
            f"--backbone {backbone}: a fine-tuned backbone has no ImageNet classes any more; "
            f"`featcache predict {backbone} IMAGES` gives its own"
        )
    opened = recall_backbone(backbone, [(_PREDICTIONS, "avg")], source)
    return opened[0]


def _open_runtime(
    network: Network, tap: Tap, decoding: Decoding, say: Callable[[str], None]
) -> Runtime:
    recipe = Recipe(
        backbone=network.backbone.name,
        weights=tap.weights,
        layer=tap.layer,
        decoding=decoding,
        scaling=network.backbone.scaling,
    )
    proven = open_proven("auto", network, recipe, batch=None)
    for line in (proven.runtime.choice, *proven.remarks):
        say(line)
    return proven.runtime


def _predictions(
    batch: Batch, images: ImageSet, names: list[str], top: int
) -> Iterator[Prediction]:
    found = {
        outcome.index: Prediction(images.names[outcome.index], [], [], outcome.problem[1])
        for outcome in batch.others
        if outcome.problem
    }
    for row, outputs in zip(batch.rows, batch.vectors[0] if batch.rows else (), strict=True):
        name = images.names[row.outcome.index]
        found[row.outcome.index] = Prediction.of(name, names, _probabilities(outputs), top)
    for index in sorted(found):
        yield found[index]


def _probabilities(outputs: np.ndarray) -> np.ndarray:
    """A row as probabilities: hub classifiers give logits, those of Keras have a softmax."""
    if outputs.min() >= 0 and abs(float(outputs.sum()) - 1) < 1e-3:
        return outputs
    powers = np.exp(outputs - outputs.max())
    return np.asarray(powers / powers.sum())
