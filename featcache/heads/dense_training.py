"""Training of the dense head: a Keras model, an epoch of it in one call of one graph.

Python does nothing for each batch: the rows of an epoch, in their order, go to a `tf.function`
that loops over the batches. The order depends on the seed and the epoch alone.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from featcache.errors import FeatcacheError
from featcache.heads.dense import ARRAYS, DenseHead, DenseOptions
from featcache.heads.model import blocks
from featcache.heads.training_set import TrainingSet, moments
from featcache.training.feeds import Order, TrainingBatch, in_batches
from featcache.training.history import TrainingHistory, is_finite
from featcache.training.state import parameter_counts
from featcache.training.steps import Graph, judging, loss_of, mean_of, optimizer_of

#: Vectors up to this size are held in memory; of more, this much is read at a time.
HELD_BYTES = 2 * 2**30


def fit(training: TrainingSet, options: DenseOptions) -> DenseHead:
    """Train the layers with Keras; keeps the epoch with the best validation loss.

    Raises `FeatcacheError` where the loss is no number any more.
    """
    layers = options.layers(training.classes)
    model = keras_model(layers, training.width, training.seed)
    if options.standardize:
        _standardize(model, training)
    learner = _Learner.build(model, training, options)
    counts = parameter_counts(model)
    training.say(
        f"parameters of the head: {counts['total']:,} ({counts['trainable']:,} trainable, "
        f"{counts['frozen']:,} not)"
    )
    progress = learner.run()
    settings = {
        **asdict(options),
        "hidden": list(options.units),
        "parameters": counts,
        "history": progress.history,
        "best_epoch": progress.best + 1,
    }
    return head_of(model, layers, settings)


def keras_model(
    layers: list[dict[str, Any]], width: int, seed: int, *, fixed_statistics: bool = False
) -> Any:
    """The layers as a Keras model from vectors (batch, D) to logits, freshly initialised.

    `fixed_statistics`: BatchNorm keeps its statistics while the model is trained.
    """
    from featcache.backbones.keras_import import import_keras
    from featcache.training.state import inference_mode

    keras = import_keras()
    outputs = inputs = keras.Input((width,), name="vectors")
    for number, layer in enumerate(layers):
        built = _keras_layer(keras, layer, seed + number, is_last=number == len(layers) - 1)
        fixed = fixed_statistics and layer["layer"] == "batch_norm"
        outputs = (inference_mode(built) if fixed else built)(outputs)
    return keras.Model(inputs, outputs)


def keras_model_of(head: DenseHead, seed: int, *, fixed_statistics: bool = False) -> Any:
    """A fitted head as a Keras model from vectors (batch, D) to logits; `seed` is its dropout's."""
    model = keras_model(head.layers, head.width, seed, fixed_statistics=fixed_statistics)
    for number, (layer, built) in enumerate(zip(head.layers, model.layers[1:], strict=True)):
        values = [head.arrays[f"{number}.{name}"] for name in ARRAYS[layer["layer"]]]
        if layer["layer"] == "standardize":
            values[1] = values[1] ** 2
        if values:
            built.set_weights(values)
    return model


def head_of(model: Any, layers: list[dict[str, Any]], settings: dict[str, Any]) -> DenseHead:
    """The head that a Keras model of these layers is now."""
    arrays = _arrays_of(model, layers)
    return DenseHead(arrays, {**settings, "layers": layers}, int(model.inputs[0].shape[1]))


def _keras_layer(keras: Any, layer: dict[str, Any], seed: int, *, is_last: bool) -> Any:
    kind = layer["layer"]
    if kind == "standardize":
        # BatchNorm that never learns: (x - mean) / sqrt(variance).
        return keras.layers.BatchNormalization(
            epsilon=0, center=False, scale=False, trainable=False
        )
    if kind == "batch_norm":
        return keras.layers.BatchNormalization(epsilon=layer["epsilon"])
    if kind == "dropout":
        return keras.layers.Dropout(layer["rate"], seed=seed)
    return keras.layers.Dense(
        layer["units"],
        activation=None if is_last else layer["activation"],
        kernel_initializer=keras.initializers.GlorotUniform(seed),
    )


def _standardize(model: Any, training: TrainingSet) -> None:
    mean, deviation = moments(training)
    model.layers[1].set_weights([mean.astype(np.float32), (deviation**2).astype(np.float32)])


def _arrays_of(model: Any, layers: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    """Every layer's arrays under our names; Keras's order within a layer is ARRAYS's."""
    arrays = {}
    for number, (layer, built) in enumerate(zip(layers, model.layers[1:], strict=True)):
        values = built.get_weights() if ARRAYS[layer["layer"]] else []
        if layer["layer"] == "standardize":
            values[1] = np.sqrt(values[1])
        for name, value in zip(ARRAYS[layer["layer"]], values, strict=True):
            arrays[f"{number}.{name}"] = np.asarray(value, np.float32)
    return arrays


@dataclass(frozen=True)
class _Learner:
    """A model, the graphs that train and judge it, and what it learns from."""

    model: Any
    epoch: Any
    judge: Graph
    training: TrainingSet
    options: DenseOptions

    @classmethod
    def build(cls, model: Any, training: TrainingSet, options: DenseOptions) -> _Learner:
        optimizer = optimizer_of(options.optimizer, options.learning_rate)
        optimizer.build(model.trainable_variables)
        loss = loss_of(sigmoid=options.binary_sigmoid, smoothing=options.label_smoothing)
        epoch = _epoch_graph(model, optimizer, loss, options.batch_size)
        return cls(model, epoch, Graph(judging(model, loss)), training, options)

    def run(self) -> TrainingHistory:
        """Train; the model then has the weights of the best epoch."""
        training, validation = self.training, self.training.validation
        progress = TrainingHistory(self.options.learning, validated=validation is not None)
        training.say(progress.begin(self.measure(validation or training)))
        feed, best = EpochFeed.open(training, self.options), None
        for number in range(self.options.epochs):
            began = time.monotonic()
            learned = self.learn(feed, number)
            found = self.measure(validation) if validation else None
            if not is_finite(learned, found):
                raise FeatcacheError(
                    f"the loss is not a number any more after epoch {number + 1}: lower "
                    f"--learning-rate {self.options.learning_rate:g}, or give --standardize"
                )
            training.say(f"{progress.add(learned, found)}, {time.monotonic() - began:.1f} s")
            if progress.is_best:
                best = self.model.get_weights()
            if reason := progress.reason_to_stop():
                training.say(reason)
                break
        self.model.set_weights(best)
        return progress

    def learn(self, feed: EpochFeed, number: int) -> tuple[float, float]:
        """One epoch: its mean loss and accuracy while the weights change, as Keras has them."""
        sums = np.zeros(3)
        for rows, order, codes, weights in feed.epoch(number):
            sums += self.epoch(rows, order, codes, weights).numpy()
        return mean_of(sums)

    def measure(self, judged: TrainingSet) -> tuple[float, float]:
        """Loss and accuracy of the model as it is."""
        sums = np.zeros(3)
        for block in blocks(judged.vectors):
            rows, codes = np.asarray(judged.vectors[block], np.float32), judged.codes[block]
            sums += self.judge(TrainingBatch.of(rows, np.arange(len(codes)), codes, None)).numpy()
        return mean_of(sums)


@dataclass(frozen=True, eq=False)
class EpochFeed:
    """Rows as the graph takes them: all of them in memory, or piece by piece."""

    training: TrainingSet
    options: DenseOptions
    order: Order
    held: Any

    @classmethod
    def open(cls, training: TrainingSet, options: DenseOptions) -> EpochFeed:
        """Read the vectors if they fit in memory."""
        import tensorflow as tf

        order = Order.of(training.images, training.seed)
        if _bytes(training, len(training)) > HELD_BYTES:
            return cls(training, options, order, None)
        codes = training.codes.astype(np.int32)
        arrays = (np.ascontiguousarray(training.vectors), codes, training.row_weights())
        return cls(training, options, order, tuple(tf.constant(array) for array in arrays))

    def epoch(self, number: int) -> Iterator[tuple[Any, Any, Any, Any]]:
        """(rows, order, codes, weights), one after the other, until the epoch is complete."""
        options, training = self.options, self.training
        order = self.order.epoch(number, options.learning.images_per_epoch)
        if self.held:
            rows, codes, weights = self.held
            yield rows, order.astype(np.int32), codes, weights
            return
        most = HELD_BYTES // _bytes(training, 1)
        size = options.batch_size
        for piece in in_batches(order, max(size, most // size * size)):
            chosen = np.sort(piece)
            yield (
                np.ascontiguousarray(training.vectors[chosen]),
                np.searchsorted(chosen, piece).astype(np.int32),
                training.codes[chosen].astype(np.int32),
                training.row_weights()[chosen],
            )


def _bytes(training: TrainingSet, rows: int) -> int:
    return max(1, rows * training.width * training.vectors.dtype.itemsize)


def _epoch_graph(model: Any, optimizer: Any, loss: Any, batch: int) -> Any:
    """The graph of an epoch: rows in memory and their order in, sums of loss and hits out."""
    import tensorflow as tf

    variables = model.trainable_variables

    def step(rows: Any, codes: Any, weights: Any) -> Any:
        with tf.GradientTape() as tape:
            losses, hits = loss(model(tf.cast(rows, tf.float32), training=True), codes)
            losses *= weights
            mean = tf.reduce_mean(losses)
        optimizer.apply(tape.gradient(mean, variables), variables)
        right = tf.reduce_sum(tf.cast(hits, tf.float32))
        return tf.stack([tf.reduce_sum(losses), right, tf.cast(tf.size(codes), tf.float32)])

    def epoch(rows: Any, order: Any, codes: Any, weights: Any) -> Any:
        def body(start: Any, sums: Any) -> Any:
            picked = order[start : start + batch]
            one = step(
                tf.gather(rows, picked), tf.gather(codes, picked), tf.gather(weights, picked)
            )
            return start + batch, sums + tf.cast(one, tf.float64)

        def more(start: Any, sums: Any) -> Any:
            return start < tf.size(order)

        return tf.while_loop(more, body, (0, tf.zeros(3, tf.float64)), parallel_iterations=1)[1]

    return tf.function(epoch, reduce_retracing=True)
