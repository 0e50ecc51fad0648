"""Nothing phones home: no connection is attempted, and no file of others appears in HOME."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.finetuning.tuning_samples import save_network, striped

#: Noted in the process and its children, forked or not: `sitecustomize` is read by every Python.
WATCH = """
import os, sys

def note(event, arguments):
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg", "socket.getaddrinfo",
                 "socket.gethostbyname"):
        file = os.open(os.environ["WATCHED"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(file, f"{event} {arguments!r}\\n".encode())
        os.close(file)

sys.addaudithook(note)
"""

#: What OpenVINO's telemetry takes for a machine that builds software, where it holds still.
BUILDERS = ("CI", "TF_BUILD", "JENKINS_URL")

#: Our own, Keras's settings, matplotlib's list of fonts.
EXPECTED = {
    "featcache/graphs", "featcache/notes", "featcache/CACHEDIR.TAG", ".keras/keras.json",
    ".cache/matplotlib",
}  # fmt: skip

ATTEMPT = """
import multiprocessing, pathlib, socket

def attempt():
    (pathlib.Path.home() / "traces").touch()
    socket.socket().connect_ex(("127.0.0.1", 9))

process = multiprocessing.get_context("fork").Process(target=attempt)
process.start()
process.join()
"""

COMMANDS = """
import shlex, sys
from featcache.cli import app
for line in sys.argv[1:]:
    assert not app(shlex.split(line), standalone_mode=False), line
"""

#: Threads, a worker of joblib, the conversion of Keras's own export; then others' imports.
DOORS = """
import sys
from concurrent.futures import ThreadPoolExecutor
import joblib, numpy
from featcache.backbones.keras_import import import_keras
from featcache.runtimes.openvino_import import import_openvino
from featcache.runtimes.choice import available_precisions

class Early:  # another program's, imported before
    pass

sys.modules["openvino_telemetry"] = Early
with ThreadPoolExecutor(4) as threads:
    found = {module.result() for module in [threads.submit(import_openvino) for _ in range(4)]}
assert found == {sys.modules["openvino"]} and sys.modules["openvino_telemetry"] is Early
del sys.modules["openvino_telemetry"]
import openvino_telemetry.main  # can be imported again
precisions = joblib.Parallel(2)(joblib.delayed(available_precisions)() for _ in range(2))
assert precisions == [available_precisions()] * 2
keras = import_keras()
model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(2, 3)])
model.export(sys.argv[1], format="openvino", verbose=False)
"""


def watched(tmp_path: Path, code: str, *arguments: object) -> tuple[list[str], set[str]]:
    """Run Python in a fresh HOME that no machine of builders has: connections, and what is in HOME.

    Connections of compiled code are seen where there is strace.
    """
    home, hook = tmp_path / "home", tmp_path / "hook"
    home.mkdir()
    hook.mkdir()
    (hook / "sitecustomize.py").write_text(WATCH)
    kept = {k: v for k, v in os.environ.items() if k not in BUILDERS and not k.startswith("XDG_")}
    environment = {
        **kept,
        "HOME": str(home),
        "FEATCACHE_HOME": str(home / "featcache"),
        "WATCHED": str(tmp_path / "python"),
        "PYTHONPATH": os.pathsep.join([str(hook), *filter(None, [os.environ.get("PYTHONPATH")])]),
    }
    line = [*_strace(tmp_path / "system"), sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(line, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    seen = [log.read_text() for log in (tmp_path / "python", tmp_path / "system") if log.exists()]
    files = [path.relative_to(home) for path in home.rglob("*") if path.is_file()]
    return "".join(seen).splitlines(), {"/".join(path.parts[:2]) for path in files}


def _strace(log: Path) -> list[str]:
    """The beginning of a command line that notes connections, where the system permits it."""
    tracing = ["strace", "-f", "--seccomp-bpf", "-qq", "-e", "signal=none",
               "-e", "trace=connect,sendto,sendmsg"]  # fmt: skip
    if shutil.which("strace") is None:
        return []
    tried = subprocess.run([*tracing, "true"], capture_output=True, check=False)
    return [*tracing, "-o", str(log)] if tried.returncode == 0 else []


def test_an_attempt_is_seen(tmp_path):
    """The watch itself sees a forked child's connection, each way, and what it left in HOME."""
    attempts, files = watched(tmp_path, ATTEMPT)
    ways = {"connect(" in attempt for attempt in attempts}
    assert ways == ({True, False} if _strace(tmp_path / "log") else {False})
    assert all("127.0.0.1" in attempt for attempt in attempts)
    assert files == {"traces"}


def test_extract_and_classify_stay_at_home(tmp_path, photos):
    """Converting and running a network attempts no connection and leaves HOME as it was."""
    network = "--backbone efficientnet_lite0"
    attempts, files = watched(
        tmp_path,
        COMMANDS,
        f"extract {photos} {network} --size 32 --cache {tmp_path}/cache",
        f"classify {photos}/temple/00.jpg {network}",
    )
    assert attempts == []
    assert "featcache/graphs" in files
    assert files <= EXPECTED


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # by Keras
def test_finetune_stays_at_home(tmp_path):
    """Fine-tuning, too, and the extraction with what comes out of it."""
    images, cache = striped(tmp_path / "images", (16, 16)), f"--cache {tmp_path}/cache"
    network = f"--backbone {save_network(tmp_path / 'small.keras')} --trust-model --scale 0..1"
    attempts, files = watched(
        tmp_path,
        COMMANDS,
        f"finetune {images} {network} {cache} --epochs 1 --out {tmp_path}/tuned",
        f"extract {images} --backbone {tmp_path}/tuned --trust-model {cache}",
    )
    assert attempts == []
    assert "featcache/graphs" in files
    assert files <= EXPECTED


def test_every_door_is_shut(tmp_path):
    """In threads, in workers and in Keras's own export, and others can import what they like."""
    attempts, files = watched(tmp_path, DOORS, tmp_path / "exported.xml")
    assert attempts == []
    assert files <= EXPECTED
