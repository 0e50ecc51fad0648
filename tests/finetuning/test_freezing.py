"""What is frozen, where a network can be cut, and that both stay so while it is trained."""

from __future__ import annotations

import numpy as np
import pytest

from featcache.backbones.keras_import import import_keras
from featcache.errors import FeatcacheError
from featcache.finetuning.freezing import freeze, list_cuts, remarks_on
from featcache.training.state import inference_mode
from tests.finetuning.tuning_samples import save_network

#: Keras's own saving warns of what we cannot change.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture
def network(tmp_path):
    return import_keras().saving.load_model(save_network(tmp_path / "own.keras"))


@pytest.mark.parametrize(
    ("asked", "first"), [("last", "last"), ("-3", "last"), ("4", "joined"), ("all", "image")]
)
def test_learning_begins_at_a_layer(network, asked, first):
    """A name, a number from either end, or all: what stands before is frozen, the rest learns."""
    found = freeze(network, asked)
    assert found.first == first
    names = [layer.name for layer in network.layers]
    for place, layer in enumerate(network.layers):
        assert layer.trainable == (place >= names.index(first))
    assert found.is_everything == (asked == "all")


def test_the_usual_place_is_behind_a_cut(network):
    """Without a wish, about the top quarter of the layers with kernels learns, from a cut on."""
    found = freeze(network, None)
    assert found.first == "last"
    assert found.learning == ("last", "last_bn")
    assert found.total == 5


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ("lst", "nearest are last, "),
        ("xyz", "the last are first_bn, branch, joined, last, last_bn; aliases here are stride2,"),
        ("99", "has 8 layers, 0 to 7, or from the end -1 to -8"),
        ("-99", "has 8 layers, 0 to 7, or from the end -1 to -8"),
        ("pool", "no layer from 'pool' on has weights; the last that has is 'last_bn'"),
    ],
)
def test_a_layer_that_is_not_there(network, asked, words):
    """A wrong layer is answered with the option's name and what there is."""
    with pytest.raises(FeatcacheError, match=words) as caught:
        freeze(network, asked)
    assert "--unfreeze-from" in str(caught.value)


def test_only_aliases_that_could_learn_are_offered():
    """Of a network with nothing but an activation behind stride16, stride16 itself is left out."""
    keras = import_keras()
    layers = keras.layers
    pixels = keras.Input((64, 64, 3))
    x = layers.Conv2D(4, 3, strides=8, padding="same", name="eighth")(pixels)
    x = layers.ReLU(name="sixteenth")(layers.MaxPooling2D()(x))
    base = keras.Model(pixels, layers.GlobalAveragePooling2D()(x))
    with pytest.raises(FeatcacheError, match="aliases here are stride8;"):
        freeze(base, "nosuch")
    with pytest.raises(FeatcacheError, match="no layer from 'sixteenth' on has weights"):
        freeze(base, "stride16")


def test_a_network_that_was_saved_frozen_learns(network):
    """Layers that a transfer-learning script froze before it saved are no hindrance."""
    network.trainable = False
    assert freeze(network, None).learning == ("last", "last_bn")
    assert len(network.trainable_weights) == 4


def test_a_high_rate_is_remarked(network):
    """Everything unfrozen at a high rate is a remark with its reason; a usual rate is none."""
    found = freeze(network, "all")
    assert "every layer learns at a rate of 0.01" in remarks_on(found, 1e-2)[0]
    assert remarks_on(found, 1e-5) == []


def test_cuts_are_single_tensors(network):
    """Inside a branch there is no cut; shares and what lies above grow and fall along the way."""
    cuts = {cut.layer: cut for cut in list_cuts(network)}
    assert list(cuts) == ["first", "first_bn", "joined", "last", "last_bn", "pool"]
    assert cuts["joined"].shape == (8, 8, 6)
    assert cuts["joined"].above == 1
    first = 8 * 8 * 3 * 3 * 3 * 6
    branch, last = 8 * 8 * 3 * 3 * 6 * 6, 4 * 4 * 3 * 3 * 6 * 8
    assert cuts["first"].saved == pytest.approx(first / (first + branch + last))
    assert [cut.layer for cut in list_cuts(network, below=["branch"])] == ["first", "first_bn"]


def test_batch_norm_stays_in_inference_mode(network):
    """Called for training, a wrapped network gives what it gives in inference, and learns nothing
    of the batch; the same network as Keras nests it does not (keras-team/keras#20285).
    """
    keras = import_keras()
    random = np.random.default_rng(0)
    pixels = random.uniform(0, 1, (8, 16, 16, 3)).astype(np.float32)
    inputs = keras.Input((16, 16, 3))
    wrapped = keras.Model(inputs, inference_mode(network)(inputs))
    nested = keras.Model(inputs, network(inputs, training=False))
    expected = np.asarray(network(pixels, training=False))
    statistics = network.get_layer("last_bn").moving_mean.numpy()
    assert np.abs(np.asarray(wrapped(pixels, training=True)) - expected).max() == 0
    assert np.array_equal(network.get_layer("last_bn").moving_mean.numpy(), statistics)
    assert np.abs(np.asarray(nested(pixels, training=True)) - expected).max() > 0.1
    assert len(wrapped.trainable_weights) == len(network.trainable_weights)
