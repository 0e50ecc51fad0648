"""The record of a fine-tuned backbone: no damaged file of its folder is used."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from featcache.backbones.tuned_record import (
    AGREEMENT,
    CLASSES,
    CLASSIFIER,
    HEAD,
    RECORD,
    WEIGHTS,
    check_weights,
    read_tuned_record,
    write_tuned_record,
)
from featcache.cli import app
from featcache.errors import DamagedFile, FeatcacheError
from featcache.verification import verify_path
from tests.made_features import damage

VALUES = {"backbone": "efficientnet_lite0", "size": [32, 32], "scale": None}
FILES = [WEIGHTS, HEAD, CLASSIFIER, CLASSES]


@pytest.fixture
def folder(tmp_path) -> Path:
    """The files of a finished fine-tuning and its record (what is in them does not matter)."""
    for number, name in enumerate(FILES):
        (tmp_path / name).write_bytes(np.random.default_rng(number).bytes(3000))
    write_tuned_record(tmp_path, {**VALUES, AGREEMENT: 1e-7}, FILES)
    return tmp_path


def test_a_flipped_bit_of_the_record_is_refused(folder):
    """Flip a bit in each byte of the record in turn: it is damage that names the file."""
    path = folder / RECORD
    content = path.read_bytes()
    assert read_tuned_record(folder)["backbone"] == "efficientnet_lite0"
    for place in range(len(content)):
        wrong = bytearray(content)
        wrong[place] ^= 1 << place % 8
        path.write_bytes(wrong)
        with pytest.raises(DamagedFile, match=RECORD):
            read_tuned_record(folder)


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_of_a_file_is_told_by_verify(name, folder):
    """Every file of the folder is hashed by `verify`, which names those that are not the same."""
    for place in (0, 1500, 2999):
        damage(folder / name, place)
        told = verify_path(folder)
        assert told.state == "damaged"
        assert [problem.path for problem in told.problems] == [folder / name]
        damage(folder / name, place)
    (folder / name).unlink()
    assert "gone" in verify_path(folder).problems[0].reason
    done = CliRunner().invoke(app, ["verify", str(folder)])
    assert done.exit_code == 4
    assert str(folder / name) in done.stderr


def test_damaged_weights_are_never_used(folder):
    """Weights with a flipped bit are damage wherever they are opened, and whole ones are not."""
    check_weights(folder / WEIGHTS)
    damage(folder / WEIGHTS, 1000)
    for _ in range(2):
        with pytest.raises(DamagedFile, match=WEIGHTS):
            check_weights(folder / WEIGHTS)


def test_whatever_step_a_kill_leaves_is_unfinished_and_never_damaged(folder):
    """The record names no file before they are written over, and those that are whole after."""
    write_tuned_record(folder, VALUES)
    for name in FILES:  # a kill after each
        (folder / name).write_bytes(b"of the next run" + name.encode())
        assert verify_path(folder).state == "unfinished"
        assert verify_path(folder).problems == []
        if name == WEIGHTS:
            with pytest.raises(FeatcacheError, match="interrupted") as caught:
                check_weights(folder / WEIGHTS)
            assert caught.value.exit_code == 2
            write_tuned_record(folder, VALUES, [WEIGHTS])
            check_weights(folder / WEIGHTS)


def test_a_finished_record_without_a_digest_is_damage(folder):
    """A digest cannot be left out of a finished record; one of version 1 never had any."""
    finished = {**VALUES, AGREEMENT: 1e-7}
    write_tuned_record(folder, finished, [WEIGHTS])
    assert len(verify_path(folder).problems) == 3
    old = {**finished, "format": "featcache-finetuned", "version": 1}
    (folder / RECORD).write_text(json.dumps(old))
    check_weights(folder / WEIGHTS)
    assert read_tuned_record(folder) == old
    (folder / HEAD).unlink()
    told = verify_path(folder)
    assert told.state == "sound"
    assert "version 1, which has no digest" in told.remarks[0]
    (folder / RECORD).write_text(json.dumps({**old, "version": 2}))
    with pytest.raises(DamagedFile):
        read_tuned_record(folder)


def test_a_record_names_nothing_outside_of_its_folder(folder):
    """A record of unknown origin that names another path is refused, digest and all."""
    (folder / "inner").mkdir()
    (folder / "inner" / WEIGHTS).write_bytes(b"x")
    write_tuned_record(folder, VALUES, [f"inner/../inner/{WEIGHTS}"])
    with pytest.raises(DamagedFile):
        read_tuned_record(folder)
