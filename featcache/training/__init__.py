"""Training: a Keras model learns from a feed, epoch by epoch, resumable after any of them.

    RowFeed | PixelFeed -> batches -> learn(model, train, validation, options) -> Learned

Everything random is a function of the seed and the epoch, so a run that was killed goes on from
its `Checkpoint` to the result of an undisturbed one.
"""
