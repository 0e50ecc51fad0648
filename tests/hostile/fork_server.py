"""A process that runs featcache commands, each in a forked child: some 50 ms a command, not 2 s.

    python fork_server.py [MODULE[:FUNCTION] ...]     to import and call once, before any command

It reads one JSON request a line from stdin (`argv`, `cwd`, `env`, `timeout`) and answers with one
line: `code`, `stdout`, `stderr` (hex) and `late`. A command that is not done in time (that of other
processes on its cores not counted) gets SIGTERM, and a while later SIGKILL: its code is then -9.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import typer

#: What a command may allocate, in bytes: a careless allocation is a traceback, not a full machine.
MEMORY = 12 << 30
#: Seconds from SIGTERM to SIGKILL.
PATIENCE = 30
LIGHT = (
    "featcache.extraction.extract", "featcache.evaluation.audit", "featcache.fitting.baseline",
    "featcache.heads.imagenet", "featcache.images.datasets", "featcache.evaluation.evaluate",
    "featcache.finetuning.finetune", "featcache.heads.head", "featcache.evaluation.plots.reports",
    "featcache.features.splits.division", "featcache.fitting.sweeping.sweep",
    "sklearn.linear_model",
)  # fmt: skip
#: OpenVINO through our door: one that came another way writes its statistics into HOME.
HEAVY = (
    *LIGHT, "sklearn.svm", "sklearn.neighbors", "tensorflow", "keras",
    "featcache.runtimes.openvino_import:import_openvino",
)  # fmt: skip


class Done(NamedTuple):
    """How a command ended; `late` says that it was not done in time."""

    code: int
    stdout: bytes
    stderr: bytes
    late: bool


class ForkServer:
    """The process, from outside."""

    def __init__(self, modules: tuple[str, ...] = LIGHT) -> None:
        quiet = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, __file__, *modules],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=quiet, start_new_session=True,
        )  # fmt: skip

    def run(
        self, *argv: str | bytes, cwd: Path, env: dict[str, str] | None = None, timeout: float = 60
    ) -> Done:
        """`featcache ARGV` in a folder, to its end."""
        request = {
            "argv": [os.fsencode(each).hex() for each in argv],
            "cwd": str(cwd), "env": env or {}, "timeout": timeout,
        }  # fmt: skip
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        self._process.stdin.flush()
        code, stdout, stderr, late = json.loads(self._process.stdout.readline())
        return Done(code, bytes.fromhex(stdout), bytes.fromhex(stderr), late)

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


def serve() -> None:
    """Answer requests until stdin ends."""
    for name in ("featcache.__main__", "featcache.cli", *sys.argv[1:]):
        module, _, function = name.partition(":")
        imported = importlib.import_module(module)
        if function:
            getattr(imported, function)()
    # Once, for the caches of typing and what typer imports only when it parses: 0.1 s a command.
    typer.main.get_command(sys.modules["featcache.cli"].app).make_context("featcache", ["ls"])
    gc.freeze()  # a child's collections would copy all pages of the modules
    for line in sys.stdin:
        print(json.dumps(_answer(json.loads(line))), flush=True)


def _answer(request: dict[str, Any]) -> tuple[int, str, str, bool]:
    with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        child = os.fork()
        if child == 0:
            _become_the_command(request, stdout, stderr)
        code, late = _wait(child, request["timeout"])
        return code, _content(stdout), _content(stderr), late


def _content(file: BinaryIO) -> str:
    file.seek(0)
    return file.read().hex()


def _wait(child: int, timeout: float) -> tuple[int, bool]:
    """Exit code (minus the signal's number) and whether the child had to be asked to end."""
    deadlines = [(timeout, signal.SIGTERM), (timeout + PATIENCE, signal.SIGKILL)]
    began, late = time.monotonic(), False
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            break
        if deadlines and time.monotonic() - began - _starved(child) > deadlines[0][0]:
            os.kill(child, deadlines.pop(0)[1])
            late = True
        time.sleep(0.002)
    with contextlib.suppress(ProcessLookupError):  # what it left behind, if anything
        os.killpg(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(status), late


def _starved(child: int) -> float:
    """Seconds that a process waited for a core, where the system tells: busy is not hanging."""
    waits = [0.0]
    for thread in Path(f"/proc/{child}/task").glob("*/schedstat"):
        with contextlib.suppress(OSError):  # it has ended
            waits.append(int(thread.read_text().split()[1]) / 1e9)
    return max(waits)


def _become_the_command(request: dict[str, Any], stdout: BinaryIO, stderr: BinaryIO) -> None:
    """What `python -m featcache` does, from parsing to the exit code; never returns."""
    null = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((null, 0), (stdout.fileno(), 1), (stderr.fileno(), 2)):
        os.dup2(source, target)
    os.setsid()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    sys.argv = ["featcache", *(os.fsdecode(bytes.fromhex(each)) for each in request["argv"])]
    code = 1
    try:
        sys.modules["featcache.__main__"].main()
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        _flush_and_end(code)


def _flush_and_end(code: int) -> None:
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


if __name__ == "__main__":
    serve()
