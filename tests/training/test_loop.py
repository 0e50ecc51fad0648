"""The loop: what Keras does, the best epoch kept, and a count that goes on."""

from __future__ import annotations

import numpy as np
import pytest
from learning_samples import SHAPE, Disturbed, broken_in, feed, rows, small_net

from featcache.errors import FeatcacheError
from featcache.training import loop
from featcache.training.feeds import RowFeed
from featcache.training.loop import learn
from featcache.training.options import LearningOptions
from featcache.training.state import changing_weights, seed_generators
from featcache.training.steps import predict_logits, predict_proba


def quietly(line: str) -> None:
    """Nobody listens."""


def judged(model, count: int, seed: int) -> float:
    """The loss of a model on the maps of `feed`, by Keras."""
    from keras.losses import SparseCategoricalCrossentropy

    maps, codes = rows(count, seed)
    logits = model(maps.astype(np.float32), training=False)
    return float(SparseCategoricalCrossentropy(from_logits=True)(codes, logits))


def test_a_training_is_that_of_keras():
    """The same weighted batches lead Keras's own `train_on_batch` to the same model."""
    import keras

    options = LearningOptions("adam", 1e-3, epochs=2, batch_size=16, label_smoothing=0.0)
    maps, codes = rows(70)
    weights = np.where(codes == 1, 3.0, 0.5).astype(np.float32)
    source = RowFeed(maps, codes, weights, np.arange(70), options)
    ours, theirs = small_net(noise=False), small_net(noise=False)
    learned = learn(ours, source, None, options, say=quietly)
    theirs.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    for number in range(2):
        for batch in source.epoch(number):
            theirs.train_on_batch(batch.inputs, batch.codes, sample_weight=batch.weights)
    for mine, other in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(mine, other, atol=1e-5)
    assert learned.epochs_run == len(learned.seconds) == 2


def test_penalties_of_the_layers_are_learned_from():
    """A kernel with an L2 penalty shrinks as it does in Keras, and the loss shown is without it."""
    import keras

    options = LearningOptions("sgd", 0.1, epochs=1, batch_size=50)
    source = feed(50, options)

    def net():
        dense = keras.layers.Dense(2, kernel_regularizer=keras.regularizers.L2(0.5))
        model = keras.Sequential([keras.Input(SHAPE), keras.layers.Flatten(), dense])
        dense.set_weights([np.ones((108, 2)), np.zeros(2)])
        return model

    ours, theirs = net(), net()
    shown = learn(ours, source, None, options, say=quietly).history["loss"][0]
    theirs.compile(
        keras.optimizers.SGD(0.1), keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    batch = next(iter(source.epoch(0)))
    with_penalty = theirs.train_on_batch(batch.inputs, batch.codes)
    np.testing.assert_allclose(ours.get_weights()[0], theirs.get_weights()[0], atol=1e-5)
    assert with_penalty - shown == pytest.approx(0.5 * 216, rel=1e-5)


def test_the_best_epoch_is_kept():
    """The model has the weights, moving statistics too, of the epoch with the least validation
    loss.
    """
    options = LearningOptions("sgd", 0.5, epochs=6, batch_size=8)
    model = small_net()
    learned = learn(model, feed(40, options), feed(60, options, 1), options, say=quietly)
    losses = learned.history["val_loss"]
    assert learned.best_epoch == 1 + int(np.argmin(losses)) < 6
    assert judged(model, 60, 1) == pytest.approx(min(losses), rel=1e-5)


def test_the_count_goes_on():
    """Epochs are shown, recorded and shuffled after those of the training before."""
    options, told = LearningOptions(epochs=2), []
    before = {"loss": [3.0, 2.0], "accuracy": [0.1, 0.2], "initial_val_loss": [4.0]}
    learned = learn(
        small_net(), feed(40, options), feed(20, options, 1), options,
        first_epoch=2, history=before, say=told.append,
    )  # fmt: skip
    assert told[0].startswith("before epoch 3: validation loss")
    assert told[1].startswith("epoch 3/4: loss")
    assert told[-1].startswith("epoch 4/4: loss")
    history = learned.history
    assert history["loss"][:2] == [3.0, 2.0]
    assert len(history["loss"]) == 4
    assert history["val_loss"][:2] == [None, None]
    assert len(history["initial_val_loss"]) == 2
    assert (learned.first_epoch, learned.epochs_run, learned.best_epoch) == (2, 2, 4)
    assert before["loss"] == [3.0, 2.0]


def test_the_seed_and_the_number_of_the_epoch_are_all_there_is_to_chance():
    """Dropout included, the same seed gives the same training, another seed another."""
    first, again, other = (
        learn(small_net(), feed(40, options), None, options, say=quietly).history["loss"]
        for options in (LearningOptions(epochs=2, seed=seed) for seed in (3, 3, 4))
    )
    np.testing.assert_allclose(first, again, rtol=1e-6)
    assert abs(first[0] - other[0]) > 1e-4


def test_random_generators_follow_the_seed_and_the_epoch():
    """Dropout's state depends on the seed and on the epoch, and on nothing that went before."""
    model = small_net()
    (state,) = (each for each in model.variables if "seed_generator_state" in each.path)
    found = []
    for seed, epoch in ((1, 1), (1, 2), (2, 1), (1, 1)):
        seed_generators(model, seed=seed, epoch=epoch)
        found.append(tuple(state.numpy().tolist()))
    assert len(set(found)) == 3
    assert found[0] == found[3]


def test_it_stops_when_it_should():
    """`patience` epochs without a better loss end a training, and so does an accuracy passed."""
    options, told = LearningOptions("sgd", 1.0, epochs=30, batch_size=8, patience=2), []
    learned = learn(small_net(), feed(40, options), feed(60, options, 1), options, say=told.append)
    assert learned.epochs_run == learned.best_epoch + 2 < 30
    assert "no better validation loss in 2 epochs" in told[-1]
    options = LearningOptions("adam", 1e-2, epochs=30, batch_size=8, stop_at=0.9)
    learned = learn(small_net(noise=False), feed(80, options), None, options, say=told.append)
    assert "training accuracy reaches 0.9" in told[-1]
    assert learned.history["accuracy"][-1] > 0.9 >= max(learned.history["accuracy"][:-1])


def test_a_loss_that_is_no_number_ends_it():
    """After a good epoch that one is kept, and said; in the first epoch there is only advice."""
    options, told = LearningOptions(epochs=5), []
    model = small_net()
    source = Disturbed(feed(40, options), broken_in(2))
    learned = learn(model, source, feed(60, options, 1), options, say=told.append)
    assert learned.epochs_run == 2
    assert all(np.isfinite(values).all() for values in learned.history.values())
    assert "not a number any more in epoch 3" in learned.trouble == told[-1]
    assert judged(model, 60, 1) == pytest.approx(learned.history["val_loss"][1], rel=1e-5)
    with pytest.raises(FeatcacheError, match=r"the first one: lower --learning-rate 1e-05"):
        learn(small_net(), Disturbed(feed(40, options), broken_in(0)), None, options, say=quietly)


def test_a_long_epoch_says_how_far_it_is(monkeypatch):
    """While an epoch takes its time, lines tell the images seen, the loss and the time left."""
    monkeypatch.setattr(loop, "PULSE", 0.0)
    options, told = LearningOptions(epochs=1, batch_size=16), []
    learn(small_net(), feed(48, options), None, options, say=told.append)
    assert [line.split(",")[0] for line in told[1:-1]] == [
        "epoch 1: 16 of 48 images", "epoch 1: 32 of 48 images",
    ]  # fmt: skip


def test_one_sigmoid_tells_two_classes_apart():
    """A model with one logit learns, and its accuracy is that of its sign."""
    options = LearningOptions("adam", 1e-2, epochs=5, batch_size=16)
    model = small_net(1, noise=False)
    learned = learn(model, feed(80, options), feed(60, options, 1), options, say=quietly)
    maps, codes = rows(60, 1)
    right = (np.asarray(model(maps.astype(np.float32)))[:, 0] > 0) == codes
    assert learned.history["val_accuracy"][learned.best_epoch - 1] == pytest.approx(right.mean())
    assert right.mean() > 0.7


@pytest.mark.parametrize("outputs", [1, 3])
def test_probabilities_are_those_of_the_model(outputs):
    """Of each image in order, the last short batch too; one sigmoid gives two classes."""
    import keras

    model = small_net(outputs)
    source = feed(50, LearningOptions(batch_size=16))
    logits = model(rows(50)[0].astype(np.float32), training=False)
    if outputs == 1:
        second = np.asarray(keras.ops.sigmoid(logits))
        want = np.concatenate([1 - second, second], axis=1)
    else:
        want = np.asarray(keras.ops.softmax(logits))
    np.testing.assert_allclose(predict_proba(model, source), want, atol=1e-6)
    np.testing.assert_allclose(predict_logits(model, source), logits, atol=1e-5)


def test_what_is_frozen_stays():
    """Weights and moving statistics of frozen layers do not change, and are not copied."""
    options = LearningOptions("adam", 1e-2, epochs=1)
    model = small_net()
    for name in ("convolution", "normalised"):
        model.get_layer(name).trainable = False
    before = [array.copy() for array in model.get_weights()]
    learn(model, feed(40, options), None, options, say=quietly)
    assert [each.path.split("/")[-2] for each in changing_weights(model)] == ["logits", "logits"]
    same = [np.array_equal(old, new) for old, new in zip(before, model.get_weights(), strict=True)]
    assert same == [True] * 6 + [False] * 2


def test_a_block_that_is_thawed_in_part_changes_in_part():
    """In a frozen block, a BatchNorm that is trained again has moving statistics that change."""
    import keras

    inner = small_net()
    inner.trainable = False
    inner.get_layer("normalised").trainable = True
    inputs = keras.Input(SHAPE)
    model = keras.Model(inputs, inner(inputs))
    names = [each.path.split("/")[-1] for each in changing_weights(model)]
    assert names == ["gamma", "beta", "moving_mean", "moving_variance"]


def test_shorter_batches_are_no_new_graphs():
    """However long a batch is, training and judging are traced once each."""
    import keras

    traced = []

    class Counting(keras.layers.Layer):
        def call(self, inputs, training=False):
            traced.append(training)
            return inputs

    model = keras.Sequential([keras.Input(SHAPE), Counting(), keras.layers.Flatten(),
                              keras.layers.Dense(2)])  # fmt: skip
    traced.clear()
    options = LearningOptions(epochs=3, batch_size=32)
    learn(model, feed(49, options), feed(33, options, 1), options, say=quietly)
    assert sorted(traced) == [False, True]


def test_float16_is_computed_with_a_scaled_loss():
    """A mixed-precision model learns; its loss is scaled, so that small gradients do not vanish."""
    import keras

    from featcache.training.steps import Steps

    policy = keras.DTypePolicy("mixed_float16")
    model = keras.Sequential([
        keras.Input(SHAPE),
        keras.layers.Flatten(dtype=policy),
        keras.layers.Dense(8, activation="relu", dtype=policy),
        keras.layers.Dense(2, dtype="float32"),
    ])  # fmt: skip
    options = LearningOptions("adam", 1e-2, epochs=8, batch_size=16)
    assert type(Steps.of(model, options).optimizer).__name__ == "LossScaleOptimizer"
    assert type(Steps.of(small_net(), options).optimizer).__name__ == "Adam"
    learned = learn(model, feed(80, options), None, options, say=quietly)
    assert learned.history["loss"][-1] < 0.5 * learned.history["loss"][0]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"epochs": 0}, "--epochs 0"),
        ({"learning_rate": 0.0}, "--learning-rate"),
        ({"optimizer": "adamw"}, "--optimizer 'adamw'"),
        ({"batch_size": 1.5}, "--batch-size 1.5"),
        ({"stop_at": 2.0}, "--stop-at"),
        ({"seed": -1}, "--seed -1"),
    ],
)
def test_options_are_checked(given, words):
    """A wrong option is named before anything is trained."""
    with pytest.raises(FeatcacheError, match=words):
        LearningOptions(**given)


def test_a_compiled_step_learns_the_same():
    """With XLA the losses and weights are those without it, to rounding."""
    options = LearningOptions("adam", 5e-3, epochs=2, batch_size=16)
    found = []
    for compiled in (False, True):
        model = small_net(noise=False)
        learned = learn(
            model, feed(40, options), None, options, compiled=compiled, say=lambda line: None
        )
        found.append((learned.history["loss"], model.get_weights()))
    assert np.allclose(found[0][0], found[1][0], atol=1e-5)
    for mine, theirs in zip(found[0][1], found[1][1], strict=True):
        assert np.abs(mine - theirs).max() < 1e-4
