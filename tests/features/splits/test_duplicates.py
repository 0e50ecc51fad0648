"""Near duplicates are found without comparing everything, and none is missed."""

from __future__ import annotations

import numpy as np
import pytest

from featcache.errors import FeatcacheError
from featcache.features.splits import duplicates
from featcache.features.splits.duplicates import near_pairs


def brute(vectors: np.ndarray, threshold: float) -> set[tuple[int, int]]:
    """All pairs by the whole matrix of cosines."""
    lengths = np.linalg.norm(vectors.astype(float), axis=1)
    cosines = (vectors.astype(float) @ vectors.T.astype(float)) / np.outer(lengths, lengths)
    return {(a, b) for a, b in np.argwhere(cosines >= threshold).tolist() if a < b}


@pytest.fixture
def vectors():
    """600 vectors of 200 numbers, some of which are others with a little noise."""
    random = np.random.default_rng(0)
    strangers = np.maximum(random.normal(0.2, 1, (500, 200)), 0)
    copies = (
        strangers[:100] * random.uniform(0.5, 2, (100, 1))
        + random.normal(0, 1, (100, 200)) * np.linspace(0, 0.6, 100)[:, np.newaxis]
    )
    return np.concatenate([strangers, copies]).astype(np.float32)


@pytest.mark.parametrize("small", [0, duplicates.SMALL])
@pytest.mark.parametrize("threshold", [0.7, 0.9, 0.98])
def test_no_pair_is_missed_and_none_invented(vectors, threshold, small, monkeypatch):
    """The pairs and their cosines are those of the whole matrix, by few directions or by all."""
    monkeypatch.setattr(duplicates, "SMALL", small)
    expected = brute(vectors, threshold)
    assert len(expected) > 10
    monkeypatch.setattr(duplicates, "BLOCK", 128)
    monkeypatch.setattr(duplicates, "READ", 100)
    found = near_pairs(vectors, threshold)
    assert {tuple(pair) for pair in found.rows.tolist()} == expected
    one, two = vectors[found.rows[:, 0]], vectors[found.rows[:, 1]]
    cosines = (one * two).sum(axis=1) / np.linalg.norm(one, axis=1) / np.linalg.norm(two, axis=1)
    assert np.allclose(found.similarity, cosines, atol=1e-5)


@pytest.mark.parametrize("small", [0, duplicates.SMALL])
def test_half_precision_zero_rows_and_single_rows_are_fine(vectors, small, monkeypatch):
    """float16 finds the copies; rows of zeros are like nothing; one row has no partner."""
    monkeypatch.setattr(duplicates, "SMALL", small)
    short = vectors.astype(np.float16)
    short[7] = short[9] = 0
    assert (0, 500) in {tuple(pair) for pair in near_pairs(short, 0.99).rows.tolist()}
    assert 7 not in near_pairs(short, 0.01 + 0.9).rows
    assert len(near_pairs(vectors[:1])) == len(near_pairs(vectors[:0])) == 0
    assert len(near_pairs(np.eye(3, 5, dtype=np.float32), 0.5)) == 0
    tiny = near_pairs(vectors * np.float32(1e-12), 0.98)
    assert np.array_equal(tiny.rows, near_pairs(vectors, 0.98).rows)


def test_a_threshold_that_tells_nothing_is_refused(vectors, monkeypatch):
    """Out of range, or so low that everything is alike."""
    for threshold in (0, 1.1, -1, float("nan")):
        with pytest.raises(FeatcacheError, match="--near"):
            near_pairs(vectors, threshold)
    monkeypatch.setattr(duplicates, "MOST", 1000)
    with pytest.raises(FeatcacheError, match="--no-near"):
        near_pairs(vectors, 0.1)


@pytest.mark.parametrize("width", [8, 3000])
def test_rows_that_are_not_finite_are_like_nothing(width):
    """Infinite and missing numbers neither warn nor hide the pairs of the other rows."""
    rows = np.random.default_rng(0).standard_normal((1500, width)).astype(np.float32)
    rows[1] = rows[0]
    rows[10, 3], rows[11, 3], rows[12] = np.inf, np.nan, 3e38
    assert [0, 1] in near_pairs(rows).rows.tolist()
    assert not set(near_pairs(rows).rows.ravel().tolist()) & {10, 11, 12}


def test_a_search_can_be_bounded():
    """More pairs to look at than were allowed is an error, however many of them are near."""
    rows = np.ones((100, 8), np.float32)
    assert len(near_pairs(rows, looks=5000)) == 4950
    with pytest.raises(FeatcacheError, match="more than 4,000 pairs to look at"):
        near_pairs(rows, looks=4000)
