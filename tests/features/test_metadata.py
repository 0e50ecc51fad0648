"""What else a manifest knows of images is kept as text, selected and grouped by, and never lost."""

from __future__ import annotations

import csv
import json
import pickle
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from made_features import RECIPE, make_images
from typer.testing import CliRunner

import featcache
from featcache.cli import app
from featcache.errors import FeatcacheError
from featcache.features.cache import FeatureCache
from featcache.features.features import open_features
from featcache.features.store.recipe_store import RecipeStore
from featcache.features.store.records import Block, Identity, Stamp
from featcache.images import find_images

WIDTH = 6
LITE = ("--backbone", "efficientnet_lite0", "--size", "32")


def make(cache: Path, metadata: dict[str, list[str]], *, count: int = 6) -> Path:
    """A file of features of some rows with metadata; gives back its path."""
    keys = np.array([f"{number:064x}".encode() for number in range(count)], "S64")
    rows = np.random.default_rng(1).standard_normal((count, WIDTH)).astype("<f4")
    views, none = np.zeros(count, np.int32), np.full(count, -1, np.int32)
    names = [f"{number:03d}.png" for number in range(count)]
    store = RecipeStore(FeatureCache.place(cache / "photos", RECIPE, "lite0"), RECIPE.to_json())
    stamp = Stamp('{"numpy": "2"}', np.ones((8, WIDTH), np.float32))
    sizes = np.full((count, 2), 8, np.int32)
    store.commit(Block(rows, keys, views, names, sizes, []), stamp)
    store.pack(
        Identity(names, keys, views, none, [], none, [], none, [], [], metadata=metadata), stamp
    )
    assert store.verify() == []
    return store.packed_path


COLUMNS = {
    "site": ["Rome", "Oslo", "Rome", "", "Oslo", "Oslo"],
    "note": ['é,\n"x"', "", "=1+1", " spaced ", "x" * 400, "0"],
    "empty": [""] * 6,
    "Größe/µm": ["1", "2", "3", "4", "5", "6"],
}


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    return open_features(make(tmp_path_factory.mktemp("meta"), COLUMNS))


def test_columns_come_back_as_they_were(features) -> None:
    """Any text, in any number of columns, under any name."""
    assert list(features.metadata) == list(COLUMNS)
    assert {name: column.tolist() for name, column in features.metadata.items()} == COLUMNS
    assert len(features.metadata) == 4
    assert "site" in features.metadata
    assert "Site" not in features.metadata


@pytest.mark.parametrize("rows", [slice(2, 5), [5, 0, 0], np.arange(6) % 2 == 0, slice(0, 0), 3])
def test_selections_have_their_own(features, rows) -> None:
    """Slices, masks and numbers take the metadata along, through a pickle too."""
    chosen = features[rows]
    for each in (chosen, pickle.loads(pickle.dumps(chosen))):
        for name, column in COLUMNS.items():
            wanted = np.atleast_1d(np.array(column)[rows])
            assert each.metadata[name].tolist() == wanted.tolist()


def test_rows_are_selected_and_grouped_by_it(features) -> None:
    """`features.metadata["site"] == "Rome"` is a mask; `grouped_by` makes it the groups."""
    rome = features[features.metadata["site"] == "Rome"]
    assert rome.names.tolist() == ["000.png", "002.png"]
    grouped = features.grouped_by("site")
    assert grouped.groups.tolist() == COLUMNS["site"]
    assert pickle.loads(pickle.dumps(grouped[1:])).groups.tolist() == COLUMNS["site"][1:]
    with pytest.raises(FeatcacheError, match=r"called 'sit'; did you mean 'site'\? \(there are:"):
        _ = features.metadata["sit"]
    with pytest.raises(FeatcacheError, match="compared with the number"):
        _ = features.metadata["Größe/µm"] == 1


def test_a_data_frame_has_it(features) -> None:
    """Under names of its own, which no other column has."""
    frame = features.to_pandas()
    assert frame["metadata_site"].tolist() == COLUMNS["site"]
    assert frame.columns.tolist()[:5] == ["label", "split", "group", "view", "metadata_site"]


def test_others_read_it_with_h5py(features) -> None:
    """As docs/format.md says: codes of each column into one list of texts."""
    with h5py.File(features.path) as file:
        names, values = (file[f"metadata_{each}"].asstr()[:] for each in ("names", "values"))
        codes = file["metadata"][:, list(names).index("site")]
        assert np.append(values, "")[codes].tolist() == COLUMNS["site"]


def test_a_file_without_it_is_as_before(tmp_path) -> None:
    """No array is added where nothing is known, and reading gives none."""
    path = make(tmp_path, {})
    with h5py.File(path) as file:
        assert not [name for name in file if name.startswith("metadata")]
    found = open_features(path)
    assert dict(found.metadata) == {}
    with pytest.raises(FeatcacheError, match="none: they come from a manifest's other columns"):
        _ = found.metadata["site"]


def test_equal_input_gives_equal_bytes(tmp_path) -> None:
    """Metadata does not make a file depend on anything else."""
    one, other = (make(tmp_path / each, COLUMNS).read_bytes() for each in "ab")
    assert one == other


def test_a_damaged_byte_of_it_is_damage(tmp_path) -> None:
    """The header vouches for these arrays as for all others, and `repair` keeps the rows."""
    path = make(tmp_path, COLUMNS)
    place = path.read_bytes().index(b"Oslo")
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.seek(place)
        file.write(b"Bonn")
    with pytest.raises(FeatcacheError, match="changed or damaged"):
        open_features(path)
    store = RecipeStore(path.parent, RECIPE.to_json())
    assert store.repair().kept == 6


@pytest.fixture
def table(tmp_path) -> Path:
    """A manifest of 24 images in two classes, of two sites and six patients."""
    root = make_images(tmp_path / "slides")
    with (root / "table.csv").open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["path", "label", "Patient", "site", "group"])
        for number, name in enumerate(find_images(root, ignore=[]).names):
            site = "Rome" if number % 3 else "Oslo"
            lines.writerow([name, name.split("/")[0], f"p{number % 6}", site, f"g{number % 12}"])
    return root / "table.csv"


def run(*arguments, code: int = 0):
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == code, done.output
    return done


def test_extract_keeps_what_the_manifest_knows(table, tmp_path) -> None:
    """Columns go through extraction, info, a split and back, on the command line."""
    cache = ("--cache", tmp_path / "cache")
    run("extract", table, "--name", "slides", *LITE, *cache)
    found = featcache.load("slides", cache=tmp_path / "cache")
    assert set(found.metadata) == {"patient", "site"}
    told = json.loads(run("info", "slides", "--json", *cache).stdout)
    assert (told["metadata"], told["groups"]) == ({"patient": 6, "site": 2}, 12)
    assert "site: 2 different values" in run("info", "slides", *cache).stdout
    splits = table.parent / "splits.csv"
    making = ("--no-near", "--group-by", "patient", "--test", "0.3", "--splits", splits)
    run("split", "slides", *making, *cache)
    with splits.open(newline="") as file:
        written = {row["path"]: row for row in csv.DictReader(file)}
    sides: dict[str, set[str]] = {}
    for row in written.values():
        assert row["group"] == row["patient"]
        sides.setdefault(row["patient"], set()).add(row["split"])
    assert {len(side) for side in sides.values()} == {1}
    assert {side for each in sides.values() for side in each} == {"train", "test"}
    run("extract", splits, "--name", "slides", *LITE, *cache)
    again = featcache.load("slides", cache=tmp_path / "cache")
    assert again.groups.tolist() == [written[name]["patient"] for name in again.names]
    assert again.metadata["site"].tolist() == [written[name]["site"] for name in again.names]
    run("fit-head", "slides", "--C", "0.01", *cache)
    head = again.path.parent / "logreg.head"
    report = json.loads(run("evaluate", head, "slides", "--by", "site", "--json", *cache).stdout)
    parts = {part["name"]: part for part in report["breakdown"]["parts"]}
    assert sum(part["rows"] for part in parts.values()) == report["rows"]
    right = sum(part["accuracy"] * part["rows"] for part in parts.values())
    assert right == pytest.approx(report["accuracy"] * report["rows"])
    shown = run("evaluate", head, "slides", "--by", "group", *cache).stdout
    assert "95 % interval" in shown
    run("evaluate", head, "slides", "--by", "size", *cache, code=2)


OLD = """
import sys
from pathlib import Path
import featcache
from featcache.features.features import open_features
from featcache.features.store import RecipeStore
found = open_features(Path(sys.argv[1]))
store = RecipeStore(Path(sys.argv[1]).parent, found.recipe.to_json())
print(hasattr(found, "metadata"), len(found), found.vectors.sum(), store.verify())
"""


@pytest.mark.slow
def test_the_version_before_reads_files_with_metadata(tmp_path) -> None:
    """A reader that knows nothing of it opens, checks and verifies the file as any other."""
    before = "4bc01c0"  # the commit that came before metadata
    repository = Path(__file__).parents[2]
    old = tmp_path / "old"
    old.mkdir()
    archive = subprocess.run(
        ["git", "archive", before, "featcache"], cwd=repository, capture_output=True, check=False
    )
    if archive.returncode:
        pytest.skip("this is no clone with the history")
    subprocess.run(["tar", "x", "-C", old], input=archive.stdout, check=True)
    path = make(tmp_path / "cache", COLUMNS)
    done = subprocess.run(
        [sys.executable, "-c", OLD, path], env={"PYTHONPATH": str(old), "HOME": str(tmp_path)},
        cwd=tmp_path, text=True, capture_output=True, check=True,
    )  # fmt: skip
    wanted = open_features(path).vectors.sum()
    assert done.stdout.split() == ["False", "6", str(wanted), "[]"]
