"""No row is used unchecked, and verify tells the state of everything there is."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import featcache
from featcache.cli import app
from featcache.errors import DamagedFile, FeatcacheError
from featcache.features.features import open_features
from featcache.features.store import packed_file
from featcache.fitting.sweeping.tasks import Side, Task
from tests.made_features import ROW, damage, make_features, make_images


def run(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def made(tmp_path) -> Path:
    """The folder of sound features, with a head, in a cache."""
    folder = make_features(make_images(tmp_path / "photos"), tmp_path / "cache")
    featcache.fit_head(featcache.load(folder), head="centroid")
    return folder


@pytest.fixture
def bad(made) -> Path:
    """A `features.h5` with one flipped bit, in a row that trains and is no test row."""
    path = made / "features.h5"
    row = int(np.flatnonzero(featcache.load(made).splits == "train")[3])
    damage(path, -ROW * (24 - row) + 5, bit=6)
    return path


@pytest.mark.parametrize(
    "arguments",
    [
        ["fit-head", "FEATURES"],
        ["sweep", "FEATURES", "--heads", "ridge", "--folds", "2"],
        ["split", "FEATURES"],
        ["split", "FEATURES", "--audit"],
        ["evaluate", "HEAD", "FEATURES", "--split", "train"],
        ["predict", "HEAD", "IMAGES", "--cache", "CACHE"],
        ["verify", "FEATURES"],
    ],
    ids=lambda arguments: " ".join(arguments[:3]),
)
def test_no_verb_uses_a_damaged_row(arguments, bad):
    """A flipped bit in a row that a command uses is damage, with exit code 4, and is named."""
    images = bad.parents[3] / "photos"
    places = {"FEATURES": bad, "HEAD": bad.parent / "centroid.head", "IMAGES": images,
              "CACHE": bad.parents[2]}  # fmt: skip
    done = run(*(places.get(word, word) for word in arguments))
    assert done.exit_code == 4, done.output
    assert str(bad) in done.stderr
    assert "row" in done.stderr


def test_a_selection_checks_only_its_rows(bad):
    """Where the damaged row is not among those used, nothing is wrong."""
    features = featcache.load(bad)
    good = features[features.splits == "test"]
    assert good.vectors.shape == (6, 6)
    assert run("evaluate", bad.parent / "centroid.head", bad).exit_code == 0
    with pytest.raises(DamagedFile, match=str(bad)):
        features[3:].check()


@pytest.mark.parametrize("ask", ["vectors", "X", "maps"])
def test_arrays_are_checked_unless_told_otherwise(ask, bad):
    """Python's arrays raise on a damaged row; `check=False` hands it out."""
    with pytest.raises(DamagedFile, match="rows do not match"):
        getattr(featcache.load(bad), ask)
    assert getattr(featcache.load(bad, check=False), ask).shape == (24, 6)
    assert getattr(featcache.load(bad, check=False)[:9], ask).shape == (9, 6)


def test_exports_are_checked(bad):
    """Neither a data frame nor a tf.data.Dataset is made of a damaged row."""
    for export in ("to_pandas", "to_tf_dataset"):
        with pytest.raises(DamagedFile):
            getattr(featcache.load(bad), export)()


def test_a_row_is_read_for_its_checksum_once_in_a_process(made, monkeypatch):
    """However often a file is opened and used, a row is checked once, until the file changes."""
    read = []
    real = packed_file._checksums
    monkeypatch.setattr(
        packed_file, "_checksums", lambda vectors, rows: (read.extend(rows), real(vectors, rows))[1]
    )
    first = featcache.load(made)
    first[:10].check()
    for _ in range(3):
        assert featcache.load(made).vectors.shape == (24, 6)
        featcache.fit_head(featcache.load(made), head="centroid")
    row_count = len(read)
    assert sorted(read) == sorted(set(read))
    os.utime(made / "features.h5")
    featcache.load(made).check()
    assert len(read) == row_count + 24


def test_a_task_trusts_what_its_maker_checked_and_nothing_else(bad):
    """In another process a task does not check again, unless the file is another one by then."""
    features = open_features(bad)
    side = Side.of(features, np.arange(24))
    told = Task(bad, features.identity, "ridge", [{}], side, side, 0)
    assert side.of_file(told.open()).vectors.shape == (24, 6)
    other = Task(bad, features.identity._replace(mtime_ns=1), "ridge", [{}], side, side, 0)
    with pytest.raises(DamagedFile):
        _ = side.of_file(other.open()).vectors


def test_a_long_check_is_told(made, monkeypatch, caplog):
    """A file above a gigabyte says that it is checked, and which; a small one says nothing."""
    with caplog.at_level(logging.INFO, "featcache"):
        _ = featcache.load(made).vectors
        assert not caplog.records
        monkeypatch.setattr(packed_file, "_LONG", 24 * ROW)
        os.utime(made / "features.h5")
        _ = featcache.load(made).vectors
    assert "against their checksums" in caplog.text
    code = (
        "import sys; from featcache.features.store import packed_file; "
        "from featcache.cli import main; "
        "packed_file._LONG = 500; sys.argv[1:] = ['fit-head', sys.argv[1], '--head', 'centroid']; "
        "main()"
    )
    done = subprocess.run([sys.executable, "-c", code, made], capture_output=True, text=True)
    assert "in " + str(made / "features.h5") + " against their checksums" in done.stderr
    assert "features.h5" in caplog.text


def as_made(made: Path) -> None:
    """Everything as it was written."""


def killed(made: Path) -> None:
    """A first run was killed: parts, no `features.h5`."""
    shutil.rmtree(made.parent)
    make_features(made.parents[2] / "photos", made.parents[1], packed=False)


def repaired(made: Path) -> None:
    """`repair` put a damaged `features.h5` aside, and kept its rows in a part."""
    damage(made / "features.h5", -1)
    assert run("repair", made / "features.h5").exit_code == 0


def emptied(made: Path) -> None:
    """Nothing but the quarantine is left."""
    repaired(made)
    for path in [*(made / "parts").iterdir(), *made.glob("*.head")]:
        path.unlink()


def bad_row(made: Path) -> None:
    damage(made / "features.h5", -1)


def bad_header(made: Path) -> None:
    damage(made / "features.h5", 30)


def bad_start(made: Path) -> None:
    damage(made / "features.h5", 0)


def bad_array(made: Path) -> None:
    damage(made / "features.h5", 6000)


def bad_head(made: Path) -> None:
    damage(made / "centroid.head", -9)


def bad_part(made: Path) -> None:
    killed(made)
    damage(sorted((made / "parts").glob("p-*.h5"))[0], -1)


def lost(made: Path) -> None:
    """Not even the recipe can be told any more."""
    (made / "features.h5").chmod(0o644)
    (made / "features.h5").write_bytes(bytes(9000))


STATES = [
    (as_made, "sound", 24, 0), (killed, "interrupted", 24, 0), (repaired, "interrupted", 23, 0),
    (emptied, "empty", 0, 0), (bad_row, "damaged", 24, 4), (bad_header, "damaged", 0, 4),
    (bad_start, "damaged", 0, 4), (bad_array, "damaged", 0, 4), (bad_head, "damaged", 24, 4),
    (bad_part, "damaged", 24, 4), (lost, "damaged", 0, 4),
]  # fmt: skip


@pytest.mark.parametrize(("change", "state", "rows", "code"), STATES)
def test_the_states_that_verify_tells(change, state, rows, code, made):
    """Every state has its word and exit code, another entry is looked at all the same; gc works."""
    other = make_features(make_images(made.parents[2] / "zoo", 8), made.parents[1])
    change(made)
    done = run("verify", "--json", "--cache", made.parents[1])
    told = json.loads(done.stdout)
    first, second = told["looked_at"]
    assert (first["state"], first["rows"], done.exit_code) == (state, rows, code)
    assert (second["name"], second["state"]) == (f"zoo/{other.name}", "sound")
    assert len(told["problems"]) == (code == 4)
    shown = run("verify", "--cache", made.parents[1])
    assert shown.exit_code == code
    assert "looked at 2" in shown.stdout
    assert run("gc", "--cache", made.parents[1], "--json").exit_code == 0


@pytest.mark.parametrize(
    "change", [bad_row, bad_header, bad_start, bad_array, bad_head, bad_part, lost]
)
def test_repair_ends_where_verify_accepts(change, made):
    """Whatever was damaged: given the path of the file, repair leaves what verify accepts."""
    change(made)
    path = next(made.glob("features.h5"), None) or next((made / "parts").glob("p-*.h5"))
    assert run("repair", path).exit_code == 0
    assert run("verify", "--cache", made.parents[1]).exit_code == 0


def test_what_cannot_be_checked_is_no_damage_and_stops_nothing(made):
    """A pipe, or a file of a newer format, among the parts: said, exit code 2, others verified."""
    make_features(make_images(made.parents[2] / "zoo", 8), made.parents[1])
    os.mkfifo(made / "parts" / "p-x.h5")
    done = run("verify", "--cache", made.parents[1])
    assert done.exit_code == 2
    assert "not a regular file" in done.stderr
    assert "sound (8 rows" in done.stdout
    (made / "parts" / "p-x.h5").unlink()
    lines = (made / "features.h5").read_bytes().split(b"\n", 3)
    head = b"featcache-h5 9\n" + lines[1] + b"\n"
    newer = head + hashlib.sha256(head).hexdigest().encode() + b"\n" + lines[3]
    (made / "parts" / "p-y.h5").write_bytes(newer)
    done = run("verify", "--json", "--cache", made.parents[1])
    told = json.loads(done.stdout)
    assert (done.exit_code, told["problems"]) == (2, [])
    assert "upgrade featcache" in told["looked_at"][0]["remarks"][0]


def test_checking_nothing_is_an_error(tmp_path):
    """A missing cache is exit code 2; an empty one a sentence and 0."""
    missing = run("verify", "--cache", tmp_path / "nope")
    assert missing.exit_code == 2
    assert "nothing was checked" in missing.stderr
    empty = run("verify", "--cache", tmp_path)
    assert (empty.exit_code, empty.stdout) == (
        0,
        "the cache is empty: there was nothing to check\n",
    )


def test_a_file_outside_of_a_cache_is_verified(made, tmp_path):
    """A copy of `features.h5` under any name, and a head, by their paths."""
    copy = tmp_path / "mine.h5"
    shutil.copy(made / "features.h5", copy)
    assert run("verify", copy).exit_code == 0
    damage(copy, -1)
    assert run("verify", copy).exit_code == 4
    head = tmp_path / "mine.head"
    shutil.copy(made / "centroid.head", head)
    assert run("verify", head).exit_code == 0
    damage(head, 500)
    assert run("verify", head).exit_code == 4
    (tmp_path / "notes.txt").write_text("mine")
    assert run("verify", tmp_path / "notes.txt").exit_code == 2


@pytest.mark.parametrize("change", [killed, repaired])
def test_ls_tells_what_is_saved_and_what_finishes(change, made):
    """After a kill or a repair: the rows that are saved, "interrupted", and the command."""
    change(made)
    cache = made.parents[1]
    (row,) = json.loads(run("ls", "--json", "--cache", cache).stdout)["features"]
    assert (row["state"], row["rows"], row["width"]) == (
        "interrupted", 23 if change is repaired else 24, 6
    )  # fmt: skip
    photos = made.parents[2] / "photos"
    wanted = f"featcache extract {photos} --backbone efficientnet_lite0 --size 32 --cache {cache}"
    assert row["finish"] == wanted
    assert wanted in run("ls", "--cache", cache).stdout


def test_loading_while_packs_replace_the_file(tmp_path):
    """A file that is replaced at every look is read again, and never "does not exist"."""
    import threading

    root = make_images(tmp_path / "photos")
    folder = make_features(root, tmp_path / "cache")
    one = (folder / "features.h5").read_bytes()
    other = make_features(make_images(tmp_path / "zoo", 8), tmp_path / "cache") / "features.h5"
    two = other.read_bytes()
    done = threading.Event()

    def replace() -> None:
        while not done.is_set():
            for number, content in enumerate((one, two)):
                draft = folder / f"draft-{number}"
                draft.write_bytes(content)
                draft.replace(folder / "features.h5")

    thread = threading.Thread(target=replace)
    thread.start()
    try:
        looks = 0
        seen: set[int] = set()
        while looks < 100 or (seen != {24, 8} and looks < 5000):
            seen.add(len(open_features(folder / "features.h5")))
            looks += 1
        assert seen == {24, 8}
    finally:
        done.set()
        thread.join()
    with pytest.raises(FeatcacheError, match="does not exist"):
        open_features(folder / "nope.h5")
