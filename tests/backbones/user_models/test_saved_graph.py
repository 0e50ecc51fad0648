"""Trusted SavedModels: only what networks compute with is run, whatever way leads to the rest."""

from __future__ import annotations

import gc
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from featcache.backbones.keras_import import import_keras
from featcache.backbones.user_models.allowed_operations import ALLOWED_OPERATIONS
from featcache.backbones.user_models.user_network import open_user_model
from featcache.errors import FeatcacheError
from tests.backbones.networks import error_norm, photographs
from tests.backbones.user_models import saved_graphs as made
from tests.backbones.user_models.hub_networks import NETWORKS, slim_table, table


def refusal(path: Path) -> str:
    """What is said where a trusted model is not run."""
    with pytest.raises(FeatcacheError) as caught:
        open_user_model(path, trusted=True, size=(32, 32), scale="0..1")
    return str(caught.value)


@pytest.mark.parametrize("way", made.WAYS)
def test_no_way_leads_to_an_operation_that_writes(tmp_path, way):
    """A WriteFile that loading or calling would reach is refused by its name, and did not run."""
    save, where = made.WAYS[way]
    target = tmp_path / "outside"
    save(tmp_path / "m", made.writing(target))
    gc.collect()  # a resource that is deleted runs its own functions
    target.unlink(missing_ok=True)
    said = refusal(tmp_path / "m")
    assert "operations that reach out of it: 'WriteFile' (at '" in said
    assert f"reached {where}" in said
    gc.collect()
    assert not target.exists()


RAW = tf.raw_ops

#: Operations that ran in a trusted model, and what calls them; `where` is a path outside of it.
HOSTILE = {
    "ReadFile": lambda where: RAW.ReadFile(filename=where),
    "MatchingFiles": lambda where: RAW.MatchingFiles(pattern=where),
    "SaveV2": lambda where: RAW.SaveV2(
        prefix=where, tensor_names=["a"], shape_and_slices=[""], tensors=[tf.constant(1)]
    ),
    "RestoreV2": lambda where: RAW.RestoreV2(
        prefix=where, tensor_names=["a"], shape_and_slices=[""], dtypes=[tf.float32]
    ),
    "CacheDataset": lambda where: RAW.CacheDataset(
        input_dataset=RAW.TensorDataset(components=[1.0], output_shapes=[()]),
        filename=where, output_types=[tf.float32], output_shapes=[()],
    ),
    "TextLineDataset": lambda where: RAW.TextLineDataset(
        filenames=where, compression_type="", buffer_size=0
    ),
    "WholeFileReaderV2": lambda where: RAW.WholeFileReaderV2(),
    "DebugIdentity": lambda where: RAW.DebugIdentity(
        input=tf.constant([1]), tensor_name="a:0", debug_urls=[f"file://{where}"]
    ),
    "Copy": lambda where: RAW.Copy(
        input=tf.constant([1]), tensor_name="a:0", debug_ops_spec=[f"DebugIdentity;file://{where};0"]
    ),
    "SummaryWriter": lambda where: RAW.CreateSummaryFileWriter(
        writer=RAW.SummaryWriter(), logdir=where, max_queue=1, flush_millis=1, filename_suffix=""
    ),
    "Abort": lambda where: RAW.Abort(error_msg="", exit_without_error=True),
    "PrintV2": lambda where: RAW.PrintV2(input="said"),
    "EagerPyFunc": lambda where: tf.py_function(lambda: 1.0, [], tf.float32),
    "ImmutableConst": lambda where: RAW.ImmutableConst(
        dtype=tf.uint8, shape=(1,), memory_region_name=where
    ),
    "FixedUnigramCandidateSampler": lambda where: RAW.FixedUnigramCandidateSampler(
        true_classes=tf.constant([[1]], tf.int64), num_true=1, num_sampled=1, unique=False,
        range_max=2, vocab_file=where,
    ),
    "InitializeTableFromTextFileV2": lambda where: RAW.InitializeTableFromTextFileV2(
        table_handle=RAW.HashTableV2(key_dtype=tf.string, value_dtype=tf.int64),
        filename=where, key_index=-2, value_index=-1,
    ),
}  # fmt: skip


def behind_identity(call, where: Path):
    """Zero, computed after the operation."""

    def evil():
        made_by = call(str(where))
        last = made_by.op if hasattr(made_by, "op") else made_by
        with tf.control_dependencies([last[0] if isinstance(last, (list, tuple)) else last]):
            return tf.constant(0.0)

    return evil


@pytest.mark.parametrize("operation", HOSTILE)
def test_operations_that_reach_out_are_refused(tmp_path, operation):
    """Reading, writing, printing, Python and the end of the process: each is refused by name."""
    where = tmp_path / "outside"
    made.signature(tmp_path / "m", behind_identity(HOSTILE[operation], where))
    assert f"'{operation}' (at '" in refusal(tmp_path / "m")
    assert list(tmp_path.iterdir()) == [tmp_path / "m"]


@pytest.mark.parametrize("network", NETWORKS)
def test_networks_as_hubs_have_them_are_run(tmp_path, network):
    """Each gives the rows of its live function, out of a folder of links as hubs' caches are."""
    pixels = photographs((32, 32), 3).astype(np.float32) / np.float32(255)
    live = NETWORKS[network](tmp_path / "saved", pixels)
    linked = tmp_path / "linked"
    for file in (tmp_path / "saved").rglob("*"):
        if file.is_file():
            link = linked / file.relative_to(tmp_path / "saved")
            link.parent.mkdir(parents=True, exist_ok=True)
            link.hardlink_to(file) if "assets" in file.parts else link.symlink_to(file)
    opened = open_user_model(linked, trusted=True, size=(32, 32), scale="0..1")
    model = import_keras().Model(opened.network.input, opened.tap("")[1])
    assert error_norm(np.asarray(model(pixels)), live) <= 1e-6
    assert not Path("never").exists()


def test_what_only_stands_there_is_refused_where_it_can_run(tmp_path):
    """TensorFlow computes constants of functions that nobody calls: there a DebugIdentity writes.

    (Of those with a state, as WriteFile in "two signatures" above, none is run.)
    """
    where = tmp_path / "outside"

    def shape_from_outside(x):
        shape = RAW.DebugIdentity(
            input=tf.constant([-1, 3]), tensor_name="a:0", debug_urls=[f"file://{where}"]
        )
        return tf.reshape(x, shape)

    idle = tf.function(shape_from_outside, input_signature=[made.IMAGES])
    made.save(tmp_path / "m", idle=idle)
    assert where.exists()  # saving it was enough
    shutil.rmtree(where)
    said = refusal(tmp_path / "m")
    assert "'DebugIdentity' (at '" in said
    assert "can run as soon as it is read" in said
    assert not where.exists()


def test_a_function_cannot_take_the_place_of_an_operation(tmp_path):
    """Under the name of an allowed operation a function could hide what it does."""

    def renamed(stored):
        library = stored.meta_graphs[0].graph_def.library
        library.function.add().CopyFrom(library.function[0])
        library.function[-1].signature.name = "Relu"

    made.function_in_function(tmp_path / "m", lambda: tf.constant(0.0))
    made.change(tmp_path / "m", renamed)
    with pytest.raises(FeatcacheError, match="its function 'Relu' has an operation's name"):
        open_user_model(tmp_path / "m", trusted=True, size=(32, 32), scale="0..1")


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "a/../../words.txt", "", "."])
@pytest.mark.parametrize("save", [table, slim_table])
def test_assets_lie_in_their_folder(tmp_path, save, name):
    """An asset's name that leads out of assets/ is refused, also behind a check of the table."""
    save(tmp_path / "m", np.zeros((1, 32, 32, 3), np.float32))
    made.change(tmp_path / "m", lambda stored: made.rename_asset(stored.meta_graphs[0], name))
    said = refusal(tmp_path / "m")
    assert f"its asset {name!r} is not a name of a file in its folder assets" in said


@pytest.mark.parametrize("link", ["assets/words.txt", "assets"])
def test_assets_are_no_links(tmp_path, link):
    """A link in the place of an asset, or of their folder, could name any file."""
    table(tmp_path / "m", np.zeros((1, 32, 32, 3), np.float32))
    (tmp_path / "m" / link).rename(tmp_path / "elsewhere")
    (tmp_path / "m" / link).symlink_to(tmp_path / "elsewhere")
    assert "its asset 'words.txt' is a link: put the file itself" in refusal(tmp_path / "m")


def test_a_table_is_filled_from_an_asset_alone(tmp_path):
    """A constant name in the place of the asset's argument is refused, inside of assets/ or not."""

    def elsewhere(stored):
        for function in stored.meta_graphs[0].graph_def.library.function:
            for node in function.node_def:
                if node.op == "InitializeTableFromTextFileV2":
                    constant = function.node_def.add(name="path", op="Const")
                    constant.attr["dtype"].type = 7
                    constant.attr["value"].tensor.CopyFrom(tf.make_tensor_proto("/etc/passwd"))
                    node.input[1] = "path:output:0"

    table(tmp_path / "m", np.zeros((1, 32, 32, 3), np.float32))
    made.change(tmp_path / "m", elsewhere)
    said = refusal(tmp_path / "m")
    assert "'InitializeTableFromTextFileV2' (at '" in said
    assert "reached from '_initialize'" in said


def test_variables_are_restored_from_their_own_file_alone(tmp_path):
    """A TF1 graph whose restore operation names another checkpoint is refused."""

    def elsewhere(stored):
        graph = stored.meta_graphs[0].graph_def
        graph.node.add(name="path", op="Const").attr["value"].tensor.CopyFrom(
            tf.make_tensor_proto("/etc/passwd")
        )
        for node in graph.node:
            if node.op == "RestoreV2":
                node.input[0] = "path"

    NETWORKS["TF1-slim"](tmp_path / "m", np.zeros((1, 32, 32, 3), np.float32))
    made.change(tmp_path / "m", elsewhere)
    said = refusal(tmp_path / "m")
    assert "'RestoreV2' (at '" in said
    assert "reached from its restore operation" in said


def test_a_pipe_in_its_folder_does_not_hang(tmp_path):
    """What is no regular file is refused before it is opened."""
    made.save(tmp_path / "m")
    (tmp_path / "m" / "fingerprint.pb").unlink()
    os.mkfifo(tmp_path / "m" / "fingerprint.pb")
    assert "fingerprint.pb is not a regular file" in refusal(tmp_path / "m")


def test_objects_of_odd_forms_are_refused(tmp_path):
    """Objects in the places of functions and signatures: an error, and no call of theirs."""
    odd = tf.Module()
    odd.items = tf.function(lambda: tf.constant(1.0), input_signature=[])
    module = tf.Module()
    module.signatures_ = odd
    tf.saved_model.save(module, str(tmp_path / "m"), signatures={})

    def renamed(stored):
        for child in stored.meta_graphs[0].object_graph_def.nodes[0].children:
            child.local_name = child.local_name.replace("signatures_", "signatures")

    made.change(tmp_path / "m", renamed)
    assert refusal(tmp_path / "m")


def test_every_allowed_operation_is_one_of_tensorflow():
    """No name on the list is misspelt, and none is of a kind that reaches out."""
    from tensorflow.python.framework import op_def_registry

    assert all(op_def_registry.get(name) for name in ALLOWED_OPERATIONS)
    reaching = re.compile(
        r"Read(File|er)|Write[A-Z]|Save|Restore|Dataset|Iterator|Py(Func|Call)|Print|Debug|Rpc|"
        r"Remote|Send|Recv|Collective|Xla|TPU|Queue|Barrier|SummaryWriter|TextFile|Abort|Sleep"
    )
    found = {name for name in ALLOWED_OPERATIONS if reaching.search(name)}
    assert found == {"TensorArrayWriteV2", "TensorArrayWriteV3"}
    assert not ALLOWED_OPERATIONS & {*HOSTILE, "Skipgram", "LoadAndRemapMatrix", "SymbolicGradient"}
