"""An interrupted run loses nothing: real processes, real signals, byte-identical files."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

#: `featcache extract` with parts of 32 rows, so that a small data set has many of them.
SMALL_PARTS = (
    "import featcache.extraction.filling as s, featcache.extraction.pipeline as p;"
    "s.PART_ROWS = 32; p.CHUNK = 32;"
    "from featcache.cli import main; main()"
)


def command(images: Path, cache: Path) -> list[str]:
    return [
        sys.executable, "-c", SMALL_PARTS, "extract", str(images), "--backbone",
        "efficientnet_lite0", "--size", "64", "--batch", "16", "--cache", str(cache), "--json",
    ]  # fmt: skip


def parts(cache: Path) -> list[Path]:
    return sorted(cache.glob("*/*/parts/p-*.h5"))


def stop_after_first_part(images: Path, cache: Path, number: signal.Signals) -> tuple[int, str]:
    """Start an extraction, send it the signal once a new part is there; exit code and stderr."""
    before = len(parts(cache))
    run = subprocess.Popen(command(images, cache), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                           text=True)  # fmt: skip
    deadline = time.monotonic() + 120
    while len(parts(cache)) <= before and run.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    run.send_signal(number)
    _, errors = run.communicate(timeout=120)
    return run.returncode, errors


def finish(images: Path, cache: Path) -> tuple[dict, bytes]:
    """Run to the end: its JSON and the bytes of features.h5."""
    done = subprocess.run(command(images, cache), capture_output=True, text=True, check=True)
    record = json.loads(done.stdout)
    return record, Path(record["features"]).read_bytes()


@pytest.fixture(scope="module")
def undisturbed(digits, tmp_path_factory) -> bytes:
    return finish(digits, tmp_path_factory.mktemp("undisturbed") / "cache")[1]


def test_killed_runs_resume_to_the_same_bytes(digits, cache, undisturbed):
    """SIGKILL twice, then run to the end: features.h5 is that of an undisturbed run."""
    for _ in range(2):
        code, _ = stop_after_first_part(digits, cache, signal.SIGKILL)
        assert code == -signal.SIGKILL
    saved = 32 * len(parts(cache))
    assert saved >= 64
    record, raw = finish(digits, cache)
    assert record["extracted"] <= 300 - saved
    assert raw == undisturbed
    assert parts(cache) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_request_to_stop_saves_and_says_how_to_go_on(digits, cache, undisturbed, number):
    """Ctrl-C and SIGTERM: the finished rows are saved, exit code 130, the same command goes on."""
    code, errors = stop_after_first_part(digits, cache, number)
    assert code == 130
    assert "saved" in errors
    assert "same command" in errors
    record, raw = finish(digits, cache)
    assert record["extracted"] < 300
    assert raw == undisturbed


#: `featcache` that is sent SIGTERM when it begins to import a module.
TOLD_AT_AN_IMPORT = """
import os, signal, sys
left = [sys.argv.pop(1)]

def tell(event, arguments):
    if event == "import" and arguments[0] in left:
        left.clear()
        os.kill(os.getpid(), signal.SIGTERM)

sys.addaudithook(tell)
from featcache.__main__ import main
main()
"""


def test_a_network_that_opens_is_not_waited_for(photos, cache, tmp_path):
    """SIGTERM while a network is compiled ends the run before it is compiled and proved."""
    home = tmp_path / "home"
    line = ["extract", photos, "--backbone", "efficientnet_lite0", "--size", "32", "--json"]
    done = subprocess.run(
        [sys.executable, "-c", TOLD_AT_AN_IMPORT, "openvino", *line, "--cache", cache],
        env={**os.environ, "FEATCACHE_HOME": str(home)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 130
    assert "interrupted" in json.loads(done.stdout)["error"]
    assert "Traceback" not in done.stderr
    assert not list(home.glob("graphs/*"))
    assert not list(cache.rglob("*.h5"))
