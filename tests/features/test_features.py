"""Features: a thin, lazy, read-only face of the file."""

from __future__ import annotations

import mmap
import subprocess
import sys

import numpy as np
import pytest

import featcache
from featcache.errors import FeatcacheError


@pytest.fixture(scope="module")
def features(digit_features):
    return featcache.load("digits", cache=digit_features)


def test_vectors_are_a_read_only_memory_map(features):
    """Nothing is read before it is asked for, and nobody can write into the cache."""
    holder = features.vectors
    while not isinstance(holder, mmap.mmap):
        holder = holder.obj if isinstance(holder, memoryview) else holder.base
    with pytest.raises(ValueError, match="read-only"):
        features.vectors[0, 0] = 1


def test_slices_masks_and_numbers_agree(features):
    """However rows are chosen, names, labels and vectors stay together."""
    mask = features.labels == "3"
    for rows in (slice(10, 30), slice(None, None, 7), mask, np.flatnonzero(mask), [5, 2, 2]):
        chosen = features[rows]
        assert np.array_equal(chosen.names, features.names[rows])
        assert np.array_equal(chosen.vectors, features.vectors[rows])
        assert len(chosen) == len(chosen.vectors) == len(chosen.labels)
    twice = features[20:200][features.labels[20:200] == "3"][1:4]
    wanted = np.flatnonzero(mask & (np.arange(300) >= 20) & (np.arange(300) < 200))[1:4]
    assert np.array_equal(twice.vectors, features.vectors[wanted])
    assert features[7].names.tolist() == [features.names[7]]
    with pytest.raises(IndexError):
        features[np.ones(3, dtype=bool)]


def test_to_pandas_carries_the_identity(features):
    """The data frame has the paths as index, labels and splits as columns, then the vectors."""
    frame = features[:5].to_pandas()
    assert frame.index.tolist() == features.names[:5].tolist()
    assert frame["label"].tolist() == features.labels[:5].tolist()
    assert np.array_equal(frame[[f"f{n}" for n in range(1280)]].to_numpy(), features.vectors[:5])


def test_reading_a_cache_never_imports_tensorflow(digit_features):
    """Loading, slicing and checking features leaves TensorFlow and Keras out."""
    code = (
        f"import sys, featcache; f = featcache.load('digits', cache={str(digit_features)!r});"
        "f[:3].to_pandas(); f.check(); f.vectors.sum(); f.classes;"
        "print([m for m in ('tensorflow', 'keras') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_names_of_features(digits, digit_features):
    """A path, a data set, data set/backbone and any unique beginning mean the same features."""
    path = featcache.load("digits", cache=digit_features).path
    for name in (path, path.parent, "dig", "digits/eff", "digits/efficientnet_lite0",
                 f"digits/{path.parent.name}"):  # fmt: skip
        assert featcache.load(name, cache=digit_features).path.samefile(path)


def test_an_unknown_or_ambiguous_name_lists_what_there_is(digits, tmp_path):
    """Two recipes of one data set: the bare name lists both; a wrong name gives the nearest."""
    for pooling in ("avg", "max"):
        featcache.extract(
            digits / "3", backbone="efficientnet_lite0", size=32, pooling=pooling, cache=tmp_path,
            name="threes",
        )  # fmt: skip
    with pytest.raises(FeatcacheError, match=r"(?s)threes/eff.*threes/eff"):
        featcache.load("threes", cache=tmp_path)
    with pytest.raises(FeatcacheError, match="there are: threes/"):
        featcache.load("trees", cache=tmp_path)
    with pytest.raises(FeatcacheError, match="is empty"):
        featcache.load("threes", cache=tmp_path / "nothing")
