"""Features go to other processes as a path and row numbers."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys

import joblib
import numpy as np
import pytest
from made_features import make_features, make_images

import featcache
from featcache.errors import FeatcacheError

COLUMNS = ("names", "keys", "labels", "splits", "groups", "views", "vectors", "maps", "rows")


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """Rows that no test changes."""
    folder = tmp_path_factory.mktemp("many")
    make_features(make_images(folder / "photos", 400), folder / "cache")
    return featcache.load("photos", cache=folder / "cache")


@pytest.fixture
def features(tmp_path):
    make_features(make_images(tmp_path / "photos"), tmp_path / "cache")
    return featcache.load("photos", cache=tmp_path / "cache")


SELECTIONS = [
    slice(None), slice(3, 90), slice(None, None, 7), slice(0, 0), [5, 2, 2], [7], 9,
    np.arange(400)[::-1], np.arange(400) % 3 == 0,
]  # fmt: skip


@pytest.mark.parametrize("rows", SELECTIONS, ids=lambda rows: str(rows)[:24])
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_any_selection_is_equal_after_and_small(many, rows, protocol) -> None:
    """Every column, the vectors and the row numbers are as before; no vector travels."""
    chosen = many[rows]
    content = pickle.dumps(chosen, protocol)
    assert len(content) < 800 + 8 * len(chosen)
    after = pickle.loads(content)
    for name in COLUMNS:
        assert np.array_equal(getattr(after, name), getattr(chosen, name)), name
    assert (after.path, after.recipe, after.failures) == (
        chosen.path, chosen.recipe, chosen.failures,
    )  # fmt: skip
    assert np.array_equal(after[::2].vectors, chosen[::2].vectors)


def test_copies_are_equal(features) -> None:
    """`copy` and `deepcopy` give the same rows of the same file."""
    for each in (copy.copy(features[3:9]), copy.deepcopy(features[3:9])):
        assert np.array_equal(each.vectors, features[3:9].vectors)


def _sum(part):
    return len(part), float(part.vectors.sum()), part.labels.tolist()


def test_worker_processes_compute_with_them(features) -> None:
    """joblib's processes get the rows that were sent."""
    parts = [features[features.labels == name] for name in ("cat", "dog")]
    found = joblib.Parallel(2, backend="loky")(joblib.delayed(_sum)(part) for part in parts)
    assert found == [_sum(part) for part in parts]


def test_a_relative_cache_is_found_from_another_folder(features, tmp_path, monkeypatch) -> None:
    """The file is found wherever the other process stands, and called as before where it can be."""
    monkeypatch.chdir(tmp_path)
    found = featcache.load("photos", cache="cache")
    assert not found.path.is_absolute()
    content = pickle.dumps(found)
    assert pickle.loads(content).path == found.path
    (tmp_path / "cache.pickle").write_bytes(content)
    code = (
        "import pickle, sys; found = pickle.load(open(sys.argv[1], 'rb'));"
        "print(len(found), found.vectors.sum())"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "cache.pickle"],
        cwd="/", text=True, capture_output=True, check=True,
    ).stdout  # fmt: skip
    assert answer.split() == [str(len(found)), str(found.vectors.sum())]


def test_another_file_under_the_name_is_refused(features, tmp_path) -> None:
    """Row numbers mean other rows after the next `extract`: the pickle says so."""
    content = pickle.dumps(features[:3])
    (tmp_path / "photos" / "cat" / "00.png").unlink()
    make_features(tmp_path / "photos", tmp_path / "cache")
    with pytest.raises(FeatcacheError, match="was changed since these features were pickled"):
        pickle.loads(content)


def test_a_file_that_is_gone_is_named(features) -> None:
    """A removed file is an error by its path."""
    content = pickle.dumps(features)
    features.path.unlink()
    with pytest.raises(FeatcacheError, match=r"features\.h5 does not exist"):
        pickle.loads(content)
