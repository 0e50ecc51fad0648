"""Checkpoints: a killed training goes on as if nothing had happened, or says why it cannot."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import killed_training
import numpy as np
import pytest
from killed_training import SETTINGS

from featcache.errors import DamagedFile, FeatcacheError, StorageFailure
from featcache.training.checkpoint import Checkpoint, Saved

SAVED = Saved(
    weights=[np.arange(6, dtype=np.float32).reshape(2, 3).T, np.float32(2)],
    optimizer=[np.array(7), np.zeros(3, np.float32)],
    best=[],
    progress={"history": {"loss": [0.1, 0.3]}, "done": 2, "best": 1, "seconds": [1.5, 1.25]},
)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Checkpoint:
    return Checkpoint(tmp_path / "out" / "training.checkpoint", SETTINGS)


def test_a_killed_training_ends_as_an_undisturbed_one(tmp_path):
    """SIGKILL in the fourth epoch; the same command then gives the same weights and curves.

    Dropout, moving statistics, the optimiser and the best epoch so far all go on where they were.
    """
    path = tmp_path / "training.checkpoint"
    child = subprocess.Popen(
        [sys.executable, killed_training.__file__, path], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout
    shown = next(line for line in child.stdout if "in the fourth epoch" in line)
    child.send_signal(signal.SIGKILL)
    assert shown
    assert child.wait() == -signal.SIGKILL
    child.stdout.close()
    told: list[str] = []
    resumed, after = killed_training.train(Checkpoint(path, SETTINGS), told.append)
    whole, undisturbed = killed_training.train(None, lambda line: None)
    assert told[0] == f"going on after epoch 13, from {path}"
    assert [line.split(":")[0] for line in told[1:]] == [f"epoch {n}/16" for n in (14, 15, 16)]
    for mine, other in zip(resumed.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_allclose(mine, other, atol=1e-5)
    assert after.history.keys() == undisturbed.history.keys()
    for name, values in undisturbed.history.items():
        np.testing.assert_allclose(after.history[name], values, atol=1e-5)
    assert after.best_epoch == undisturbed.best_epoch < 13
    assert len(after.seconds) == after.epochs_run == 6


def test_a_finished_training_is_not_trained_again(checkpoint):
    """Killed after its last epoch, a training ends at once with the weights of its best one."""
    first, learned = killed_training.train(checkpoint, lambda line: None)
    told: list[str] = []
    again, same = killed_training.train(checkpoint, told.append)
    assert len(told) == 1
    assert same == learned
    for mine, other in zip(again.get_weights(), first.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, other)


def test_what_is_saved_comes_back(checkpoint):
    """Arrays of any layout and every number, bit for bit; a training without a file begins."""
    assert checkpoint.load() is None
    checkpoint.save(SAVED)
    back = checkpoint.load()
    assert back is not None
    assert back.progress == SAVED.progress
    assert back.best == []
    for kind in ("weights", "optimizer"):
        for mine, other in zip(getattr(back, kind), getattr(SAVED, kind), strict=True):
            np.testing.assert_array_equal(mine, other)
            assert mine.dtype == np.asarray(other).dtype
    assert [path.name for path in checkpoint.path.parent.iterdir()] == ["training.checkpoint"]
    checkpoint.remove()
    checkpoint.remove()
    assert checkpoint.load() is None


def test_another_training_is_refused_by_name(checkpoint):
    """What differs between the settings is named, with both values."""
    checkpoint.save(SAVED)
    other = {"seed": 0, "augment": "flip", "images": {"train": "a2", "validation": "b2"}}
    with pytest.raises(FeatcacheError) as caught:
        Checkpoint(checkpoint.path, other).load()
    assert "images.train: a1 there, a2 now; augment: nothing there, flip now" in str(caught.value)
    assert "delete" in str(caught.value)


@pytest.mark.parametrize("place", [4, 60, 300, -9])
def test_damage_is_found(checkpoint, place):
    """A flipped bit anywhere, in a weight or in the settings, is found before it is used."""
    checkpoint.save(SAVED)
    content = bytearray(checkpoint.path.read_bytes())
    content[place] ^= 4
    checkpoint.path.write_bytes(bytes(content))
    with pytest.raises(DamagedFile, match="delete the file"):
        checkpoint.load()


def test_settings_come_from_a_sound_header(checkpoint):
    """They are told without reading the weights; where the header is damaged, that is told."""
    assert checkpoint.settings_there() is None
    checkpoint.save(SAVED)
    assert checkpoint.settings_there() == SETTINGS
    content = checkpoint.path.read_bytes()
    checkpoint.path.write_bytes(content.replace(b"b2", b"b3"))
    with pytest.raises(DamagedFile, match="delete the file"):
        checkpoint.settings_there()


def test_half_a_file_and_other_files_are_no_checkpoints(checkpoint):
    """A file that was cut, and one of another kind, are refused."""
    from safetensors.numpy import save_file

    checkpoint.save(SAVED)
    checkpoint.path.write_bytes(checkpoint.path.read_bytes()[:-1])
    with pytest.raises(DamagedFile, match="not a checkpoint"):
        checkpoint.load()
    save_file({"a": np.zeros(2)}, checkpoint.path)
    with pytest.raises(DamagedFile, match="not a checkpoint of this featcache"):
        checkpoint.load()


def test_weights_of_another_model_are_refused(checkpoint):
    """Where the settings are the same but the model is not, nothing is assigned."""
    checkpoint.save(SAVED)
    with pytest.raises(FeatcacheError, match="not this model's"):
        killed_training.train(checkpoint, lambda line: None)


def test_a_disk_that_refuses_leaves_the_last_epoch(checkpoint):
    """Where a file cannot be written, an error says so, and the epoch saved before is there."""
    checkpoint.save(SAVED)
    bad = Checkpoint(checkpoint.path / "below", SETTINGS)
    with pytest.raises(StorageFailure, match="another --out"):
        bad.save(SAVED)
    assert checkpoint.load() is not None
    assert list(checkpoint.path.parent.glob(".tmp-*")) == []
