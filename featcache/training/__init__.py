"""Training: a Keras model learns from a feed, epoch by epoch, resumable after any of them.

    RowFeed | PixelFeed -> batches -> learn(model, train, validation, options) -> Learned

Everything random is a function of the seed and the epoch, so a run that was killed goes on from
its `Checkpoint` to the result of an undisturbed one.
"""

from featcache.training.checkpoint import Checkpoint, differences, digest_of
from featcache.training.feeds import Feed, RowFeed, TrainingBatch
from featcache.training.loop import Learned, learn
from featcache.training.options import LearningOptions
from featcache.training.pixels import Pictures, PixelFeed
from featcache.training.steps import predict_logits, predict_proba

__all__ = [
    "TrainingBatch",
    "Checkpoint",
    "Feed",
    "Learned",
    "LearningOptions",
    "Pictures",
    "PixelFeed",
    "RowFeed",
    "differences",
    "digest_of",
    "learn",
    "predict_logits",
    "predict_proba",
]
