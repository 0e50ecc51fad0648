"""What a run was bound by: shares that add up, and name the right culprit."""

from __future__ import annotations

import time

import pytest

import featcache
from featcache.extraction.timing import Timing


def test_shares_add_up_and_name_the_largest():
    """Waiting for images is split by what the threads were busy with; nothing is counted twice."""
    timing = Timing(
        {"network": 2.0, "writing": 1.0, "images": 4.0, "reading": 1.0, "decoding": 3.0}
    )
    bound = timing.bound(10.0)
    assert sum(bound.shares.values()) == pytest.approx(1)
    assert bound.shares == pytest.approx(
        {"network": 0.2, "writing": 0.1, "reading": 0.1, "decoding": 0.3, "the rest": 0.3}
    )
    assert bound.by == "decoding"
    assert "--threads" in bound.advice


def test_time_is_added_from_many_blocks():
    """Two blocks of one name are one sum."""
    timing = Timing()
    for _ in range(2):
        with timing.measure("network"):
            time.sleep(0.02)
    assert 0.04 <= timing.seconds["network"] < 1


def test_a_slow_disk_is_found_out(photos, cache, monkeypatch):
    """Where every read takes long, the run says that it was bound by reading."""
    from featcache.images import ImageSet

    real = ImageSet.read
    monkeypatch.setattr(ImageSet, "read", lambda *a: time.sleep(0.1) or real(*a))
    features = featcache.extract(photos, backbone="efficientnet_lite0", size=32, cache=cache)
    bound = features.run.bound
    assert bound.by == "reading"
    assert bound.shares["reading"] > 0.3
    assert (
        featcache.extract(photos, backbone="efficientnet_lite0", size=32, cache=cache).run.bound
        is None
    )
