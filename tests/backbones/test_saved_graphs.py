"""Trusted SavedModels: only what networks compute with is run, whatever way leads to the rest."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest
import tensorflow as tf

from featcache.backbones.own_model import open_user_model
from featcache.errors import FeatcacheError
from tests.backbones import saved_graphs as made


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
    "CreateSummaryFileWriter": lambda where: RAW.CreateSummaryFileWriter(
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
