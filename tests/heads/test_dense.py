"""The dense head: trained as Keras trains, used without it."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from featcache.errors import FeatcacheError
from featcache.heads import dense_training
from featcache.heads.dense import ACTIVATIONS, DenseHead, DenseOptions
from featcache.heads.dense_training import fit
from featcache.heads.training_set import TrainingSet
from featcache.training.feeds import Order, in_batches


@pytest.fixture(scope="module")
def training():
    """300 rows of 12 numbers in three classes that overlap a little, and 90 that may stop."""
    random = np.random.default_rng(1)
    codes = random.integers(3, size=390)
    vectors = random.normal(size=(390, 12)) + np.eye(12)[codes] * 2 + 1
    rows = np.arange(390)

    def part(rows, **fields):
        return TrainingSet(vectors[rows].astype(np.float32), codes[rows], 3, None,
                        rows - rows[0], rows - rows[0], **fields)  # fmt: skip

    return part(rows[:300], validation=part(rows[300:]))


def logits_of(head, vectors):
    """What live Keras gives with the head's arrays: probabilities."""
    import keras

    model = dense_training.keras_model(head.layers, head.width, 0)
    for number, (layer, built) in enumerate(zip(head.layers, model.layers[1:], strict=True)):
        arrays = [head.arrays[f"{number}.{name}"] for name in dense_training.ARRAYS[layer["layer"]]]
        if layer["layer"] == "standardize":
            arrays[1] = arrays[1] ** 2
        if arrays:
            built.set_weights(arrays)
    logits = keras.ops.convert_to_numpy(model(vectors, training=False))
    if logits.shape[1] == 1:
        second = 1 / (1 + np.exp(-logits))
        return np.concatenate([1 - second, second], axis=1)
    return keras.ops.convert_to_numpy(keras.ops.softmax(logits))


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_numpy_gives_what_keras_gives(training, activation):
    """Probabilities without TensorFlow equal live Keras's to 1e-5, for every kind of layer."""
    options = DenseOptions(
        hidden=(20, 8), batch_norm=True, dropout=0.3, activation=activation, epochs=2,
        batch_size=32, standardize=True,
    )  # fmt: skip
    head = fit(training, options)
    far = training.vectors * 5
    assert np.abs(head.predict_proba(far) - logits_of(head, far)).max() < 1e-5


@pytest.mark.parametrize(
    "options",
    [
        {"hidden": (8,), "batch_norm": True, "learning_rate": 1e-2},
        {"optimizer": "rmsprop", "label_smoothing": 0.1},
        {"optimizer": "sgd", "learning_rate": 0.1, "hidden": 5, "activation": "tanh"},
    ],
)
def test_an_epoch_is_keras_own(training, options):
    """Fed the same batches, Keras's `fit` arrives at the same losses and the same weights."""
    import keras

    options = DenseOptions(epochs=3, batch_size=32, **options)
    weights = np.random.default_rng(0).uniform(0.5, 2, 300).astype(np.float32)
    weighted = replace(training, weights=weights)
    head = fit(weighted, options)
    model = dense_training.keras_model(head.layers, 12, 0)
    named = {"adam": "Adam", "rmsprop": "RMSprop", "sgd": "SGD"}[options.optimizer]
    model.compile(
        getattr(keras.optimizers, named)(learning_rate=options.learning_rate),
        keras.losses.CategoricalCrossentropy(
            from_logits=True, label_smoothing=options.label_smoothing
        ),
    )
    order = Order.of(training.images, 0)
    for epoch in range(head.settings["best_epoch"]):
        rows = order.epoch(epoch, None)
        done = model.fit(
            training.vectors[rows], np.eye(3)[training.codes[rows]], sample_weight=weights[rows],
            batch_size=32, shuffle=False, verbose=0,
        )  # fmt: skip
        ours = head.settings["history"]["loss"][epoch]
        assert done.history["loss"][0] == pytest.approx(ours, rel=1e-3)
    for ours, theirs in zip(
        head.state().values(), [w for each in model.layers for w in each.get_weights()], strict=True
    ):
        assert np.abs(ours - theirs).max() < 1e-4


def test_a_training_is_a_function_of_its_seed(training):
    """The same seed gives the same bits, another seed others, dropout included."""
    options = DenseOptions(hidden=8, dropout=0.5, epochs=2, batch_size=32)
    one, two, three = (fit(replace(training, seed=seed), options) for seed in (1, 1, 2))
    for name, array in one.state().items():
        assert np.array_equal(array, two.state()[name])
    assert not np.array_equal(one.state()["0.kernel"], three.state()["0.kernel"])


def test_more_than_memory_changes_no_batch(training, monkeypatch):
    """Read piece by piece, the same batches come in the same order: the same bits."""
    options = DenseOptions(hidden=8, epochs=3, batch_size=32, steps_per_epoch=13)
    whole = fit(training, options)
    monkeypatch.setattr(dense_training, "HELD_BYTES", 70 * 12 * 4)
    pieced = fit(training, options)
    for name, array in whole.state().items():
        assert np.array_equal(array, pieced.state()[name])


def test_an_epoch_sees_a_random_view_of_each_image():
    """With three views an image, a pass has each image once, and all views in the long run."""
    images = np.random.default_rng(0).permutation(np.repeat(np.arange(50), 3))
    order = Order.of(images, 7)
    seen = [order.epoch(number, None) for number in range(20)]
    for rows in seen:
        assert sorted(images[rows]) == list(range(50))
    assert len(set(np.concatenate(seen).tolist())) > 140
    assert not np.array_equal(images[seen[0]], images[seen[1]])


def test_steps_per_epoch_go_on_where_the_last_epoch_ended():
    """Epochs of 30 rows cut the passes over 50 images: nothing is left out or repeated early."""
    order = Order.of(np.arange(50), 0)
    stream = np.concatenate([order.epoch(number, 30) for number in range(5)])
    passes = np.concatenate([order.pass_over(number) for number in range(3)])
    assert np.array_equal(stream, passes)
    assert [len(piece) for piece in in_batches(stream, 40)] == [40, 40, 40, 30]


def test_the_best_epoch_is_kept_and_patience_ends(training):
    """A rate that spoils everything stops soon, and the head is that of the best epoch."""
    told = []
    head = fit(
        replace(training, say=told.append),
        DenseOptions(learning_rate=3.0, epochs=50, batch_size=10, patience=3),
    )
    losses = head.settings["history"]["val_loss"]
    assert head.settings["best_epoch"] == int(np.argmin(losses)) + 1
    assert len(losses) == head.settings["best_epoch"] + 3 < 50
    assert any("no better validation loss in 3 epochs" in line for line in told)
    validation = training.validation
    true = head.predict_proba(validation.vectors)[np.arange(90), validation.codes]
    assert -np.log(np.maximum(true, 1e-30)).mean() == pytest.approx(min(losses), rel=1e-3)


def test_it_stops_when_both_accuracies_are_reached(training):
    """--stop-at waits for training and validation accuracy, and says when both are there."""
    told = []
    head = fit(
        replace(training, say=told.append),
        DenseOptions(epochs=100, batch_size=10, stop_at=0.8, learning_rate=0.01),
    )
    history = head.settings["history"]
    both = np.minimum(history["accuracy"], history["val_accuracy"]) >= 0.8
    assert both.tolist() == [False] * (len(both) - 1) + [True]
    assert any("both reach 0.8" in line for line in told)


def test_an_accuracy_of_one_can_be_waited_for(training):
    """--stop-at 1 stops at the first epoch in which every row is right."""
    apart = training.vectors + 50 * np.eye(12, dtype=np.float32)[training.codes]
    easy = replace(training, vectors=apart, validation=None)
    options = DenseOptions(epochs=100, batch_size=10, stop_at=1, learning_rate=0.01)
    accuracy = fit(easy, options).settings["history"]["accuracy"]
    assert accuracy[-1] == 1
    assert len(accuracy) < 100


def test_parameters_and_the_start_are_told(training):
    """Before the first epoch: parameter counts, and the loss and accuracy of the fresh head."""
    told = []
    head = fit(
        replace(training, say=told.append), DenseOptions(hidden=8, batch_norm=True, epochs=1)
    )
    assert head.settings["parameters"] == {"total": 163, "trainable": 147, "frozen": 16}
    assert any("163 (147 trainable, 16 not)" in line for line in told)
    assert any(line.startswith("before the first epoch: validation loss") for line in told)
    assert len(head.settings["history"]["initial_val_accuracy"]) == 1


def test_one_sigmoid_tells_two_classes_apart(training):
    """--binary-sigmoid gives W4's Dense(1), whose probabilities sum to one; not for three."""
    with pytest.raises(FeatcacheError, match="--binary-sigmoid with 3 classes"):
        fit(training, DenseOptions(binary_sigmoid=True))
    two = replace(training, codes=np.minimum(training.codes, 1), classes=2, validation=None)
    head = fit(
        two,
        DenseOptions(
            binary_sigmoid=True, dropout=0.2, epochs=30, batch_size=20, learning_rate=0.01
        ),
    )
    assert head.state()["1.kernel"].shape == (12, 1)
    probabilities = head.predict_proba(two.vectors)
    assert np.abs(probabilities.sum(axis=1) - 1).max() < 1e-6
    assert (probabilities.argmax(axis=1) == two.codes).mean() > 0.8
    assert np.abs(probabilities - logits_of(head, two.vectors)).max() < 1e-5


def test_a_loss_that_is_no_number_is_a_sentence(training):
    """Diverging training stops, and the message says which option to change."""
    huge = replace(training, vectors=training.vectors * np.float32(1e30))
    with pytest.raises(FeatcacheError, match=r"not a number any more.*--learning-rate"):
        fit(huge, DenseOptions(hidden=8, optimizer="sgd", learning_rate=1e6, epochs=3))


def test_float16_vectors_stay_so_in_memory(training):
    """Half-precision vectors train, and give nearly the head of full precision."""
    half = replace(training, vectors=training.vectors.astype(np.float16))
    options = DenseOptions(epochs=3, learning_rate=0.01)
    one, two = fit(half, options), fit(training, options)
    probabilities = one.predict_proba(half.vectors)
    assert np.abs(probabilities - two.predict_proba(training.vectors)).max() < 1e-2


def test_foreign_layers_are_refused(training):
    """A list of layers that we could not have written is refused by name."""
    head = fit(training, DenseOptions(hidden=4, batch_norm=True, epochs=1))
    state, layers = head.state(), head.layers
    crafted = [
        [{"layer": "lambda"}, *layers[1:]],
        [{**layers[0], "activation": "exec"}, *layers[1:]],
        [*layers[:-1], {**layers[-1], "activation": "relu"}],
        [*layers[:-1], {**layers[-1], "units": -3}],
        [layers[0], {**layers[1], "epsilon": -1.0}, layers[2]],
    ]
    for wrong in crafted:
        with pytest.raises(FeatcacheError, match=r"unknown|units|epsilon"):
            DenseHead.from_state(state, {**head.settings, "layers": wrong})
    below = state | {"1.variance": -np.ones(4, np.float32)}
    with pytest.raises(FeatcacheError, match="below 0"):
        DenseHead.from_state(below, head.settings)


def test_using_a_head_imports_no_tensorflow():
    """Loading the table of heads and predicting with a dense one needs numpy alone."""
    code = (
        "import sys, numpy as np\n"
        "from featcache.heads.dense import DenseHead, DenseOptions\n"
        "layers = DenseOptions(hidden=3).layers(2)\n"
        "shapes = {'0.kernel': (4, 3), '0.bias': 3, '1.kernel': (3, 2), '1.bias': 2}\n"
        "state = {name: np.ones(shape, np.float32) for name, shape in shapes.items()}\n"
        "head = DenseHead.from_state(state, {'layers': layers})\n"
        "print(head.predict_proba(np.ones((5, 4))).shape)\n"
        "print({'tensorflow', 'keras'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["(5, 2)", "set()"]
