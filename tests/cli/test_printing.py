"""What other people's names do to the terminal, to JSON and to CSV: nothing."""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from featcache.cli import app
from featcache.cli.console import json_text, printable
from featcache.images import find_images
from featcache.images.csv_cells import csv_line, guarded, unguarded
from featcache.images.manifest import read_manifest

#: Moves the cursor, colours, breaks the line, is a C1 control, turns the direction of writing.
EVIL = ("a\x1b[2Jb", "a\nerror: b", "a\rb", "a\x9b31mb", "a\u202egnp.b", "a\u2028b", "a\x7fb")
RAW = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def featcache(*arguments: object):
    """A command's exit code, and what leaves it by stdout and by stderr."""
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.stdout, done.stderr


def in_its_own_process(*arguments: str):
    """The same where the arguments themselves are wrong, which ends before a command begins."""
    command = [sys.executable, "-m", "featcache", *arguments]
    done = subprocess.run(command, capture_output=True, check=False)
    return done.returncode, done.stdout.decode("utf-8"), done.stderr.decode("utf-8")


@pytest.fixture(scope="module")
def evil(digits, tmp_path_factory):
    """Images in classes and files of such names, and formulas; their cache and a head on them."""
    place = tmp_path_factory.mktemp("evil")
    for number, name in enumerate((*EVIL, "=1+1", "+1", "-1", "@x", "\tx", "'=1", "'tis")):
        folder = place / "images" / name
        folder.mkdir(parents=True)
        for copy, source in enumerate(sorted((digits / str(number % 10)).iterdir())[:4]):
            (folder / f"{name}{number // 10}{copy}.png").write_bytes(
                source.read_bytes() + bytes([number])
            )
    (place / "images" / "broken\nerror: x.png").write_bytes(b"no image")
    lite = ("--backbone", "efficientnet_lite0", "--size", "32")
    code, out, err = featcache("extract", place / "images", *lite, "--cache", place / "cache")
    assert code == 0, err
    assert not RAW.search(out + err)
    assert not re.search(r"^error: ", err, re.MULTILINE)
    code, out, err = featcache(
        "fit-head", "images", "--C", "0.01", "--cache", place / "cache", "--out", place / "h.head"
    )
    assert code == 0, err
    return place


def test_no_name_reaches_the_terminal_raw(evil):
    """Commands print no control or direction character of a name, and no line that a name made."""
    cache = ("--cache", evil / "cache")
    for arguments in (
        ("info", "images"), ("ls",), ("evaluate", evil / "h.head", "images"),
        ("predict", evil / "h.head", evil / "images"), ("split", "images"),
        ("split", "images", "--audit"), ("extract", evil / "images", "--backbone", EVIL[1]),
        ("info", EVIL[1]), ("rm", EVIL[0]), ("predict", EVIL[1], EVIL[0]),
        ("sweep", "images", "--grid", EVIL[1]),
    ):  # fmt: skip
        _, out, err = featcache(*arguments, *cache)
        assert not RAW.search(out + err), (arguments, out + err)
        assert "\nerror: b" not in "\n" + out + err, arguments
    for words in ((EVIL[0],), ("ls", EVIL[1]), ("ls", f"--{EVIL[4]}", "--json")):
        code, out, err = in_its_own_process(*words)
        assert code == 2
        assert not RAW.search(out + err), (words, out + err)
        assert "Traceback" not in err, words
    _, out, _ = featcache("predict", evil / "h.head", evil / "images", *cache)
    assert len(out.splitlines()) == 4 * 14


def test_json_is_safe_on_a_terminal_and_means_the_same(evil):
    """--json leaves no raw control or direction character; parsed, every name is exact."""
    for arguments in (("info", "images"), ("predict", evil / "h.head", evil / "images")):
        code, out, _ = featcache(*arguments, "--cache", evil / "cache", "--json")
        assert code == 0
        assert not RAW.search(out)
        record = json.loads(out)
    names = {prediction["path"] for prediction in record["predictions"]}
    assert names == set(find_images(evil / "images").names)
    code, out, _ = featcache("info", "\udcff", "--json")
    assert (code, RAW.search(out)) == (2, None)
    assert "\\udcff" in json.loads(out)["error"]


def test_letters_of_all_languages_stay_as_they_are():
    """Only what moves, hides or breaks is escaped: umlauts, Greek and emoji are shown."""
    for text in ("Größe", "猫", "Ωμέγα", "🐈", "naïve café", "a'b\"c\\n"):
        assert printable(text) == text
        assert text[:2] in json_text({"name": text})
        assert json.loads(json_text({"name": text})) == {"name": text}
    for text in (*EVIL, "\udcff", "\U000e0001"):
        assert not RAW.search(printable(text) + json_text(text))
        assert json.loads(json_text(text)) == text


def test_a_split_file_is_read_back_exactly(evil, tmp_path):
    """`split --splits` of any names is CSV without formulas; as a manifest it gives the same."""
    cache = ("--cache", evil / "cache")
    path = evil / "images" / "splits.csv"
    code, _, err = featcache("split", "images", "--no-near", "--splits", path, *cache)
    assert code == 0, err
    with path.open(newline="", encoding="utf-8") as file:
        cells = [cell for row in csv.reader(file, strict=True) for cell in row]
    assert not [cell for cell in cells if cell[:1] in ("=", "+", "-", "@", "\t", "\r", "\n")]
    rows = read_manifest(path, follow_symlinks=False).rows
    images = find_images(evil / "images")
    wanted = dict(zip(images.names, images.labels, strict=True))
    read = {row.name: row.label for row in rows}
    assert read == {name: wanted[name] for name in read}
    assert len(read) == 4 * 14
    again = ("split", "images", "--splits-from", path, "--audit", "--json", *cache)
    assert featcache(*again)[0] == 0
    path.unlink()


def test_predictions_as_csv_are_read_back_exactly(evil, tmp_path):
    """`predict --out` of any names is CSV without formulas; `unguarded` gives the names again."""
    code, _, err = featcache("predict", evil / "h.head", evil / "images", "--out",
                             tmp_path / "p.csv", "--cache", evil / "cache")  # fmt: skip
    assert code == 0, err
    with (tmp_path / "p.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file, strict=True))
    assert sorted(unguarded(row["path"]) for row in rows) == find_images(evil / "images").names
    assert {unguarded(row["class_1"]) for row in rows} <= {*find_images(evil / "images").labels, ""}


@pytest.mark.parametrize("text", [*EVIL, "", "=", "'=x", "''=x", "'tis", "-1", " x ", "a;b", 'a"b'])
def test_cells_come_back(text):
    """Whatever a cell holds, reading gives what was written, and no cell begins a formula."""
    line = csv_line([guarded(text), "b"])
    ((cell, other),) = csv.reader(io.StringIO(line, newline=""), strict=True)
    assert (unguarded(cell), other) == (text, "b")
    assert cell[:1] not in ("=", "+", "-", "@", "\t", "\r", "\n")
