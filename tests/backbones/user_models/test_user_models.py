"""Users' own models: opened with trust alone, tapped by name, equal to themselves, or refused."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import tensorflow as tf

from featcache.backbones.network import with_scaling
from featcache.backbones.user_models.keras_archive import check_archive
from featcache.backbones.user_models.user_model import SCALES, UserModel
from featcache.backbones.user_models.user_network import (
    digest_user_model,
    is_user_model,
    open_user_model,
)
from featcache.errors import FeatcacheError
from featcache.runtimes.openvino_import import import_openvino
from tests.backbones.networks import error_norm, photographs
from tests.backbones.user_models import made_models as made

keras, layers = made.keras, made.layers

#: Keras's own `save` gives numpy variables without the copy keyword.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

SIZE = (32, 32)


def own_rows(path: Path, pixels: np.ndarray) -> np.ndarray:
    """What the model gives when its author's framework alone calls it."""
    if path.is_file():
        return np.asarray(keras.saving.load_model(path)(pixels, training=False))
    tags = None if not (path / "tf1").exists() else []
    root = tf.saved_model.load(str(path), tags=tags)
    if not root.signatures:
        return root(tf.constant(pixels), training=False).numpy()
    signature = next(iter(root.signatures.values()))
    (name,) = signature.structured_input_signature[1]
    rows = signature(**{name: tf.constant(pixels)})
    return rows.get("default", next(iter(rows.values()))).numpy()


def tapped(opened: UserModel, layer: str = "") -> keras.Model:
    """The model from scaled pixels to one of its taps."""
    return keras.Model(opened.network.input, opened.tap(layer)[1])


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One model of every kind, by kind."""
    folder = tmp_path_factory.mktemp("models")
    tf1 = made.save_tf1_module(folder / "tf1_module")
    (tf1 / "tf1").touch()
    byte_spec = tf.TensorSpec((None, 32, 32, 3), tf.uint8)
    return {
        "keras": made.save(made.functional(), folder / "fixed.keras"),
        "keras of any size": made.save(made.functional(None), folder / "free.keras"),
        "keras sequential": made.save(made.sequential(), folder / "sequential.keras"),
        "keras nested": made.save(made.transfer(), folder / "transfer.keras"),
        "keras export": made.export(made.functional(), folder / "export"),
        "hub": made.save_hub(folder / "hub"),
        "hub without signature": made.save_hub(folder / "call", 32, signature=False),
        "hub of TF1": tf1,
        "bytes": made.save_function(
            folder / "bytes",
            lambda x: {"rows": tf.reduce_mean(tf.cast(x, tf.float32) ** 2, [1, 2])},
            byte_spec,
        ),
    }


KINDS = [
    "keras",
    "keras of any size",
    "keras sequential",
    "keras nested",
    "keras export",
    "hub",
    "hub without signature",
    "hub of TF1",
    "bytes",
]


@pytest.mark.filterwarnings("ignore:.*The structure of `inputs`:UserWarning")  # by OpenVINO
@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_those_of_the_model_itself(models, kind):
    """On both runtimes a user's model gives what it gives its author, to 1e-5, on photographs."""
    openvino = import_openvino()
    scale = "none" if kind in ("bytes", "keras nested") else "-1..1"
    opened = open_user_model(models[kind], trusted=True, size=SIZE, scale=scale)
    pixels = photographs(SIZE, 5).astype(np.float32)
    given = pixels if scale == "none" else pixels / np.float32(127.5) - np.float32(1)
    wanted = own_rows(models[kind], given.astype("uint8") if kind == "bytes" else given)
    network = with_scaling(tapped(opened), opened.scaling, opened.size)
    graph = tf.function(network, autograph=False, jit_compile=False)
    assert error_norm(graph(pixels, training=False).numpy(), wanted) <= 1e-5
    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.compile_model(openvino.convert_model(network), "CPU", settings)
    assert error_norm(compiled(pixels)[0], wanted) <= 1e-5
    wrong = own_rows(models[kind], (255 - pixels).astype("uint8" if kind == "bytes" else "f"))
    assert error_norm(wrong, wanted) > 1e-3


def test_every_layer_of_a_keras_file_is_a_tap(models):
    """Layers have the names of the file; a cut at one gives that layer's own output."""
    opened = open_user_model(models["keras"], trusted=True, scale="0..1")
    assert opened.outputs == ("conv", "bn", "relu", "pool")
    assert opened.feature == "pool"
    assert opened.taps
    whole = keras.saving.load_model(models["keras"])
    pixels = photographs(SIZE, 2).astype(np.float32)
    wanted = keras.Model(whole.input, whole.get_layer("relu").output)(pixels)
    assert error_norm(np.asarray(tapped(opened, "relu")(pixels)), np.asarray(wanted)) <= 1e-6
    assert opened.tap("-2")[0] == "relu"
    with pytest.raises(FeatcacheError, match=r"--layer 'relu7' is not a layer.*nearest are relu"):
        opened.tap("relu7")


def test_a_nested_base_is_a_tap(models):
    """The base inside a tutorial's model can be tapped in the outer graph, behind its scaling."""
    opened = open_user_model(models["keras nested"], trusted=True, scale="none")
    whole = keras.saving.load_model(models["keras nested"])
    pixels = photographs(SIZE, 2).astype(np.float32)
    wanted = whole.get_layer("base")(pixels / np.float32(127.5) - np.float32(1))
    assert (
        error_norm(np.asarray(tapped(opened, "base")(pixels, training=False)), np.asarray(wanted))
        <= 1e-5
    )


def test_a_layer_that_is_called_twice_is_no_tap(tmp_path):
    """Its name would mean two outputs; the model's own output is there all the same."""
    x = made.image()
    shared = layers.Dense(8, name="shared")
    model = keras.Model(x, shared(shared(made.features(x))))
    opened = open_user_model(made.save(model, tmp_path / "m.keras"), trusted=True, scale="0..1")
    assert opened.outputs == ("conv", "bn", "relu", "pool", "output")
    pixels = np.ones((2, *SIZE, 3), np.float32)
    wanted = np.asarray(model(pixels, training=False))
    assert error_norm(np.asarray(tapped(opened)(pixels, training=False)), wanted) <= 1e-6


def test_outputs_of_a_saved_model_are_taps(models):
    """TF-Hub's "default" is the feature; other outputs are tapped by name, slashes and all."""
    opened = open_user_model(models["hub"], trusted=True, size=(48, 40), scale="0..1")
    assert opened.outputs == ("default", "hub/layer_1")
    assert opened.feature == "default"
    assert not opened.taps
    assert opened.tap("hub/layer_1")[1].shape == (None, 24, 20, 8)
    pixels = np.ones((3, 48, 40, 3), np.float32)
    assert tapped(opened, "hub/layer_1")(pixels).shape == (3, 24, 20, 8)


def test_outputs_that_are_not_clear_are_asked_for(tmp_path):
    """Several outputs of unknown names: opened, but no feature without a name."""

    def call(x):
        mean = tf.reduce_mean(x, [1, 2])
        return {"first": mean, "second": 2 * mean, "count": tf.shape(x)[0]}

    path = made.save_function(tmp_path / "m", call, tf.TensorSpec((None, 32, 32, 3), tf.float32))
    opened = open_user_model(path, trusted=True, scale="none")
    assert opened.feature == ""
    with pytest.raises(FeatcacheError, match=r"choose one by --layer: first, second$"):
        opened.tap("")
    assert opened.tap("second")[0] == "second"


@pytest.mark.parametrize("kind", ["keras", "keras export", "hub", "hub without signature"])
def test_its_weights_can_be_trained(models, kind):
    """A gradient step through the opened model moves its rows; Keras's own can be fine-tuned."""
    opened = open_user_model(models[kind], trusted=True, size=SIZE, scale="0..1")
    assert opened.finetune == (kind == "keras")
    pixels = photographs(SIZE, 3).astype(np.float32) / np.float32(255)
    model = tapped(opened)
    before = model(pixels).numpy()
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model(pixels, training=False) ** 2)
    values = [variable.value for variable in model.trainable_variables]
    gradients = tape.gradient(loss, values)
    assert values
    assert all(gradient is not None for gradient in gradients)
    for variable, gradient in zip(model.trainable_variables, gradients, strict=True):
        variable.assign_sub(1e-3 * gradient)
    assert error_norm(model(pixels).numpy(), before) > 1e-3


def test_a_frozen_function_cannot_be_trained(models):
    """A SavedModel of constants has nothing that could learn."""
    assert not tapped(open_user_model(models["bytes"], trusted=True)).trainable_weights


def test_nothing_is_read_without_trust(models, tmp_path):
    """Without trust neither TensorFlow nor Keras is imported, whatever the file holds."""
    (tmp_path / "evil.keras").write_bytes(b"not even a model")
    paths = [str(tmp_path / "evil.keras"), str(models["keras"]), str(models["hub"])]
    code = f"""
import sys
from pathlib import Path
from featcache.backbones.user_models.user_network import digest_user_model
from featcache.backbones.user_models.user_network import is_user_model
from featcache.backbones.user_models.user_network import open_user_model
from featcache.errors import FeatcacheError
for path in map(Path, {paths!r}):
    assert is_user_model(str(path)) and len(digest_user_model(path)) == 64
    try:
        open_user_model(path, trusted=False, size=None, scale="0..1")
    except FeatcacheError as error:
        assert "it is a program" in str(error) and "--trust-model" in str(error)
    else:
        raise AssertionError(path)
assert not {{"tensorflow", "keras"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_the_digest_is_of_what_is_computed(models, tmp_path):
    """Any byte of graph, variables or assets changes it; place and fingerprint do not."""
    assert digest_user_model(models["keras"]) == (
        hashlib.sha256(models["keras"].read_bytes()).hexdigest()
    )
    copy = tmp_path / "elsewhere"
    shutil.copytree(models["hub"], copy)
    before = digest_user_model(models["hub"])
    (copy / "fingerprint.pb").write_bytes(b"other")
    (copy / "README.md").write_text("about")
    assert digest_user_model(copy) == before
    (copy / "assets").mkdir(exist_ok=True)
    (copy / "assets" / "words.txt").write_text("a")
    with_asset = digest_user_model(copy)
    assert with_asset != before
    (copy / "assets" / "words.txt").rename(copy / "assets" / "word.txt")
    assert digest_user_model(copy) not in (before, with_asset)
    index = copy / "variables" / "variables.index"
    index.write_bytes(index.read_bytes()[::-1])
    assert open_digest(models["hub"]) == before


def open_digest(path: Path) -> str:
    return open_user_model(path, trusted=True, size=SIZE, scale="0..1").digest


def test_paths_tell_models_from_names(models, tmp_path):
    """A network's name, a weights file or an empty folder is not taken for a model."""
    assert is_user_model(str(models["keras"]))
    assert is_user_model(str(models["hub"]))
    for name in ("vgg16", str(tmp_path), str(tmp_path / "gone.keras"), __file__):
        assert not is_user_model(name)


@pytest.mark.parametrize(
    ("scale", "module"),
    [("-1..1", "mobilenet_v2"), ("tf", "xception"), ("caffe", "resnet"), ("torch", "densenet")],
)
def test_scales_are_those_of_keras(scale, module):
    """A named scale is the ``preprocess_input`` of the families that are known for it."""
    x = photographs(SIZE, 2).astype(np.float32)
    identity = keras.Sequential([made.image(), layers.Identity()])
    mine = np.asarray(with_scaling(identity, SCALES[scale], SIZE)(x))
    theirs = getattr(keras.applications, module).preprocess_input(x.copy())
    np.testing.assert_allclose(mine, theirs, rtol=0, atol=2e-5)


def test_a_scale_that_cannot_be_known_is_asked_for(models):
    """The error lists the choices and where to look; a misspelt one is refused."""
    with pytest.raises(FeatcacheError, match=r"(?s)give --scale.*0\.\.1.*caffe.*model's page"):
        open_user_model(models["keras"], trusted=True)
    with pytest.raises(FeatcacheError, match=r"--scale '0-1' is not one of 0\.\.1, -1\.\.1"):
        open_user_model(models["keras"], trusted=True, scale="0-1")


def scaled_by(first) -> keras.Model:
    x = made.image()
    return keras.Model(x, made.features(first(x)))


KNOWN = {
    "Rescaling": layers.Rescaling(1 / 255),
    "to -1..1": layers.Rescaling(1 / 127.5, offset=-1),
    "Normalization": layers.Normalization(mean=[120.0, 115.0, 100.0], variance=[4e3, 4e3, 4e3]),
    "behind augmentation": lambda x: layers.Rescaling(1 / 255)(layers.RandomRotation(0.2)(x)),
    "in a nested model": keras.Sequential([layers.RandomFlip(), layers.Rescaling(1 / 255)]),
}
UNKNOWN = {
    "nothing": layers.Identity(),
    "Rescaling of 0..1": layers.Rescaling(2.0, offset=-1),
    "Normalization of 0..1": layers.Normalization(mean=[0.4, 0.4, 0.4], variance=[0.1, 0.1, 0.1]),
    "arithmetic": lambda x: x / 255.0,
    "torch in the graph": keras.applications.densenet.preprocess_input,
    "caffe in the graph": keras.applications.resnet.preprocess_input,
    "a branch beside it": lambda x: layers.Rescaling(1 / 255)(x) + x,
    "a convolution before it": lambda x: layers.Rescaling(1 / 255)(layers.Conv2D(3, 1)(x)),
}


@pytest.mark.parametrize("first", KNOWN)
def test_a_model_that_scales_itself_is_known(tmp_path, first):
    """Its own Rescaling or Normalization means "none", and that is said."""
    path = made.save(scaled_by(KNOWN[first]), tmp_path / "m.keras")
    opened = open_user_model(path, trusted=True)
    assert opened.scaling == SCALES["none"]
    assert "scales pixels 0..255 itself" in opened.remarks[0]
    other = open_user_model(path, trusted=True, scale="0..1")
    assert other.scaling == SCALES["0..1"]
    assert "--scale 0..1 is applied, although" in other.remarks[0]


@pytest.mark.parametrize("first", UNKNOWN)
def test_a_scaling_of_other_pixels_is_not_taken_for_it(tmp_path, first):
    """A layer that expects 0..1, or stands elsewhere, does not tell; nor does arithmetic."""
    path = made.save(scaled_by(UNKNOWN[first]), tmp_path / "m.keras")
    with pytest.raises(FeatcacheError, match="give --scale"):
        open_user_model(path, trusted=True)


@pytest.mark.parametrize("kind", ["keras", "hub"])
def test_sizes(models, kind):
    """A fixed size is found and kept to; a free one is asked for, and then any will do."""
    path = models[kind]
    if kind == "keras":
        assert open_user_model(path, trusted=True, scale="tf").size == SIZE
        with pytest.raises(FeatcacheError, match=r"--size 48x40: .* takes only 32x32"):
            open_user_model(path, trusted=True, size=(48, 40), scale="tf")
        path = models["keras of any size"]
    with pytest.raises(FeatcacheError, match="takes images of any size: say which by --size"):
        open_user_model(path, trusted=True, scale="tf")
    opened = open_user_model(path, trusted=True, size=(48, 40), scale="tf")
    assert opened.size == (48, 40)
    assert tapped(opened).output_shape == (None, 8)


def refused(path: Path, match: str) -> None:
    with pytest.raises(FeatcacheError, match=match):
        open_user_model(path, trusted=True, size=SIZE, scale="0..1")


@keras.saving.register_keras_serializable(package="lab")
class Doubled(layers.Layer):
    """A custom layer that can be taken off the register, as in a fresh session."""

    def call(self, x):
        return 2 * x


def test_a_custom_layer_is_named_unless_it_is_registered(tmp_path, monkeypatch):
    """A class that nobody registered here is named, with the ways out."""
    path = made.save(scaled_by(Doubled(name="twice")), tmp_path / "m.keras")
    assert open_user_model(path, trusted=True, scale="0..1").outputs[0] == "twice"
    monkeypatch.delitem(keras.saving.get_custom_objects(), "lab>Doubled", raising=False)
    from keras.src.saving.object_registration import GLOBAL_CUSTOM_OBJECTS

    monkeypatch.delitem(GLOBAL_CUSTOM_OBJECTS, "lab>Doubled", raising=False)
    refused(path, r"layer 'twice' is of the class lab>Doubled.*register.*SavedModel")


def two_inputs() -> keras.Model:
    first, second = made.image(), made.image()
    return keras.Model([first, second], made.features(first + second))


def of_input(**options) -> keras.Model:
    x = keras.Input(**options)
    return keras.Model(x, layers.GlobalAveragePooling2D()(layers.Conv2D(4, 1)(x)))


def in_half() -> keras.Model:
    x = made.image()
    return keras.Model(x, layers.Flatten()(layers.Conv2D(4, 3, dtype="mixed_float16")(x)))


def two_outputs() -> keras.Model:
    x = made.image()
    y = made.features(x)
    return keras.Model(x, [layers.Dense(3, name="a")(y), layers.Dense(4, name="b")(y)])


BAD_KERAS = {
    "two inputs": (two_inputs, r"has 2 inputs"),
    "grey": (lambda: of_input(shape=(32, 32, 1)), "grey images of one channel"),
    "channels first": (lambda: of_input(shape=(3, 32, 32)), "expected are 3 channels"),
    "vectors": (lambda: keras.Sequential([keras.Input((9,)), layers.Dense(2)]), "expected is"),
    "one batch": (lambda: of_input(batch_shape=(1, 32, 32, 3)), "its batch is fixed to 1"),
    "half precision": (in_half, "computes in float16"),
    "a Lambda": (
        lambda: scaled_by(layers.Lambda(lambda x: x / 2, name="halve")),
        "layer 'halve' is a Lambda.*SavedModel",
    ),
}


@pytest.mark.parametrize("name", BAD_KERAS)
def test_keras_files_that_are_no_backbones(tmp_path, name):
    """A model that does not go from RGB images to features is refused for its reason."""
    make, match = BAD_KERAS[name]
    refused(made.save(make(), tmp_path / "m.keras"), match)


def test_a_keras_file_with_two_outputs_is_tapped_by_name(tmp_path):
    """Neither output is taken silently; each has its name."""
    path = made.save(two_outputs(), tmp_path / "m.keras")
    opened = open_user_model(path, trusted=True, scale="0..1")
    with pytest.raises(FeatcacheError, match="several outputs"):
        opened.tap("")
    assert tapped(opened, "b").output_shape == (None, 4)


def repack(source: Path, target: Path, **members: bytes | None) -> Path:
    """The archive with members replaced, added or (None) left out."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        contents = {name: old.read(name) for name in old.namelist()}
        contents.update({name.replace("__", "."): value for name, value in members.items()})
        for name, value in contents.items():
            if value is not None:
                new.writestr(name, value, zipfile.ZIP_DEFLATED)
    return target


def test_damaged_keras_files(models, tmp_path):
    """Cut off, not an archive, without its parts or with more than its parts: refused."""
    whole = models["keras"].read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"text", whole.replace(b"PK\x01\x02", b"PKxx")):
        path = tmp_path / "m.keras"
        path.write_bytes(content)
        refused(path, "is not a whole .keras file")
    refused(repack(models["keras"], path, model__weights__h5=None), "not a whole .keras file")
    refused(repack(models["keras"], path, evil__py=b"import os"), "it holds config.json")
    refused(repack(models["keras"], path, config__json=b"{"), "not a whole .keras file")
    refused(repack(models["keras"], path, config__json=b"[" * 99999), "not a whole .keras file")
    refused(repack(models["keras"], path, config__json=b"{}"), "Keras cannot load")


def test_no_damage_to_a_keras_file_escapes_the_check(models, tmp_path):
    """Of 300 files with bytes overwritten or cut off, each is whole or refused, none crashes."""
    whole, path = models["keras"].read_bytes(), tmp_path / "m.keras"
    generator = np.random.default_rng(0)
    refusals = 0
    for _ in range(300):
        content = bytearray(whole[: generator.integers(len(whole) // 2, 2 * len(whole))])
        for place in generator.integers(0, len(content), generator.integers(1, 4)):
            content[place] = generator.integers(256)
        # The archive's directory stands at its end.
        for place in generator.integers(len(content) - 200, len(content), 2):
            content[place] = generator.integers(256)
        path.write_bytes(content)
        try:
            check_archive(path)
        except FeatcacheError:
            refusals += 1
    assert refusals > 200


def weights_of(path: Path, tmp_path: Path) -> Path:
    with zipfile.ZipFile(path) as archive:
        archive.extract("model.weights.h5", tmp_path)
    return tmp_path / "model.weights.h5"


def test_weights_that_reach_out_or_grow(models, tmp_path):
    """A weights member with a link, gigabytes of nothing, or a layer less is not loaded."""
    path = tmp_path / "m.keras"
    weights = weights_of(models["keras"], tmp_path)
    with h5py.File(weights, "a") as file:
        file["layers/conv2d/vars/2"] = h5py.ExternalLink("/etc/passwd", "/")
    changed = repack(models["keras"], path, model__weights__h5=weights.read_bytes())
    refused(changed, "is a link to elsewhere")
    weights = weights_of(models["keras"], tmp_path)
    with h5py.File(weights, "a") as file:
        file.create_dataset("layers/conv2d/vars/2", (1 << 29,), "f4", chunks=(1 << 20,))
    refused(repack(models["keras"], path, model__weights__h5=weights.read_bytes()), "it declares")
    weights = weights_of(models["keras"], tmp_path)
    with h5py.File(weights, "a") as file:
        del file["layers/batch_normalization"]
    refused(
        repack(models["keras"], path, model__weights__h5=weights.read_bytes()), "Keras cannot load"
    )
    bomb = repack(models["keras"], path, metadata__json=b" " * 80_000_000)
    refused(bomb, "it would unpack to 80")


def test_a_lambda_in_disguise_is_refused(models, tmp_path):
    """A class name patched into the configuration is looked at wherever it stands."""
    with zipfile.ZipFile(models["keras nested"]) as archive:
        config = json.loads(archive.read("config.json"))
    config["config"]["layers"][3]["config"]["hook"] = {"class_name": "__lambda__", "config": {}}
    path = tmp_path / "m.keras"
    repack(models["keras nested"], path, config__json=json.dumps(config).encode())
    refused(path, "is a lambda, whose code would run unseen")


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("keras.applications.imagenet_utils", "decode_predictions"),  # downloads class names
        ("keras.applications.vgg16", "VGG16"),  # downloads weights
        ("keras.datasets.mnist", "load_data"),
        ("keras.utils", "plot_model"),  # writes
        ("keras.saving", "load_model"),
        ("os", "system"),
    ],
)
def test_functions_that_reach_out_are_refused(models, tmp_path, module, name):
    """An activation may be a function of networks, not one of Keras's others, nor registered so."""
    function = {"class_name": "function", "module": module, "config": name}
    for registered in (name, "lab>Doubled"):
        path = with_activation(models, tmp_path, {**function, "registered_name": registered})
        refused(path, f"a layer uses the function '{name}' of '{module}'")


def test_functions_of_networks_are_loaded(models, tmp_path):
    """Activations of Keras by their names, its operations, and its families' preparation."""
    for module, name in (
        ("builtins", "gelu"),
        ("keras.ops", "relu6"),
        ("keras.applications.densenet", "preprocess_input"),
    ):
        function = {"class_name": "function", "module": module, "config": name}
        path = with_activation(models, tmp_path, {**function, "registered_name": name})
        open_user_model(path, trusted=True, scale="0..1")


@pytest.mark.parametrize("registered", [None, "lab>Doubled", "Trainer"])
def test_no_other_part_of_keras_is_imported(models, tmp_path, registered):
    """Keras's own backend for OpenVINO would import that past our door, telemetry and all."""
    name = "lab>Doubled" if registered is None else "Trainer"
    kind = {"class_name": name, "module": "keras.src.backend.openvino.trainer", "config": {}}
    if registered == "lab>Doubled":
        kind["module"] = "keras.src.layers.core.dense_test"
        registered = "gone>Doubled"
    path = with_activation(models, tmp_path, {**kind, "registered_name": registered})
    refused(path, "is of the class .* which is not one that Keras knows here")
    assert kind["module"] not in sys.modules


def with_activation(models, tmp_path, activation: dict) -> Path:
    with zipfile.ZipFile(models["keras"]) as archive:
        config = json.loads(archive.read("config.json"))
    layer = next(each for each in config["config"]["layers"] if each["class_name"] == "Conv2D")
    layer["config"]["activation"] = activation
    path = tmp_path / "m.keras"
    return repack(models["keras"], path, config__json=json.dumps(config).encode())


@pytest.mark.parametrize("name", ["co\nnv", "co\x1bnv", "Schicht ä", "a:b", "a\\b"])
def test_layer_names_that_tensorflow_cannot_run_are_named(tmp_path, name):
    """Keras saves a layer of any name; one that no graph can have is refused, a nested one too."""
    x = made.image()
    base = keras.Model(x, layers.Conv2D(4, 3, name=name)(x), name="base")
    path = made.save(keras.Model(x, layers.Flatten()(base(x))), tmp_path / "m.keras")
    refused(path, f"cannot run a layer of the name {re.escape(repr(name))}")


def image_spec(*shape: int | None, dtype: tf.DType = tf.float32) -> tf.TensorSpec:
    return tf.TensorSpec(shape, dtype)


RGB = image_spec(None, 32, 32, 3)


def mean(x):
    return {"y": tf.reduce_mean(x, [1, 2])}


BAD_FUNCTIONS = {
    "several inputs": (lambda x, y: mean(x + y), [RGB, RGB], "it takes 2 inputs"),
    "one batch": (mean, [image_spec(1, 32, 32, 3)], "its batch is fixed to 1"),
    "grey": (mean, [image_spec(None, 32, 32, 1)], "grey images of one channel"),
    "encoded images": (
        lambda x: {"y": tf.strings.length(x)},
        [image_spec(None, dtype=tf.string)],
        "its input is of type string",
    ),
    "one image": (lambda x: {"y": x}, [image_spec(32, 32, 3)], "expected is .batch"),
    "integers": (lambda x: {"y": tf.argmax(x, 3)}, [RGB], "it is of type int64, not float32"),
    "one number": (
        lambda x: {"y": tf.reduce_mean(x)},
        [RGB],
        r"one image gives \(\), two give \(\): not a row for each image",
    ),
    "columns of the batch": (
        lambda x: {"y": tf.matmul(mean(x)["y"], mean(x)["y"], transpose_b=True)},
        [RGB],
        "the shape of its rows depends on the batch",
    ),
    "statistics of the batch": (
        lambda x: {"y": mean(x)["y"] - tf.reduce_mean(x)},
        [RGB],
        "a row depends on the other images",
    ),
    "a wrong size": (
        lambda x: {"y": tf.reshape(x, (-1, 7))},
        [image_spec(None, None, None, 3)],
        "fails on images of 32x32",
    ),
    "a file": (
        lambda x: {"y": mean(x)["y"] + tf.strings.to_number(tf.io.read_file("/etc/passwd"))},
        [RGB],
        "operations that reach out of it: 'ReadFile'",
    ),
}


@pytest.mark.parametrize("name", BAD_FUNCTIONS)
def test_saved_models_that_are_no_backbones(tmp_path, name):
    """A function that does not give a row for each image is refused for its reason."""
    call, specs, match = BAD_FUNCTIONS[name]
    refused(made.save_function(tmp_path / "m", call, *specs), match)


def test_a_saved_model_without_functions(tmp_path):
    """Nothing to call: the error says what to export."""
    tf.saved_model.save(tf.Module(), str(tmp_path / "m"))
    refused(tmp_path / "m", r"(?s)has no signature.*it has none.*\(None, height, width, 3\)")


def test_damaged_saved_models(models, tmp_path):
    """A graph or variables that are cut off or gone; a folder too high; an archive: refused."""
    path = tmp_path / "m"
    for damage, match in (
        ("saved_model.pb", "is damaged|cannot load"),
        ("variables/variables.index", "cannot load"),
        ("variables/variables.data-00000-of-00001", "cannot load"),
    ):
        shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(models["hub"], path)
        content = (path / damage).read_bytes()
        (path / damage).write_bytes(content[: len(content) // 2])
        refused(path, match)
    (path / "saved_model.pb").write_bytes(b"")
    refused(path, "holds no graph")
    parent = tmp_path / "kaggle"
    shutil.copytree(models["hub"], parent / "2")
    refused(parent, r"it has no saved_model.pb: did you mean .*kaggle/2\?")
    (tmp_path / "model.tar.gz").write_bytes(b"")
    refused(tmp_path / "model.tar.gz", "unpack archives first")
    refused(tmp_path / "gone.keras", "no such file")
