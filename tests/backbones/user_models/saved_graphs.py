"""Hostile SavedModels, made by the tests: a hostile operation behind every way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorflow.core.protobuf.meta_graph_pb2 import AssetFileDef
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel
from tensorflow.python.trackable.resource import CapturableResource

v1 = tf.compat.v1
IMAGES = tf.TensorSpec((None, 32, 32, 3), tf.float32, name="images")

#: Adds the hostile operation to the graph that is being made; gives a scalar 0 that depends on it.
Evil = Callable[[], Any]

#: Saves a SavedModel to a path, with the hostile operation behind one way.
Way = Callable[[Path, Evil], None]


def writing(target: Path) -> Evil:
    """The operation is WriteFile, which makes `target`."""

    def evil() -> Any:
        with tf.control_dependencies([tf.raw_ops.WriteFile(filename=str(target), contents="x")]):
            return tf.constant(0.0)

    return evil


def mean(x: Any) -> Any:
    return tf.reduce_mean(x, [1, 2])


def change(path: Path, edit: Callable[[SavedModel], None]) -> None:
    """Edit a SavedModel's protocol buffer in its file."""
    stored = SavedModel.FromString((path / "saved_model.pb").read_bytes())
    edit(stored)
    (path / "saved_model.pb").write_bytes(stored.SerializeToString())


def rename_asset(meta: Any, name: str) -> None:
    """Give the model's one asset another name, in TF2's place for it or in TF1's."""
    for asset in meta.asset_file_def:
        asset.filename = name
    for packed in meta.collection_def["saved_model_assets"].any_list.value:
        asset = AssetFileDef.FromString(packed.value)
        asset.filename = name
        packed.Pack(asset)


def save(path: Path, call: Any = mean, **children: Any) -> None:
    """A TF2 SavedModel of one signature, with more objects beside it."""
    module = tf.Module()
    for name, child in children.items():
        setattr(module, name, child)
    serve = tf.function(lambda x: {"y": call(x)}, input_signature=[IMAGES])
    tf.saved_model.save(module, str(path), signatures=serve)


# TF2: what is called


def signature(path: Path, evil: Evil) -> None:
    save(path, lambda x: mean(x) + evil())


def own_call(path: Path, evil: Evil) -> None:
    module = tf.Module()
    module.__call__ = tf.function(lambda x: mean(x) + evil(), input_signature=[IMAGES])
    tf.saved_model.save(module, str(path), signatures={})


def function_in_function(path: Path, evil: Evil) -> None:
    inner = tf.function(lambda: tf.function(evil)())
    save(path, lambda x: mean(x) + inner())


def branch_of_if(path: Path, evil: Evil) -> None:
    save(path, lambda x: mean(x) + tf.cond(tf.reduce_sum(x) > 1e9, evil, lambda: 0.0))


def branch_of_case(path: Path, evil: Evil) -> None:
    branches = [lambda: 0.0, evil, lambda: 0.0]
    save(path, lambda x: mean(x) + tf.switch_case(tf.shape(x)[0], branches))


def body_of_while(path: Path, evil: Evil) -> None:
    def looped(x: Any) -> Any:
        return mean(x) + tf.while_loop(lambda n: n < 1, lambda n: (n + 1 + evil(),), (0.0,))[0]

    save(path, looped)


def custom_gradient(path: Path, evil: Evil) -> None:
    @tf.custom_gradient
    def straight(x: Any) -> Any:
        return tf.identity(x), lambda upstream: upstream + evil()

    options = tf.saved_model.SaveOptions(experimental_custom_gradients=True)
    serve = tf.function(lambda x: {"y": mean(straight(x))}, input_signature=[IMAGES])
    module = tf.Module()
    tf.saved_model.save(module, str(path), signatures=serve, options=options)


def other_implementation(path: Path, evil: Evil) -> None:
    """TensorFlow may put a function of the same interface in the place of a called one."""
    fast = tf.function(evil, experimental_attributes={"api_implements": "x"}, input_signature=[])
    slow = tf.function(
        lambda: tf.constant(0.0),
        experimental_attributes={"api_implements": "x"},
        input_signature=[],
    )
    save(path, lambda x: mean(x) + slow(), fast=fast)


# TF2: what loading runs


class Resource(CapturableResource):
    """An object whose life TensorFlow begins and ends with functions, one of them hostile."""

    def __init__(self, evil: Evil, where: str) -> None:
        super().__init__()
        self.evil, self.where = evil, where

    def run(self, where: str) -> None:
        if where == self.where:
            self.evil()

    def _create_resource(self) -> Any:
        self.run("_create_resource")
        return tf.raw_ops.MutableHashTableV2(
            key_dtype=tf.string, value_dtype=tf.int64, shared_name="made"
        )

    def _initialize(self) -> None:
        self.run("_initialize")

    def _destroy_resource(self) -> None:
        self.run("_destroy_resource")


class Restored(tf.Module):
    """An object that saves and restores itself with functions, one of them hostile."""

    def __init__(self, evil: Evil, where: str) -> None:
        super().__init__()
        self.evil, self.where = evil, where

    def _serialize_to_tensors(self) -> dict[str, Any]:
        return {"kept": tf.constant(1.0) + (self.evil() if self.where == "save_function" else 0)}

    def _restore_from_tensors(self, restored: dict[str, Any]) -> None:
        if self.where == "restore_function":
            self.evil()


def resource(where: str) -> Way:
    return lambda path, evil: save(path, resource=Resource(evil, where))


def restored(where: str) -> Way:
    return lambda path, evil: save(path, restored=Restored(evil, where))


# TF1


def graph_of(where: str) -> Way:
    """A TF1 module in whose graph the hostile operation is reached from `where`."""

    def made(path: Path, evil: Evil) -> None:
        builder = v1.saved_model.Builder(str(path))
        with tf.Graph().as_default(), v1.Session() as session:
            images = v1.placeholder(tf.float32, (None, 32, 32, 3), name="images")
            kernel = v1.get_variable("kernel", initializer=tf.ones((3, 8)))
            zero = evil()
            rows = mean(images @ kernel) + (zero if where == "signature" else 0)
            if where == "table initialiser":
                v1.add_to_collection("table_initializer", zero.op)
            if where == "local variable":
                v1.Variable(zero, collections=["local_variables"], name="local")
            session.run(kernel.initializer)
            signatures = {
                "default": v1.saved_model.predict_signature_def({"images": images}, {"y": rows})
            }
            builder.add_meta_graph_and_variables(
                session, ["serve"], signature_def_map=signatures,
                main_op=zero.op if where == "init op" else None,
            )  # fmt: skip
        builder.save()
        change(path, lambda stored: _reach(stored.meta_graphs[0], where, zero.op.name))

    return made


def _reach(meta: Any, where: str, name: str) -> None:
    """What the builder has no argument for."""
    if where == "restore op":
        nodes = {node.name: node for node in meta.graph_def.node}
        nodes[meta.saver_def.restore_op_name].input.append(f"^{name}")
    if where == "legacy init op":
        meta.collection_def["legacy_init_op"].node_list.value.append(name)
    if where == "init signature":
        meta.signature_def["__saved_model_init_op"].outputs["__saved_model_init_op"].name = name


#: Every way on which an operation runs, and what the error says of it besides the operation.
WAYS: dict[str, tuple[Way, str]] = {
    "signature": (signature, "from 'serving_default'"),
    "own call": (own_call, "from '__call__'"),
    "function in a function": (function_in_function, "from 'serving_default'"),
    "branch of an if": (branch_of_if, "from 'serving_default'"),
    "branch of a case": (branch_of_case, "from 'serving_default'"),
    "body of a while": (body_of_while, "from 'serving_default'"),
    "gradient": (custom_gradient, "from 'serving_default'"),
    "other implementation": (other_implementation, "from 'serving_default'"),
    "_create_resource": (resource("_create_resource"), "from '_create_resource'"),
    "_initialize": (resource("_initialize"), "from '_initialize'"),
    "_destroy_resource": (resource("_destroy_resource"), "from '_destroy_resource'"),
    "restore_function": (restored("restore_function"), "from restore_function"),
    "save_function": (restored("save_function"), "from save_function"),
    "TF1 signature": (graph_of("signature"), "from 'default'"),
    "TF1 restore op": (graph_of("restore op"), "from its restore operation"),
    "TF1 init op": (graph_of("init op"), "from its initialisers"),
    "TF1 legacy init op": (graph_of("legacy init op"), "from its initialisers"),
    "TF1 init signature": (graph_of("init signature"), "from its initialisers"),
    "TF1 table initialiser": (graph_of("table initialiser"), "from its initialisers"),
    "TF1 local variable": (graph_of("local variable"), "from its initialisers"),
}
