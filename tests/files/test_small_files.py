"""Files that are no files, and records that are no records: a sentence, and never a wait."""

from __future__ import annotations

import json
import os
import shutil
import struct
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save
from typer.testing import CliRunner

import featcache
from featcache.cli import app
from featcache.errors import FeatcacheError
from featcache.files.small_files import ZEROS, open_regular, parse_json, read_small, sealed
from featcache.heads.head import Head
from featcache.images import StatCache, find_images
from featcache.recipe import Recipe

LITE = ("--backbone", "efficientnet_lite0")


def run(*arguments: object):
    """A command; it ends with an exit code, whatever happens."""
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done


@pytest.fixture(scope="module")
def fitted(digit_features, tmp_path_factory) -> Path:
    """A head on the digits' features."""
    path = tmp_path_factory.mktemp("head") / "d.head"
    options = ("--head", "centroid", "--out", path, "--cache", digit_features)
    assert run("fit-head", "digits", *options).exit_code == 0
    return path


def test_small_files_are_regular_and_small(tmp_path):
    """A pipe, a device, a folder, a file that is too large are refused at once; a link is not."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_bytes(b"12345")
    (tmp_path / "link").symlink_to("file")
    began = time.monotonic()
    for path in (tmp_path / "pipe", tmp_path, Path("/dev/zero"), tmp_path / "nothing"):
        with pytest.raises(OSError, match=r"regular|directory"):
            read_small(path)
    with pytest.raises(OSError, match="more than 4 bytes"):
        read_small(tmp_path / "file", 4)
    assert read_small(tmp_path / "link", 5) == b"12345"
    with open_regular(tmp_path / "link") as file:
        assert file.read() == b"12345"
    assert time.monotonic() - began < 5
    with pytest.raises(ValueError, match="nested"):
        parse_json("[" * 200_000)


def test_a_pipe_in_the_place_of_a_record_is_not_waited_for(digit_features, tmp_path):
    """Markers, notes, caches of stamps, heads, manifests as pipes: commands end all the same."""
    cache = tmp_path / "cache"
    shutil.copytree(digit_features, cache)
    entry = next(cache.glob("digits/*-*"))
    marker, scan = cache / "digits" / "featcache.json", cache / "digits" / "scan.json.gz"
    for path in (marker, scan, entry / "weights.json", entry / "x.head"):
        path.unlink(missing_ok=True)
        os.mkfifo(path)
    assert len(StatCache.load(scan)) == 0
    centroid = ("--head", "centroid", "--out", tmp_path / "c.head")
    for arguments in (("info", "digits"), ("ls",), ("fit-head", "digits", *centroid)):
        assert run(*arguments, "--cache", cache).exit_code == 0, arguments
    os.mkfifo(tmp_path / "m.csv")
    (tmp_path / "zero.csv").symlink_to("/dev/zero")
    for images in (tmp_path / "m.csv", tmp_path / "zero.csv"):
        done = run("extract", images, *LITE, "--size", "32", "--cache", cache)
        assert done.exit_code == 5
        assert "not a regular file" in done.stderr
        assert run("split", "digits", "--splits-from", images, "--cache", cache).exit_code == 2
    for head in (entry, entry / "x.head", tmp_path / "m.csv"):
        assert run("evaluate", head, "digits", "--cache", cache).exit_code == 2
    assert run("views", tmp_path / "m.csv", "--out", tmp_path / "v.png").exit_code == 2


def crafted(path: Path, target: Path, **changes: object) -> Path:
    """A copy of a head whose record has other values, or `text`; arrays by `arrays`."""
    with safe_open(path, framework="numpy") as file:
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = dict(file.metadata())
    arrays |= changes.pop("arrays", {})
    text = changes.pop("text", None)
    metadata["head"] = text or json.dumps({**json.loads(metadata["head"]), **changes})
    metadata["digest"] = ZEROS
    target.write_bytes(sealed(save(arrays, metadata)))
    return target


CRAFTED = [
    {"text": "[" * 100_000}, {"text": "[]"}, {"text": "null"}, {"text": "{}"}, {"text": '"x"'},
    {"text": '{"kind": {}}'}, {"kind": []}, {"kind": "svm2"}, {"classes": {}}, {"classes": "ab"},
    {"classes": [1] * 10}, {"classes": ["a"] * 10}, {"settings": []}, {"settings": None},
    {"settings": {"history": 3}}, {"settings": {"history": {"loss": "x"}}},
    {"settings": {"metric": "cosine", "finetuned": []}}, {"metrics": "x"}, {"versions": []},
    {"settings": {"metric": "cosine", "parameters": 7}}, {"protocol": 3}, {"weights_hint": {}},
    {"temperature": "x"}, {"temperature": 1e400}, {"recipe": "[" * 100_000}, {"recipe": "[]"},
    {"recipe": "{}"}, {"recipe": 5}, {"arrays": {"probe": np.zeros(3)}},
    {"recipe": json.dumps({"decoding": {"size": [1, 1]}, "scaling": {}, "pipeline": 1})},
    {"arrays": {"trained_on": np.zeros((2, 2), np.uint64)}},
    {"arrays": {"model.intercept": np.zeros((0,), np.float32)}},
]  # fmt: skip


@pytest.mark.parametrize("changes", CRAFTED, ids=lambda changes: str(changes)[:40])
def test_a_crafted_head_is_refused_with_a_sentence(changes, fitted, tmp_path):
    """Whatever stands in a head: `FeatcacheError` that names the file, never another exception."""
    path = crafted(fitted, tmp_path / "crafted.head", **changes)
    with pytest.raises(FeatcacheError, match=r"crafted\.head"):
        Head.load(path)


def test_an_untouched_copy_of_a_head_is_read(fitted, tmp_path):
    """What the crafting leaves alone is a head."""
    assert Head.load(crafted(fitted, tmp_path / "same.head")).classes == Head.load(fitted).classes


@pytest.mark.parametrize("text", ["[" * 100_000, "[]", "7", "{}", '{"format": [], "version": {}}'])
def test_a_crafted_record_of_a_fine_tuning_is_refused(text, tmp_path):
    """A folder with such a finetuned.json is told as damaged, wherever it is given."""
    (tmp_path / "tuned").mkdir()
    (tmp_path / "tuned" / "finetuned.json").write_text(text)
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    tuned = tmp_path / "tuned"
    for arguments in (("layers", tuned), ("extract", tmp_path, "--backbone", tuned)):
        done = run(*arguments)
        assert done.exit_code == 2
        assert "finetuned.json" in done.stderr


@pytest.mark.parametrize("value", [[], {}, 3, None, 1e400])
def test_a_crafted_recipe_is_refused(value, digit_features):
    """Every field of a recipe has its type, or it is not a recipe."""
    values = json.loads(featcache.load("digits", cache=digit_features).recipe.to_json())
    for field in ("backbone", "layer", "weights", "runtime", "decoding", "scaling"):
        with pytest.raises(FeatcacheError):
            Recipe.from_json(json.dumps({**values, field: value}))


ARGUMENTS = [
    ("extract", "IMAGES", *LITE, "--size", "100000"), ("extract", "IMAGES", *LITE, "--size", "0"),
    ("extract", "IMAGES", *LITE, "--batch", 2**63), ("extract", "IMAGES", *LITE, "--check", 2**63),
    ("extract", "IMAGES", "--backbone", "x" * 300), ("extract", "x" * 300, *LITE),
    ("fit-head", "digits", "--seed", 2**63), ("sweep", "digits", "--jobs", 2**63),
    ("sweep", "digits", "--jobs", 2**20), ("evaluate", "x" * 300, "digits"),
    ("predict", "x" * 300, "IMAGES"), ("ls", "--cache", "x" * 300), ("repair", ""),
    ("verify", "--cache", "x" * 5000), ("dataset", "digits", "."), ("dataset", "digits", "/"),
    ("dataset", "digits", "x" * 300), ("views", "x" * 300), ("layers", "x" * 300),
    ("fit-head", "digits", "--out", "x" * 300), ("info", "\udcff" * 300), ("gc", "\udcff"),
    ("extract", "~no-such-user/x", *LITE), ("verify", "~no-such-user/x"),
    ("extract", "IMAGES", "--backbone", "~no-such-user/x.keras"),
    ("extract", "IMAGES", *LITE, "--weights", "~no-such-user/x"),
    ("split", "digits", "--splits", "x" * 300 + ".csv"), ("baseline", "IMAGES", "--size", "100000"),
]  # fmt: skip


@pytest.mark.parametrize("arguments", ARGUMENTS, ids=lambda words: " ".join(map(str, words))[:50])
def test_no_argument_gives_a_traceback(arguments, digits, digit_features, monkeypatch, tmp_path):
    """Huge numbers, long names and bytes that are no text: exit code 2 or 5 (or 0), and JSON."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FEATCACHE_DIR", str(digit_features))
    given = [str(digits / "3") if word == "IMAGES" else word for word in arguments]
    done = run(*given, "--json")
    record = json.loads(done.stdout)
    assert done.exit_code in (0, 2, 5)
    assert record.get("exit_code", 0) == done.exit_code


@pytest.mark.parametrize(
    "arguments",
    [
        ("demo", ""),
        ("dataset", "digits", ""),
        ("finetune", "photos", "--out", ""),
        ("evaluate", "photos.head", "photos", "--plots", ""),
    ],
    ids=lambda words: words[0],
)
def test_an_empty_name_is_no_folder_to_write_to(arguments, monkeypatch, tmp_path):
    """A variable of a script that is unset does not fill the current folder: exit code 2."""
    monkeypatch.chdir(tmp_path)
    done = run(*arguments)
    assert (done.exit_code, "is empty" in done.stderr) == (2, True)
    assert list(tmp_path.iterdir()) == []


def test_archives_that_cannot_be_read_are_told(tmp_path):
    """An encrypted zip, a cut one, a pipe and nothing: exit code 2, and no folder is left."""
    plain = tmp_path / "plain.zip"
    with zipfile.ZipFile(plain, "w") as archive:
        archive.writestr("x/train/cats/cat.0.jpg", b"x" * 100)
    raw = bytearray(plain.read_bytes())
    for magic, place in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        at = raw.index(magic) + place
        raw[at : at + 2] = struct.pack("<H", 1)
    (tmp_path / "encrypted.zip").write_bytes(raw)
    (tmp_path / "cut.zip").write_bytes(raw[:50])
    os.mkfifo(tmp_path / "pipe.zip")
    for name in ("encrypted.zip", "cut.zip", "pipe.zip", "nothing.zip"):
        done = run("dataset", "cats_and_dogs", tmp_path / "d", "--source", tmp_path / name)
        assert done.exit_code == 2, (name, done.stderr)
        assert not (tmp_path / "d").exists()
    done = run("dataset", "cats_and_dogs", tmp_path / "d", "--source", plain, "--json")
    assert (done.exit_code, json.loads(done.stdout)["images"]) == (0, 1)


def test_wide_manifests_are_read_in_linear_time(tmp_path):
    """20,000 columns are named in one remark, within a second or two."""
    (tmp_path / "a.png").write_bytes(b"x")
    columns = ",".join(f"c{number}" for number in range(20_000))
    (tmp_path / "m.csv").write_text(f"path,{columns}\na.png{',' * 20_000}\n")
    began = time.monotonic()
    images = find_images(tmp_path / "m.csv")
    assert time.monotonic() - began < 4
    assert "and 19,990 more" in images.remarks[0]
