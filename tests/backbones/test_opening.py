"""What is known of a network without building it, and when that no longer holds."""

from __future__ import annotations

import functools
import os
import time
from pathlib import Path

import pytest

from featcache.backbones.network import Network, open_network
from featcache.backbones.opening import recall_taps
from featcache.backbones.table import find_backbone
from featcache.errors import FeatcacheError
from featcache.files.home import read_record, write_record

#: Keras's own `save_weights` gives numpy variables without the copy keyword.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

BACKBONE = find_backbone("mobilenetv2")
SIZE = (32, 32)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> Path:
    """A home of this test's own."""
    monkeypatch.setenv("FEATCACHE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """A weights file that was written a minute ago."""
    path = tmp_path_factory.mktemp("weights") / "w.weights.h5"
    open_network(BACKBONE, weights="random:3", size=SIZE).base.save_weights(path)
    return path


def recall(weights: str | Path, **options: str) -> Network:
    asked = [(options.get("layer", ""), options.get("pooling", "avg"))]
    return recall_taps(BACKBONE, asked, weights=str(weights), size=SIZE)[0][0]


def is_recalled(network: Network) -> bool:
    """Whether it came from a note: Keras was not asked yet."""
    return isinstance(network.build, functools.partial)


def test_the_second_time_keras_is_not_asked(home):
    """A note gives the same digest, layer and row shape; the network is built when needed."""
    first = recall("random:3", layer="-2", pooling="max")
    second = recall("random:3", layer="-2", pooling="max")
    assert (is_recalled(first), is_recalled(second)) == (False, True)
    assert first == second
    assert second.taps[0].layer == "Conv_1_bn"
    assert second.model.output_shape == (None, 1280)
    assert len(list(home.glob("notes/*"))) == 1


@pytest.mark.parametrize("options", [{"layer": "Conv1"}, {"pooling": "max"}, {"pooling": "none"}])
def test_another_tap_has_another_note(options):
    """A note speaks of one tap: another layer or pooling is built."""
    recall("random:3")
    assert not is_recalled(recall("random:3", **options))


def settle(path: Path) -> None:
    """Wait until the file is old enough to be trusted; its times cannot be set back."""
    while time.time_ns() - path.stat().st_ctime_ns < 2_100_000_000:
        time.sleep(0.1)


def test_a_weights_file_is_known_until_it_changes(weights):
    """The same file is recalled; written again, with the old modification time, it is not."""
    settle(weights)
    first = recall(weights)
    assert is_recalled(recall(weights))
    before = weights.stat()
    open_network(BACKBONE, weights="random:4", size=SIZE).base.save_weights(weights)
    os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns))
    changed = recall(weights)
    assert not is_recalled(changed)
    assert changed.taps[0].weights != first.taps[0].weights
    assert changed.weights_hint == str(weights)


def test_a_file_written_just_now_is_not_noted(tmp_path, home):
    """A file may change again within the clock's grain, so a fresh one leaves no note."""
    path = tmp_path / "w.weights.h5"
    open_network(BACKBONE, weights="random:3", size=SIZE).base.save_weights(path)
    os.utime(path, (1e9, 1e9))
    assert not is_recalled(recall(path))
    assert list(home.glob("notes/*")) == []


@pytest.mark.parametrize("content", [b"", b"{}", b"x" * 64 + b"\n{}"])
def test_a_damaged_note_only_costs_time(home, content):
    """Whatever is in the note, the network is built and noted again."""
    first = recall("random:3")
    next(home.glob("notes/*")).write_bytes(content)
    assert not is_recalled(recall("random:3"))
    assert recall("random:3") == first


def test_a_wrong_note_is_found_out_when_keras_builds(home):
    """A note with another digest: building says so and deletes it; the next run is right."""
    first = recall("random:3")
    note = next(home.glob("notes/*"))
    record = read_record(note)
    record["networks"][0][0]["weights"] = "0" * 64
    write_record(note, record)
    wrong = recall("random:3")
    with pytest.raises(FeatcacheError, match="run the same command again"):
        _ = wrong.model
    assert recall("random:3") == first


def test_a_missing_file_is_the_usual_error(tmp_path):
    """Without the file there is nothing to recall: the error is that of opening it."""
    with pytest.raises(FeatcacheError, match="no such file"):
        recall(tmp_path / "none.h5")
