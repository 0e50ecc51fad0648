"""Models as users have them, made by the tests: what Keras saves and exports, what TF-Hub ships."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from featcache.backbones.keras_import import import_keras

keras = import_keras()
layers = keras.layers


def image(side: int | None = 32, channels: int = 3, **options: Any) -> Any:
    return keras.Input((side, side, channels), **options)


def features(x: Any, *, width: int = 8) -> Any:
    """A small network with everything that a large one has: convolution, normalisation, pooling."""
    x = layers.Conv2D(width, 3, strides=2, name="conv")(x)
    x = layers.ReLU(name="relu")(layers.BatchNormalization(name="bn")(x))
    return layers.GlobalAveragePooling2D(name="pool")(x)


def seeded(model: Any, seed: int = 0) -> Any:
    """The model with weights that mean something: none is 0, none is 1."""
    generator = np.random.default_rng(seed)
    for weight in model.weights:
        if weight.dtype == "float32":
            weight.assign(generator.uniform(0.1, 0.9, weight.shape).astype("float32"))
    return model


def functional(side: int | None = 32) -> Any:
    x = image(side)
    return seeded(keras.Model(x, features(x)))


def sequential() -> Any:
    return seeded(
        keras.Sequential(
            [
                image(32),
                layers.Conv2D(8, 3, name="conv"),
                layers.Flatten(name="flat"),
                layers.Dense(5, activation="softmax", name="top"),
            ]
        )
    )


def transfer() -> Any:
    """As the tutorials do it: augmentation, the scaling as arithmetic, a base, a pooling."""
    x = image(32)
    base = keras.Model(x, layers.Conv2D(8, 3, name="inner")(x), name="base")
    x = image(32)
    y = keras.Sequential([layers.RandomFlip("horizontal")], name="augmentation")(x)
    y = base(y / 127.5 - 1.0, training=False)
    return seeded(keras.Model(x, layers.GlobalAveragePooling2D(name="pool")(y)))


def save(model: Any, path: Path) -> Path:
    model.save(path)
    return path


def export(model: Any, path: Path) -> Path:
    model.export(path, verbose=False)
    return path


class HubModule(tf.Module):
    """TF-Hub's Reusable SavedModel: a call with `training`, its variables, its regularisers."""

    def __init__(self) -> None:
        super().__init__()
        generator = np.random.default_rng(1)
        self.kernel = tf.Variable(generator.uniform(-1, 1, (3, 3, 3, 8)).astype("float32"))
        self.scale = tf.Variable(generator.uniform(0.5, 1, 8).astype("float32"))
        self.mean = tf.Variable(generator.uniform(0, 1, 8).astype("float32"), trainable=False)
        self.regularization_losses: list[Any] = []

    @tf.function
    def __call__(self, inputs: Any, training: bool = False) -> Any:
        return tf.reduce_mean(self.map(inputs, training), [1, 2])

    def map(self, inputs: Any, training: bool) -> Any:
        normal, _, _ = tf.compat.v1.nn.fused_batch_norm(
            tf.nn.conv2d(inputs, self.kernel, 2, "SAME"),
            self.scale,
            self.scale,
            self.mean,
            self.scale,
            is_training=training,
        )
        return tf.nn.relu(normal)


def save_hub(path: Path, side: int | None = None, *, signature: bool = True) -> Path:
    """A feature vector of TF-Hub, with a signature of two outputs, or with its call alone."""
    module = HubModule()
    spec = tf.TensorSpec((None, side, side, 3), tf.float32, name="inputs")
    for training in (True, False):
        module.__call__.get_concrete_function(spec, training=training)

    @tf.function(input_signature=[spec])
    def serve(inputs: Any) -> dict[str, Any]:
        return {"default": module(inputs), "hub/layer_1": module.map(inputs, False)}

    tf.saved_model.save(module, str(path), signatures=serve if signature else {})
    return path


def save_function(path: Path, call: Any, *specs: Any, **state: Any) -> Path:
    """A SavedModel whose one signature is `call`."""
    module = tf.Module()
    module.state = state
    signature = tf.function(call, input_signature=list(specs))
    tf.saved_model.save(module, str(path), signatures=signature)
    return path


def save_tf1_module(path: Path, side: int = 32) -> Path:
    """A module of TF-Hub's first format: two graphs, the one that infers without tags."""
    v1 = tf.compat.v1
    builder = v1.saved_model.Builder(str(path))
    kernel = np.random.default_rng(2).uniform(-1, 1, (3, 3, 3, 8)).astype("float32")
    for tags in ([], ["train"]):
        with tf.Graph().as_default(), v1.Session() as session:
            images = v1.placeholder(tf.float32, (None, side, side, 3), name="images")
            weights = v1.get_variable("kernel", initializer=kernel)
            rows = tf.reduce_mean(tf.nn.relu(tf.nn.conv2d(images, weights, 2, "SAME")), [1, 2])
            rows = 2 * rows if tags else rows
            session.run(v1.global_variables_initializer())
            signature = v1.saved_model.predict_signature_def({"images": images}, {"default": rows})
            options: dict[str, Any] = {"signature_def_map": {"image_feature_vector": signature}}
            if tags:
                builder.add_meta_graph(tags, **options)
            else:
                builder.add_meta_graph_and_variables(session, tags, **options)
    builder.save()
    return path
