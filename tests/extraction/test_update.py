"""The identity of rows: a carved test split is the same for every file of one run."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np

from featcache.extraction.update import identify
from featcache.features.splits.partition import Carve
from featcache.images import find_images


def test_a_carved_split_keeps_groups_and_does_not_depend_on_the_rows_there():
    """Groups stay whole, and a file that lacks rows has the same test images among the others."""
    pixels = np.random.default_rng(0).integers(0, 255, (60, 2, 2, 3), dtype=np.uint8)
    images = replace(
        find_images(pixels),
        labels=["cat", "dog"] * 30,
        splits=["train"] * 10 + ["validation"] * 50,
        groups=["", *[f"animal {number // 4}" for number in range(59)]],
    )
    keys = np.array([hashlib.sha256(each.tobytes()).hexdigest() for each in pixels], "S64")
    keys[59] = b""  # never read

    def splits(indices: np.ndarray) -> dict[str, str]:
        views = np.zeros(len(indices), np.int32)
        carve = Carve("validation", 0.4)
        found = identify(images, keys, (indices, views), failures=[], carve=carve)
        names = [*found.split_names, ""]
        return dict(zip(found.paths, [names[code] for code in found.splits], strict=True))

    every = splits(np.arange(60))
    some = splits(np.arange(0, 60, 3))
    assert some.items() <= every.items()
    assert every[images.names[59]] == "validation"
    carved = np.array([every[name] for name in images.names])
    assert set(carved) == {"train", "validation", "test"}
    for group in set(images.groups[10:59]):
        mine = (np.array(images.groups) == group) & (np.arange(60) >= 10) & (np.arange(60) < 59)
        assert len(set(carved[mine])) == 1
