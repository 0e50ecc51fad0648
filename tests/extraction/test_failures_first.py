"""Failures committed before any network ran do not stand in the way of later rows."""

from __future__ import annotations

import pytest

import featcache
from featcache.errors import ImageFailure


def test_a_folder_of_junk_can_be_healed(photos, tmp_path, cache):
    """After a run in which every image failed, good images are extracted as in a fresh cache."""
    root = tmp_path / "set"
    root.mkdir()
    for number in range(3):
        (root / f"junk{number}.jpg").write_text(f"junk {number}")
    options = {"backbone": "efficientnet_lite0", "size": 32}
    with pytest.raises(ImageFailure):
        featcache.extract(root, cache=cache, **options)
    (photos / "temple" / "00.jpg").rename(root / "good.jpg")
    healed = featcache.extract(root, cache=cache, **options)
    assert (len(healed), len(healed.failures)) == (1, 3)
    fresh = featcache.extract(root, cache=tmp_path / "fresh", **options)
    assert healed.path.read_bytes() == fresh.path.read_bytes()
