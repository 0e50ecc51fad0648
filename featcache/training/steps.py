"""Steps: what is done with a batch, as TensorFlow graphs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from featcache.training.feeds_ import TrainingBatch
from featcache.training.losses import loss_of, optimizer_of
from featcache.training.options import LearningOptions


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
        if computes_in_half(model):
            import keras

            # Gradients of float16 would vanish: the loss is scaled up, and they down again.
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
        optimizer.build(model.trainable_variables)
        is_sigmoid = model.output_shape[-1] == 1
        loss = loss_of(sigmoid=is_sigmoid, smoothing=options.label_smoothing)
        learn = _learning(model, optimizer, loss)
        return cls(optimizer, Graph(learn, compiled), Graph(_judging(model, loss)))


def computes_in_half(model: Any) -> bool:
    """Whether a layer of the model computes in float16."""
    return any(layer.compute_dtype == "float16" for layer in model._flatten_layers())


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


def _judging(model: Any, loss: Any) -> Callable[..., Any]:
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
    """Probabilities (n, K) of scores (n, K)."""
    exponent = np.exp(scores - scores.max(axis=1, keepdims=True))
    shares: np.ndarray = exponent / exponent.sum(axis=1, keepdims=True)
    return shares
