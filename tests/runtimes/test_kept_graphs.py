"""Kept graphs: found again, checked, rebuilt when damaged, and safe from two builders at once."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from featcache.backbones.keras_import import import_keras
from featcache.backbones.network import Built, Network, Tap, with_scaling
from featcache.backbones.table import find_backbone
from featcache.errors import FeatcacheError
from featcache.files.home import read_record, write_record
from featcache.recipe import Decoding, Recipe
from featcache.runtimes.choice import available_precisions
from featcache.runtimes.kept_graphs import delete_unused_graphs
from featcache.runtimes.probe import probe_pixels, row_error
from featcache.runtimes.proof import Proven, open_proven
from featcache.runtimes.runtime import run_padded

SIZE = (32, 32)


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """A home of this test's own."""
    monkeypatch.setenv("FEATCACHE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def tiny(seed: int = 0) -> Network:
    """Two layers that pass for efficientnet_lite0: quick to convert, and scaled as it is."""
    keras = import_keras()
    backbone = find_backbone("efficientnet_lite0")
    start = keras.initializers.GlorotUniform(seed=seed)
    inputs = keras.Input((*SIZE, 3))
    rows = keras.layers.Conv2D(64, 3, activation="relu", kernel_initializer=start)(inputs)
    base = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(rows))
    built = Built(with_scaling(base, backbone.scaling, SIZE), base)
    digest = f"{seed:064d}"
    return Network(backbone, "none", SIZE, (Tap("", "avg", (64,), digest),), lambda: built)


@pytest.fixture(scope="module")
def network() -> Network:
    return tiny()


def recipe_of(network: Network, **fields: str) -> Recipe:
    return Recipe(
        backbone=network.backbone.name,
        weights=network.taps[0].weights,
        decoding=Decoding(network.size),
        scaling=network.backbone.scaling,
        **fields,
    )


def prove(network: Network, name: str = "openvino", batch: int = 8, **fields: str) -> Proven:
    return open_proven(name, network, recipe_of(network, **fields), batch=batch)


def without_keras(network: Network) -> Network:
    """The same network, which fails the test where Keras is needed."""

    def build() -> Built:
        raise AssertionError("Keras was needed")

    return replace(network, build=build)


def kept_files(home: Path) -> list[Path]:
    return sorted(home.glob("graphs/*/*"))


def test_a_kept_graph_needs_no_keras_and_gives_the_same_rows(home, network):
    """The second run reads the graph, at any batch, and its rows are those of live Keras."""
    first = prove(network)
    second = prove(without_keras(network), batch=3)
    assert (first.from_kept, second.from_kept) == (False, True)
    assert (first.parities, first.versions) == (second.parities, second.versions)
    assert 0 < first.parities[0] <= 1e-5
    assert {"keras", "tensorflow", "openvino"} == set(first.versions)
    pixels = probe_pixels(Decoding(SIZE))
    rows = run_padded(second.runtime, pixels)[0]
    assert row_error(rows, network.live(pixels)[0]).max() <= 1e-5
    assert [path.name for path in kept_files(home)] == ["graph.bin", "graph.xml", "proof"]


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    # Not in place: another process may have it mapped, and nothing of ours writes in place.
    draft = path.with_name(f"flipped-{os.getpid()}")
    draft.write_bytes(content)
    draft.replace(path)


@pytest.mark.parametrize("damage", [flip, Path.unlink, lambda path: path.write_bytes(b"")])
@pytest.mark.parametrize("name", ["graph.bin", "graph.xml", "proof"])
def test_a_damaged_graph_is_made_again(home, network, name, damage):
    """A flipped bit, a missing or an empty file: the graph is rebuilt, and sound afterwards."""
    prove(network)
    damage(next(home.glob(f"graphs/*/{name}")))
    again = prove(network)
    assert not again.from_kept
    assert prove(without_keras(network)).from_kept
    assert len(kept_files(home)) == 3


def test_a_graph_that_gives_another_probe_is_made_again(home, network):
    """A graph whose files are sound but which is another network's is not used."""
    prove(network)
    folder = next(home.glob("graphs/*"))
    prove(tiny(seed=1))
    theirs = next(path for path in home.glob("graphs/*") if path != folder)
    proof = read_record(folder / "proof")
    for name in ("graph.xml", "graph.bin"):
        (theirs / name).replace(folder / name)
    write_record(folder / "proof", {**proof, "files": read_record(theirs / "proof")["files"]})
    assert not prove(network).from_kept
    assert prove(network).from_kept


@pytest.mark.slow
def test_two_processes_may_build_the_same_graph(home):
    """Two processes that build and delete it again and again: both succeed, a sound one stays."""
    code = (
        "from tests.runtimes.test_kept_graphs import *\n"
        "import shutil\n"
        "network = tiny()\n"
        "for _ in range(4):\n"
        "    prove(network)\n"
        "    for kept in Path(os.environ['FEATCACHE_HOME']).glob('graphs/[0-9a-f]*'):\n"
        "        shutil.rmtree(kept, ignore_errors=True)\n"
        "prove(network)\n"
    )
    runs = [
        subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for run in runs:
        _, errors = run.communicate(timeout=240)
        assert run.returncode == 0, errors
    network = tiny()
    prove(network)
    assert prove(without_keras(network)).from_kept
    assert len(kept_files(home)) == 3


def test_a_home_that_cannot_be_written_costs_only_time(home, network):
    """Where the home is a file, the run works, keeps nothing and says so."""
    home.write_text("not a folder")
    proven = prove(network)
    assert "could not be kept" in proven.remarks[0]
    assert proven.parities[0] <= 1e-5


def test_gc_deletes_what_was_not_used_for_a_month(home, network):
    """A graph used today stays; one of 31 days ago goes, and so do drafts of dead processes."""
    prove(network)
    (home / "graphs" / ".tmp-dead").mkdir()
    assert delete_unused_graphs() == (0, 0)
    past = time.time() - 31 * 86_400
    for folder in home.glob("graphs/*"):
        os.utime(folder, (past, past))
    os.utime(home / "graphs" / ".tmp-dead", (past, past))
    prove(without_keras(network))
    assert delete_unused_graphs() == (1, 0)  # the draft; the graph was used just now
    os.utime(next(home.glob("graphs/*")), (past, past))
    count, size = delete_unused_graphs()
    assert count == 1
    assert size > 5_000
    assert kept_files(home) == []


def test_gc_leaves_the_users_own_files_in_the_home(home, network, tmp_path):
    """What is old in graphs/ and notes/ and not ours by name and content stays; no link is
    followed.
    """
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "graph.xml").write_bytes(b"<?xml")
    prove(network)
    kept = next(path for path in home.glob("graphs/*") if path.is_dir())
    (home / "notes").mkdir(exist_ok=True)
    own = {
        "notes/thesis.txt": b"mine",
        f"notes/{'0' * 64}.note": b"not a record",
        "graphs/mine/graph.xml": b"<?xml",
        f"graphs/{'1' * 64}/mine.txt": b"mine",
        f"graphs/{kept.name}/mine.txt": b"mine",
    }
    for name, content in own.items():
        (home / name).parent.mkdir(exist_ok=True)
        (home / name).write_bytes(content)
    (home / "graphs" / ("2" * 64)).symlink_to(outside)
    past = time.time() - 31 * 86_400
    for path in home.rglob("*"):
        os.utime(path, (past, past), follow_symlinks=False)
    assert delete_unused_graphs()[0] == 1  # the note of the network's rounding
    assert all((home / name).read_bytes() == content for name, content in own.items())
    (kept / "mine.txt").unlink()
    os.utime(kept, (past, past))
    assert delete_unused_graphs()[0] == 1
    assert not kept.exists()
    assert (outside / "graph.xml").read_bytes() == b"<?xml"


def test_only_a_home_of_its_own_gets_a_tag(home, network):
    """Backup programs may leave a folder of kept graphs out, but not one with a user's files."""
    prove(network)
    assert (home / "CACHEDIR.TAG").read_bytes().startswith(b"Signature: 8a477f597d28d172789f06886")
    (home / "CACHEDIR.TAG").unlink()
    (home / "thesis.txt").write_text("mine")
    for folder in home.glob("graphs/*"):
        shutil.rmtree(folder)
    prove(network)
    assert not (home / "CACHEDIR.TAG").exists()


def unconvertible() -> Network:
    """A network with a step that TensorFlow has and OpenVINO has not."""
    import tensorflow

    keras = import_keras()
    backbone = find_backbone("efficientnet_lite0")
    pixels = keras.Input((*SIZE, 3))
    middle = keras.layers.Lambda(
        lambda x: tensorflow.ensure_shape(
            tensorflow.numpy_function(lambda a: a + np.float32(1), [x], "float32"), x.shape
        ),
        output_shape=(*SIZE, 3),
    )(pixels)
    base = keras.Model(pixels, keras.layers.GlobalAveragePooling2D()(middle))
    scaled = keras.layers.Rescaling(1 / 128, offset=-127 / 128)(pixels)
    model = keras.Model(pixels, base(scaled))
    tap = Tap("", "avg", (3,), "0" * 64)
    return Network(backbone, "none", SIZE, (tap,), lambda: Built(model, base))


def test_a_network_that_openvino_cannot_run_goes_to_tensorflow(home):
    """Under auto TensorFlow takes its place and the choice says why; asked for, it is an error."""
    network = unconvertible()
    proven = prove(network, "auto")
    assert proven.runtime.name == "tensorflow"
    assert proven.runtime.choice.startswith("auto: TensorFlow, since OpenVINO cannot convert")
    with pytest.raises(FeatcacheError, match="cannot convert efficientnet_lite0"):
        prove(network, "openvino")
    assert kept_files(home) == []


def test_a_graph_that_differs_from_keras_is_not_used(home, network):
    """A graph with another scaling than Keras's own fails its proof and is not kept."""
    wrong = Built(network.base, network.base)  # no scaling at all before the network
    other = (Tap("", "avg", (64,), "1" * 64),)
    broken = replace(network, taps=other, build=lambda: wrong)
    with pytest.raises(FeatcacheError, match="does not agree with the live Keras"):
        prove(broken)
    assert kept_files(home) == []


@pytest.mark.skipif("bfloat16" not in available_precisions(), reason="this CPU has no bfloat16")
def test_reduced_precision_is_measured_not_bounded(bfloat16, home, network):
    """In bfloat16 the error against float32 is measured, kept, and larger than rounding."""
    first = prove(network, precision="bfloat16", runtime="openvino")
    second = prove(without_keras(network), precision="bfloat16", runtime="openvino")
    assert 1e-5 < first.parities[0] < 0.2
    assert second.parities == first.parities
