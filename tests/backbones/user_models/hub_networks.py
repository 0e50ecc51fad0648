"""The layer types of networks on TF-Hub and Kaggle, small: saved, with the live function's rows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tests.backbones.user_models import made_models as made

v1 = tf.compat.v1
IMAGES = tf.TensorSpec((None, 32, 32, 3), tf.float32, name="images")

#: Saves a network to a path; gives the rows that the live function has for these pixels.
Saved = Callable[[Path, np.ndarray], np.ndarray]


def weights(*shape: int, seed: int = 0, low: float = -0.5) -> Any:
    values = np.random.default_rng([seed, *shape]).uniform(low, 0.5, shape)
    return tf.constant(values.astype("float32"))


def keras_export(path: Path, pixels: np.ndarray) -> np.ndarray:
    """Keras's own export: depthwise convolution, BatchNorm, swish, squeeze and excite, dropout."""
    layers, x = made.layers, made.image()
    y = layers.Conv2D(8, 3, strides=2, activation="swish")(x)
    y = layers.ReLU(6.0)(layers.BatchNormalization()(layers.DepthwiseConv2D(3)(y)))
    gate = layers.Conv2D(8, 1, activation="sigmoid")(
        layers.GlobalAveragePooling2D(keepdims=True)(y)
    )
    y = layers.Dropout(0.2)(layers.Multiply()([y, gate]))
    model = made.seeded(made.keras.Model(x, layers.GlobalAveragePooling2D()(y)))
    made.export(model, path)
    return np.asarray(model(pixels, training=False))


def slim(path: Path, pixels: np.ndarray) -> np.ndarray:
    """TF1-slim: variables, moving averages, ReLU6, a sharded saver, a graph for training beside."""
    builder = v1.saved_model.Builder(str(path))
    for tags in (["serve"], ["train"]):
        with tf.Graph().as_default(), v1.Session() as session:
            images = v1.placeholder(tf.float32, (None, 32, 32, 3), name="images")
            kernel = v1.get_variable("weights", initializer=weights(3, 3, 3, 8))
            deep = v1.get_variable("depthwise_weights", initializer=weights(3, 3, 8, 1))
            gamma = v1.get_variable("gamma", initializer=weights(8, low=0.1))
            mean = v1.get_variable("moving_mean", initializer=weights(8, seed=1), trainable=False)
            x = tf.nn.conv2d(images, kernel, 2, "SAME")
            x = tf.nn.depthwise_conv2d(x, deep, [1, 1, 1, 1], "SAME")
            x, batch_mean, _ = v1.nn.fused_batch_norm(
                x, gamma, gamma, None if "train" in tags else mean,
                None if "train" in tags else gamma, is_training="train" in tags,
            )  # fmt: skip
            rows = tf.reduce_mean(tf.nn.relu6(x), [1, 2])
            if "train" in tags:
                v1.assign_sub(mean, 0.1 * (mean - batch_mean))
            session.run(v1.global_variables_initializer())
            options: dict[str, Any] = {
                "signature_def_map": {
                    "default": v1.saved_model.predict_signature_def({"images": images}, {"y": rows})
                },
                "saver": v1.train.Saver(sharded=True),
            }
            if "train" in tags:
                builder.add_meta_graph(tags, **options)
                continue
            live = session.run(rows, {images: pixels})
            builder.add_meta_graph_and_variables(session, tags, **options)
    builder.save()
    return np.asarray(live)


def save_call(path: Path, call: Any, pixels: np.ndarray, *variables: Any) -> np.ndarray:
    """A reusable SavedModel with a `training` argument, as TF-Hub ships them."""
    module = tf.Module()
    module.variables_of_mine = list(variables)
    module.__call__ = tf.function(call)
    for training in (True, False):
        module.__call__.get_concrete_function(IMAGES, training=training)
    serve = tf.function(lambda images: {"default": call(images)}, input_signature=[IMAGES])
    tf.saved_model.save(module, str(path), signatures=serve)
    return np.asarray(call(tf.constant(pixels)))


def big_transfer(path: Path, pixels: np.ndarray) -> np.ndarray:
    """BiT: convolutions of standardised weights, GroupNorm, padding by hand, a residual."""
    first, second = tf.Variable(weights(7, 7, 3, 16)), tf.Variable(weights(3, 3, 16, 16))
    scale = tf.Variable(weights(16, low=0.1))

    def convolve(x: Any, kernel: Any, stride: int, pad: int) -> Any:
        mean, variance = tf.nn.moments(kernel, [0, 1, 2], keepdims=True)
        x = tf.pad(x, [[0, 0], [pad, pad], [pad, pad], [0, 0]])
        return tf.nn.conv2d(x, (kernel - mean) / tf.sqrt(variance + 1e-10), stride, "VALID")

    def normal(x: Any) -> Any:
        size = tf.shape(x)
        groups = tf.reshape(x, [size[0], size[1], size[2], 4, 4])
        mean, variance = tf.nn.moments(groups, [1, 2, 4], keepdims=True)
        groups = (groups - mean) * tf.math.rsqrt(variance + 1e-5)
        return tf.nn.relu(tf.reshape(groups, size) * scale + scale)

    def call(images: Any, training: bool = False) -> Any:
        x = tf.nn.max_pool2d(convolve(images, first, 2, 3), 3, 2, "SAME")
        return tf.reduce_mean(normal(x + convolve(normal(x), second, 1, 1)), [1, 2])

    return save_call(path, call, pixels, first, second, scale)


def vision_transformer(path: Path, pixels: np.ndarray) -> np.ndarray:
    """ViT: patches, a class token, places, layer norm, attention by einsum, GELU, dropout."""
    patch, token = tf.Variable(weights(8, 8, 3, 16)), tf.Variable(weights(1, 1, 16))
    places, qkv = tf.Variable(weights(1, 17, 16)), tf.Variable(weights(3, 16, 2, 8))
    out, up = tf.Variable(weights(2, 8, 16)), tf.Variable(weights(16, 32))

    def normal(x: Any) -> Any:
        mean, variance = tf.nn.moments(x, [-1], keepdims=True)
        return (x - mean) * tf.math.rsqrt(variance + 1e-6)

    def call(images: Any, training: bool = False) -> Any:
        x = tf.nn.conv2d(images, patch, 8, "VALID")
        batch = tf.shape(x)[0]
        x = tf.reshape(x, [batch, 16, 16])
        x = tf.concat([tf.tile(token, [batch, 1, 1]), x], 1) + places
        x = tf.nn.dropout(x, 0.1) if training else x
        q, k, v = (tf.einsum("bnd,dhe->bnhe", normal(x), each) for each in tf.unstack(qkv))
        seen = tf.nn.softmax(tf.einsum("bnhe,bmhe->bhnm", q, k) / 8**0.5)
        x += tf.einsum("bnhe,hed->bnd", tf.einsum("bhnm,bmhe->bnhe", seen, v), out)
        x += tf.nn.gelu(normal(x) @ up) @ tf.transpose(up)
        return normal(x)[:, 0]

    return save_call(path, call, pixels, patch, token, places, qkv, out, up)


def quantised(path: Path, pixels: np.ndarray) -> np.ndarray:
    """Quantisation-aware: weights by channel and activations rounded to 8 bits, kept as floats."""
    kernel, high = tf.Variable(weights(3, 3, 3, 8)), tf.Variable(tf.fill([8], 0.5))
    fake = tf.quantization

    def call(images: Any, training: bool = False) -> Any:
        rounded = fake.fake_quant_with_min_max_vars_per_channel(
            kernel, -high, high, narrow_range=True
        )
        x = tf.nn.relu6(tf.nn.conv2d(images, rounded, 2, "SAME"))
        return tf.reduce_mean(fake.fake_quant_with_min_max_vars(x, 0.0, 6.0), [1, 2])

    return save_call(path, call, pixels, kernel, high)


def words(folder: Path) -> str:
    file = folder.parent / "words.txt"
    file.write_text("cat\ndog\n")
    return str(file)


def table(path: Path, pixels: np.ndarray) -> np.ndarray:
    """Tables that loading fills, one from a file of the model's own and one from constants."""
    from_file = tf.lookup.StaticHashTable(
        tf.lookup.TextFileInitializer(
            words(path), tf.string, tf.lookup.TextFileIndex.WHOLE_LINE,
            tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER,
        ), -1,
    )  # fmt: skip
    constants = tf.lookup.KeyValueTensorInitializer(["cat"], tf.constant([5], tf.int64))
    in_memory = tf.lookup.StaticHashTable(constants, -1)

    def call(images: Any, training: bool = False) -> Any:
        found = from_file.lookup(tf.constant("dog")) + in_memory.lookup(tf.constant("cat"))
        return tf.reduce_mean(images, [1, 2]) + tf.cast(found, tf.float32)

    return save_call(path, call, pixels, from_file, in_memory)


def slim_table(path: Path, pixels: np.ndarray) -> np.ndarray:
    """TF1 with a vocabulary: its initialiser is fed the path of the model's own file."""
    builder = v1.saved_model.Builder(str(path))
    with tf.Graph().as_default(), v1.Session() as session:
        images = v1.placeholder(tf.float32, (None, 32, 32, 3), name="images")
        file = tf.constant(words(path), name="asset")
        v1.add_to_collection("asset_filepaths", file)
        vocabulary = tf.lookup.StaticHashTable(
            tf.lookup.TextFileInitializer(
                file, tf.string, tf.lookup.TextFileIndex.WHOLE_LINE,
                tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER,
            ), -1,
        )  # fmt: skip
        found = vocabulary.lookup(tf.constant("dog"))
        rows = tf.reduce_mean(images, [1, 2]) + tf.cast(found, tf.float32)
        session.run(v1.tables_initializer())
        live = session.run(rows, {images: pixels})
        signature = v1.saved_model.predict_signature_def({"images": images}, {"y": rows})
        builder.add_meta_graph_and_variables(
            session, ["serve"], signature_def_map={"default": signature},
            assets_collection=[file], main_op=v1.tables_initializer(),
        )  # fmt: skip
    builder.save()
    return np.asarray(live)


def two_signatures(path: Path, pixels: np.ndarray) -> np.ndarray:
    """A second signature that decodes JPEG files, and writes one that is never called."""

    def decoded(data: Any) -> Any:
        tf.io.write_file("never", data[0])
        image = tf.map_fn(
            lambda each: tf.image.resize(tf.io.decode_jpeg(each, 3), (32, 32)), data,
            fn_output_signature=tf.float32,
        )  # fmt: skip
        return {"y": tf.reduce_mean(image, [1, 2])}

    module = tf.Module()
    call = tf.function(lambda x: {"y": tf.reduce_mean(x, [1, 2])}, input_signature=[IMAGES])
    files = tf.function(decoded, input_signature=[tf.TensorSpec((None,), tf.string)])
    signatures = {"serving_default": call, "serving_bytes": files}
    tf.saved_model.save(module, str(path), signatures=signatures)
    return np.asarray(tf.reduce_mean(pixels, [1, 2]))


NETWORKS: dict[str, Saved] = {
    "Keras export": keras_export,
    "TF1-slim": slim,
    "BiT": big_transfer,
    "ViT": vision_transformer,
    "quantised": quantised,
    "tables": table,
    "TF1 table": slim_table,
    "two signatures": two_signatures,
}
