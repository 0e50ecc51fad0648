"""Roles: which rows train, stop and judge."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from featcache.features.rows import Labelled
from featcache.features.splits.roles import assign_roles


def rows(labels: list[str], splits: list[str]) -> Labelled:
    """Rows of different images with these labels and splits."""
    numbers = np.arange(len(labels))
    return Labelled(
        path=Path("photos"),
        names=np.char.add("i", numbers.astype(str)),
        keys=np.array([f"{number:064x}" for number in numbers.tolist()]),
        labels=np.array(labels),
        splits=np.array(splits),
        groups=np.full(len(labels), ""),
        views=np.zeros(len(labels), np.int32),
    )


def test_a_class_that_cannot_be_learned_does_not_stop():
    """Validation rows of a class without training rows stop nothing, and are not counted."""
    labels = ["cat", "dog"] * 4 + ["cat", "dog", "owl"] + ["cat", "dog"]
    splits = ["train"] * 8 + ["validation"] * 3 + ["test"] * 2
    roles = assign_roles(rows(labels, splits), 0, stopped=True)
    assert np.flatnonzero(roles.stop).tolist() == [8, 9]
    assert "validation split (2 rows) stopped the training" in roles.protocol


def test_rows_that_stop_are_used_up_unless_they_may_judge():
    """Held-back training rows count as used; the file's own validation split does not."""
    own = rows(["cat", "dog"] * 8, ["train"] * 8 + ["validation"] * 4 + ["test"] * 4)
    roles = assign_roles(own, 0, stopped=True)
    assert roles.used(own).tolist() == [True] * 8 + [False] * 8
    held = rows(["cat", "dog"] * 40, [""] * 80)
    roles = assign_roles(held, 0, stopped=True)
    assert roles.stop.any()
    assert np.array_equal(roles.used(held), roles.train | roles.stop)
