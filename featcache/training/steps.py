"""Steps: learn, judge and predict on a batch, as TensorFlow graphs; losses and optimizers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from featcache.training.feeds import Feed, TrainingBatch
from featcache.training.options import LearningOptions

_KERAS_NAMES = {"adam": "Adam", "rmsprop": "RMSprop", "sgd": "SGD"}


@dataclass(frozen=True, eq=False)
class Graph:
    """A function of inputs, codes and weights, traced once, whatever the length of a batch.

    `compiled`: by XLA, for each length of a batch.
    """

    function: Callable[..., Any]
    compiled: bool = False
    traced: dict[Any, Any] = field(default_factory=dict)

    def __call__(self, batch: TrainingBatch) -> Any:
        """What the function gives, a tensor; on a GPU it may still be under way."""
        shape, kind = batch.inputs.shape[1:], batch.inputs.dtype
        if (shape, kind) not in self.traced:
            self.traced[shape, kind] = self._trace(shape, kind)
        return self.traced[shape, kind](batch.inputs, batch.codes, batch.weights)

    def _trace(self, shape: tuple[int, ...], kind: Any) -> Any:
        import tensorflow as tf

        rows = [((None, *shape), kind), ((None,), tf.int32), ((None,), tf.float32)]
        signature = [tf.TensorSpec(*row) for row in rows]
        jit = True if self.compiled else None
        return tf.function(self.function, input_signature=signature, jit_compile=jit)


@dataclass(frozen=True, eq=False)
class Steps:
    """A model's optimizer, and the graphs that train and judge it.

    `learn` and `judge` give (3,) float64: summed loss, hits and rows of the batch.
    """

    optimizer: Any
    learn: Graph
    judge: Graph

    @classmethod
    def of(cls, model: Any, options: LearningOptions, *, compiled: bool = False) -> Steps:
        """The steps of a model from inputs to logits (n, K), or (n, 1) for one sigmoid.

        `compiled`: XLA compiles the step that learns.
        """
        optimizer = optimizer_of(options.optimizer, options.learning_rate)
        if any(layer.compute_dtype == "float16" for layer in model._flatten_layers()):
            import keras

            # Gradients of float16 would vanish: the loss is scaled up, and they down again.
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
        optimizer.build(model.trainable_variables)
        is_sigmoid = model.output_shape[-1] == 1
        loss = loss_of(sigmoid=is_sigmoid, smoothing=options.label_smoothing)
        learn = _learning(model, optimizer, loss)
        return cls(optimizer, Graph(learn, compiled), Graph(judging(model, loss)))


def _learning(model: Any, optimizer: Any, loss: Any) -> Callable[..., Any]:
    import tensorflow as tf

    variables = model.trainable_variables

    def learn(inputs: Any, codes: Any, weights: Any) -> Any:
        with tf.GradientTape() as tape:
            losses, hits = loss(logits_of(model, inputs, training=True), codes)
            losses *= weights
            # Penalties of the model's own layers are learned from, and not shown.
            mean = tf.add_n([tf.reduce_mean(losses), *model.losses])
            scaled = optimizer.scale_loss(mean)
        optimizer.apply(tape.gradient(scaled, variables), variables)
        return _sums(losses, hits)

    return learn


def judging(model: Any, loss: Any) -> Callable[..., Any]:
    """What a `Graph` traces to judge a model: sums of loss, hits and rows, (3,) float64."""

    def judge(inputs: Any, codes: Any, weights: Any) -> Any:
        return _sums(*loss(logits_of(model, inputs, training=False), codes))

    return judge


def logits_of(model: Any, inputs: Any, *, training: bool) -> Any:
    """The model's float32 logits, of inputs in whatever type they are stored."""
    import tensorflow as tf

    logits = model(tf.cast(inputs, model.inputs[0].dtype), training=training)
    return tf.cast(logits, tf.float32)


def _sums(losses: Any, hits: Any) -> Any:
    import tensorflow as tf

    rows = tf.cast(tf.size(losses), tf.float64)
    totals = [tf.reduce_sum(tf.cast(each, tf.float64)) for each in (losses, hits)]
    return tf.stack([*totals, rows])


def mean_of(sums: np.ndarray) -> tuple[float, float]:
    """Loss and accuracy of the sums of some batches."""
    return float(sums[0] / sums[2]), float(sums[1] / sums[2])


def softmax(scores: np.ndarray) -> np.ndarray:
    """Probabilities (n, K) of scores (n, K), or (n, 1) of the second of two classes."""
    if scores.shape[1] == 1:  # one sigmoid is a softmax whose first score is 0
        scores = np.concatenate([np.zeros_like(scores), scores], axis=1)
    exponent = np.exp(scores - scores.max(axis=1, keepdims=True))
    shares: np.ndarray = exponent / exponent.sum(axis=1, keepdims=True)
    return shares


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
    return softmax(predict_logits(model, feed))


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
