"""A backbone that was used before: neither TensorFlow nor Keras is imported."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from featcache import extract

HEAVY = ("tensorflow", "keras", "openvino")
COMMAND = (
    "import sys, json\n"
    "from featcache.cli import app\n"
    "sys.exit(code) if (code := app(sys.argv[1:], standalone_mode=False)) else None\n"
    f"print(json.dumps([name for name in {HEAVY} if name in sys.modules]))\n"
)


def featcache(*arguments: object) -> tuple[dict, list[str]]:
    """Run a command in a process of its own: its JSON, and which heavy packages it imported."""
    line = [sys.executable, "-c", COMMAND, *map(str, arguments), "--json"]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    *record, heavy = done.stdout.splitlines()
    return json.loads("".join(record)), json.loads(heavy)


@pytest.fixture
def own_home(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("FEATCACHE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_only_the_first_run_needs_keras(photos, cache, own_home, photographs):
    """First run: Keras. One more image: OpenVINO alone. Nothing new: no runtime at all."""
    extract = ("extract", photos, "--backbone", "efficientnet_lite0", "--size", 64,
               "--cache", cache, "--runtime", "openvino")  # fmt: skip
    first, heavy = featcache(*extract)
    assert (first["extracted"], heavy) == (48, list(HEAVY))
    Image.fromarray(photographs[0][::-1]).save(photos / "temple" / "new.png")
    second, heavy = featcache(*extract)
    assert (second["extracted"], second["reused"], heavy) == (1, 48, ["openvino"])
    assert second["probe_error"] == first["probe_error"]
    third, heavy = featcache(*extract)
    assert (third["extracted"], third["reused"], heavy) == (0, 49, [])
    assert third["key"] == first["key"]

    head, _ = featcache("fit-head", "photos", "--cache", cache)
    Image.fromarray(photographs[1][::-1]).save(photos.parent / "one.png")
    answer, heavy = featcache("predict", head["head"], photos.parent / "one.png", "--cache", cache)
    assert (answer["failed"], heavy) == (0, ["openvino"])


def forge(path: Path, change: dict) -> None:
    """Other values in a record of the home, behind a right checksum."""
    record = json.loads(path.read_bytes().split(b"\n", 1)[1])
    text = json.dumps({**record, **change}).encode()
    path.write_bytes(hashlib.sha256(text).hexdigest().encode() + b"\n" + text)


TAP = {"layer": "", "pooling": "avg", "row_shape": [1280], "weights": "0" * 64}


@pytest.mark.parametrize(
    ("proof", "tap", "rounding"),
    [
        ({"files": 3}, {**TAP, "row_shape": [[1, 2, 3]]}, []),
        ({"parities": []}, {**TAP, "weights": 7}, {"x": 1}),
        ({"versions": [1], "probes": []}, {**TAP, "pooling": {}}, ["nan"]),
    ],
)
def test_a_forged_home_costs_time_alone(proof, tap, rounding, photos, cache, own_home):
    """Notes and proofs of other types or lengths behind right checksums are made again."""
    small = photos / "flower"
    options = {"backbone": "efficientnet_lite0", "size": 32, "runtime": "openvino"}
    first = extract(small, cache=cache, **options)
    forge(next(own_home.glob("graphs/*/proof")), proof)
    for note in own_home.glob("notes/*.note"):
        key = "roundings" if b'"roundings"' in note.read_bytes() else "networks"
        forge(note, {key: rounding if key == "roundings" else [[tap]]})
    again = extract(small, cache=cache.parent / "another", **options)
    assert again.path.read_bytes() == first.path.read_bytes()
