"""The command line: help everywhere, one JSON object, exit codes that mean something."""

from __future__ import annotations

import csv
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from featcache.cli import app

COMMANDS = (
    "demo", "dataset", "extract", "fit-head", "baseline", "finetune", "evaluate", "sweep", "split",
    "predict", "classify", "backbones", "layers", "views", "info", "ls", "verify", "repair", "rm",
    "gc",
)  # fmt: skip
LITE = ("--backbone", "efficientnet_lite0", "--size", "32")


def run(*arguments: object):
    """A command in this process: its exit code, stdout and stderr."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def run_json(*arguments: object):
    """The one JSON object of a command, and its exit code."""
    done = run(*arguments, "--json")
    return json.loads(done.stdout), done.exit_code


def test_the_commands_are_these():
    """Every command is listed in --help, and nothing else is."""
    names = {command.name for command in app.registered_commands}
    assert names == set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_and_stands_in_the_readme(command):
    """--help explains the command, and the README names it."""
    done = run(command, "--help")
    assert done.exit_code == 0
    assert len(done.stdout) > 200
    assert f"featcache {command}" in Path(__file__).parents[2].joinpath("README.md").read_text()


def test_the_whole_story_in_json(digits, tmp_path):
    """extract, fit-head, evaluate, predict, info, ls, verify, gc: each one object, exit code 0."""
    cache = ("--cache", tmp_path / "cache")
    extracted, code = run_json("extract", digits, *LITE, *cache)
    assert code == 0
    assert {
        "features", "rows", "extracted", "reused", "failed", "failures", "seconds",
        "images_per_second", "backbone", "key", "runtime", "dim",
    } <= extracted.keys()  # fmt: skip
    assert (extracted["rows"], extracted["extracted"], extracted["dim"]) == (300, 300, 1280)
    fitted, _ = run_json("fit-head", "digits", "--C", "0.01", *cache)
    assert {"head", "accuracy", "classes", "protocol", "seconds"} <= fitted.keys()
    judged, _ = run_json("evaluate", fitted["head"], "digits", *cache)
    assert judged["accuracy"] == fitted["accuracy"]
    assert np.array(judged["confusion"]).shape == (10, 10)
    predicted, _ = run_json("predict", fitted["head"], digits / "3", "--top", 2, *cache)
    assert all(len(row["top"]) == 2 for row in predicted["predictions"])
    described, _ = run_json("info", "digits", *cache)
    assert described["key"] == extracted["key"]
    listed, _ = run_json("ls", *cache)
    assert [row["rows"] for row in listed["features"]] == [300]
    verified, code = run_json("verify", *cache)
    assert (verified["checked"], verified["problems"]) == ([listed["features"][0]["name"]], [])
    (looked,) = verified["looked_at"]
    assert (code, looked["rows"], looked["heads"]) == (0, 300, 1)
    assert run_json("gc", *cache)[1] == 0
    removed, _ = run_json("rm", "digits", "--yes", *cache)
    assert removed["removed"] == listed["features"][0]["name"]
    assert run_json("ls", *cache)[0]["features"] == []


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("extract", "EMPTY", *LITE), 2, "holds no images"),
        (("extract", "NOWHERE", *LITE), 2, "is not there"),
        (("extract", "JUNK", *LITE), 3, "not one of 2 images"),
        (("extract", "DIGITS", "--backbone", "efficientnet_lite1"), 2, "efficientnet_lite0"),
        (("extract", "DIGITS", *LITE, "--layer", "block6_ad"), 2, "block6_add"),
        (("extract", "DIGITS", *LITE, "--size", "12x"), 2, "--size"),
        (("extract", "DIGITS", *LITE, "--runtime", "torch"), 2, "tensorflow"),
        (("extract", "DIGITS", *LITE, "--precision", "int8"), 2, "--precision"),
        (
            ("extract", "DIGITS", *LITE, "--precision", "bfloat16", "--runtime", "tensorflow"),
            2,
            "--runtime openvino",
        ),
        (("extract", "DIGITS", "--backbone", "mobilenet", "--weights", "NOWHERE"), 2, "--weights"),
        (("extract", "DIGITS"), 2, ""),
        (("extract", "DIGITS", *LITE, "--bacth", "3"), 2, ""),
        (("fit-head", "nothing"), 2, "is empty"),
        (("evaluate", "NOWHERE", "nothing"), 2, "no such head"),
        (("dataset", "mnist", "EMPTY"), 2, "digits"),
        (("backbones", "--search"), 2, ""),
    ],
)
def test_wrong_input_has_an_exit_code_and_a_sentence(
    arguments, code, words, digits, tmp_path, monkeypatch
):
    """Each mistake has its own exit code and words that help, and no traceback."""
    monkeypatch.setenv("FEATCACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "empty").mkdir()
    (tmp_path / "junk").mkdir()
    for name in ("a.jpg", "b.png"):
        (tmp_path / "junk" / name).write_text(name)
    places = {"EMPTY": tmp_path / "empty", "NOWHERE": tmp_path / "nowhere",
              "JUNK": tmp_path / "junk", "DIGITS": digits}  # fmt: skip
    given = [places.get(argument, argument) for argument in arguments]
    done = run(*given)
    assert done.exit_code == code
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_a_usage_error_has_its_json_object_too():
    """Scripts that asked for JSON get an object even when an option is misspelt."""
    done = subprocess.run(
        [sys.executable, "-m", "featcache", "ls", "--jsn", "--json"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert json.loads(done.stdout)["exit_code"] == 2


def test_damage_has_exit_code_4_and_repair_heals(digits, tmp_path):
    """verify finds a flipped bit (4), repair keeps the other rows, extract computes one."""
    cache = ("--cache", tmp_path / "cache")
    record, _ = run_json("extract", digits, *LITE, *cache)
    path = Path(record["features"])
    want = path.read_bytes()
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.seek(-1280 * 4 * 5, 2)
        file.write(b"\xff\xff")
    found = run("verify", *cache)
    assert found.exit_code == 4
    assert "295" in found.stderr
    assert run_json("verify", *cache)[0]["problems"][0]["rows"] == [295]
    repaired, _ = run_json("repair", "digits", *cache)
    assert (repaired["kept"], repaired["lost"]) == (299, 1)
    again, _ = run_json("extract", digits, *LITE, *cache)
    assert again["extracted"] == 1
    assert path.read_bytes() == want
    assert run("verify", *cache).exit_code == 0


def test_predictions_as_csv_cannot_be_formulas(digits, tmp_path):
    """A file called =1+1.png is text in the CSV, and the CSV appears only when complete."""
    cache = ("--cache", tmp_path / "cache")
    run("extract", digits, *LITE, *cache)
    head = tmp_path / "d.head"
    run("fit-head", "digits", "--C", "0.01", "--out", head, *cache)
    images = tmp_path / "images"
    images.mkdir()
    for name in ("=1+1.png", "plain.png"):
        (images / name).write_bytes(next((digits / "1").iterdir()).read_bytes())
    (images / "bad.png").write_bytes(b"x")
    done = run("predict", head, images, "--top", "2", "--out", tmp_path / "p.csv", *cache)
    assert done.exit_code == 0
    with (tmp_path / "p.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["path"] for row in rows] == ["'=1+1.png", "bad.png", "plain.png"]
    assert rows[1]["failure"]
    assert rows[0]["class_1"] == rows[2]["class_1"]
    assert float(rows[0]["probability_1"]) >= float(rows[0]["probability_2"])
    done = run("predict", head, images, "--out", tmp_path / "p.json", *cache)
    assert len(json.loads((tmp_path / "p.json").read_text())) == 3
    assert run("predict", head, images, "--out", tmp_path / "p.xls", *cache).exit_code == 2
    again = tmp_path / "no" / "folder" / "p.csv"
    told, _ = run_json("predict", head, images, "--top", "2", "--out", again, *cache)
    assert told == {"out": str(again), "predicted": 2, "failed": 1, "head": str(head)}
    assert again.read_bytes() == (tmp_path / "p.csv").read_bytes()
    below_a_file = run("predict", head, images, "--out", again / "p.csv", *cache)
    assert below_a_file.exit_code == 5
    assert f"File exists: {again}. Make room" in " ".join(below_a_file.stderr.split())
    assert list(tmp_path.rglob(".tmp-*")) == []


def test_a_terminal_sees_a_live_line(digits, tmp_path):
    """On a terminal, progress shows images/s; elsewhere no control character is printed."""
    arguments = [sys.executable, "-m", "featcache", "extract", str(digits), *LITE,
                 "--cache", str(tmp_path / "cache")]  # fmt: skip
    leader, follower = pty.openpty()
    run_ = subprocess.Popen(arguments, stderr=follower, stdout=subprocess.DEVNULL)
    os.close(follower)
    seen = b""
    while True:
        try:
            piece = os.read(leader, 4096)
        except OSError:  # Linux: the other end is closed
            break
        if not piece:
            break
        seen += piece
    os.close(leader)
    assert run_.wait() == 0
    assert b"images/s" in seen
    plain = subprocess.run(arguments, capture_output=True, check=True)
    assert b"\x1b" not in plain.stderr + plain.stdout
