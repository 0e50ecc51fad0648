"""How processes end before their time: stopped, killed, or with nowhere to print to."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from featcache.fitting.fit_head import fit

COMMAND = [sys.executable, "-m", "featcache"]


def alive(group: int) -> list[int]:
    """The processes of a group that still run."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            state = (place / "stat").read_text().rsplit(")", 1)[1].split()
        except OSError:  # it has just ended
            continue
        if int(state[2]) == group and state[0] != "Z":
            found.append(int(place.name))
    return found


def wait_for(condition, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.1)
    return condition()


IN_A_THREAD = """
import sys, threading, featcache
def sweep():
    featcache.sweep(featcache.load("digits", cache=sys.argv[1]), heads=["dense", "svm"], jobs=2)
thread = threading.Thread(target=sweep)
thread.start()
thread.join()
"""


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(
            [*COMMAND, "sweep", "digits", "--heads", "dense,svm", "--jobs", "2", "--cache"]
        ),
        pytest.param([sys.executable, "-c", IN_A_THREAD], marks=pytest.mark.slow),
    ],
)
def test_workers_end_with_a_killed_sweep(command, digit_features):
    """Kill -9 on a sweep with two workers leaves no process, also when a thread called it."""
    nowhere = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    sweep = subprocess.Popen([*command, str(digit_features)], start_new_session=True, **nowhere)
    assert wait_for(lambda: len(alive(sweep.pid)) >= 4, 60)
    sweep.kill()
    sweep.wait()
    # Within 3 s; the rest is for a machine that is busy with other tests.
    assert wait_for(lambda: not alive(sweep.pid), 30)


def catches(process: int, number: int) -> bool:
    """Whether a process has a handler for a signal."""
    status = Path(f"/proc/{process}/status").read_text()
    (mask,) = (line.split()[1] for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(int(mask, 16) >> (number - 1) & 1)


@pytest.mark.parametrize(("number", "seconds"), [(signal.SIGTERM, 0.3), (signal.SIGINT, 0.6)])
def test_a_signal_outside_the_loop_ends_in_order(number, seconds, digits, digit_features, tmp_path):
    """While `predict` imports or computes: a sentence, one JSON object, exit code 130, no draft."""
    head = tmp_path / "d.head"
    import featcache

    fit(featcache.load("digits", cache=digit_features), head="centroid", out=str(head), seed=0,
        sample_weight=None, calibrate=False, say=print)  # fmt: skip
    out = tmp_path / "out" / "p.csv"
    command = [*COMMAND, "predict", head, digits, "--out", out, "--json", "--cache", tmp_path / "c"]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    # On a busy machine it takes a while until it listens.
    assert wait_for(lambda: run.poll() is not None or catches(run.pid, signal.SIGTERM), 60)
    time.sleep(seconds)
    run.send_signal(number)
    stdout, stderr = run.communicate()
    assert "Traceback" not in stderr
    if run.returncode != 0:  # it may have been done by then
        assert run.returncode == 130
        assert "error: interrupted" in stderr
        assert json.loads(stdout)["exit_code"] == 130
        assert not out.exists()
    assert not list(tmp_path.rglob(".tmp-*"))


@pytest.mark.parametrize("arguments", [["ls"], ["ls", "--json"], ["--help"], ["ls", "--help"]])
def test_a_full_stdout_has_its_exit_code(arguments, tmp_path):
    """What cannot be printed is an input/output error: exit code 5 and a sentence."""
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([*COMMAND, *arguments], stdout=full, stderr=subprocess.PIPE,
                              cwd=tmp_path, text=True, check=False)  # fmt: skip
    assert done.returncode == 5
    assert done.stderr.count("\n") == 1
    assert "No space left" in done.stderr


def test_a_reader_that_has_gone_is_no_error(tmp_path):
    """`featcache backbones | head -1` says nothing and exits 0."""
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [*COMMAND, "backbones"], stdout=write, stderr=subprocess.PIPE, check=False
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (0, b"")
