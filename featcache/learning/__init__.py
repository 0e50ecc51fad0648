"""Learning: a Keras model trained from a feed, epoch by epoch, and resumable after any of them.

    RowFeed | PixelFeed -> batches -> learn(model, train, validation, options) -> Learned

Everything random is a function of the seed and the epoch, so a run that was killed goes on from
its `Checkpoint` to the result of an undisturbed one.
"""

from featcache.learning.checkpoint import Checkpoint, differences, digest_of
from featcache.learning.feeds import Batch, Feed
from featcache.learning.loop import Learned, learn
from featcache.learning.options import LearningOptions
from featcache.learning.pixels import Pictures, PixelFeed
from featcache.learning.predicting import predict_logits, predict_proba
from featcache.learning.rows import RowFeed

__all__ = [
    "Batch",
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
