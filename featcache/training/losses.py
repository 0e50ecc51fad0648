"""Losses and optimizers of classification, as TensorFlow and Keras have them."""

from __future__ import annotations

from typing import Any

_KERAS_NAMES = {"adam": "Adam", "rmsprop": "RMSprop", "sgd": "SGD"}


def optimizer_of(name: str, learning_rate: float) -> Any:
    """A fresh Keras optimizer of one of the names in `OPTIMIZERS`."""
    import keras

    return getattr(keras.optimizers, _KERAS_NAMES[name])(learning_rate=learning_rate)


def loss_of(*, sigmoid: bool, smoothing: float) -> Any:
    """A function of logits and codes to (loss of each row, whether it was right).

    Logits are (n, K), or with `sigmoid` (n, 1), where class 1 is what is above 0.
    """
    import tensorflow as tf

    def softmax_loss(logits: Any, codes: Any) -> Any:
        classes = tf.shape(logits)[1]
        if smoothing:
            targets = tf.one_hot(codes, classes) * (1 - smoothing)
            targets += smoothing / tf.cast(classes, tf.float32)
            losses = tf.nn.softmax_cross_entropy_with_logits(targets, logits)
        else:
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(codes, logits)
        return losses, tf.equal(tf.argmax(logits, 1, tf.int32), codes)

    def sigmoid_loss(logits: Any, codes: Any) -> Any:
        targets = tf.cast(codes, tf.float32) * (1 - smoothing) + smoothing / 2
        losses = tf.nn.sigmoid_cross_entropy_with_logits(targets, logits[:, 0])
        return losses, tf.equal(tf.cast(logits[:, 0] > 0, tf.int32), codes)

    return sigmoid_loss if sigmoid else softmax_loss
