"""Grids: the settings that a sweep compares for each kind of head, the simplest first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from featcache.errors import FeatcacheError
from featcache.heads import HEADS

Settings = dict[str, Any]

#: Of equals the first wins, so each grid goes from simple to flexible.
GRIDS: dict[str, list[Settings]] = {
    "centroid": [{}],
    "ridge": [{}],
    "logreg": [{"C": C} for C in (0.0001, 0.001, 0.01, 0.1, 1.0)],
    "svm": [{"C": C} for C in (0.0001, 0.001, 0.01)],
    "knn": [{"neighbors": neighbors} for neighbors in (20, 5, 1)],
    "dense": [{}],
}
#: Heads that are swept where none are named; the others take longer, or rarely win.
USUAL = ("centroid", "ridge", "logreg", "knn")


def choose_grids(
    heads: Sequence[str] | None, Cs: Sequence[float] | None
) -> dict[str, list[Settings]]:
    """The settings to compare, by kind of head; `Cs` replaces the grids of heads that have a C.

    Raises `FeatcacheError` where a head is not known, or a C is not above 0.
    """
    names = list(dict.fromkeys(heads or [name for name in USUAL if name in HEADS]))
    unknown = [name for name in names if name not in HEADS]
    if unknown:
        raise FeatcacheError(
            f"--heads {', '.join(unknown)}: there is no such head; there are: {', '.join(HEADS)}"
        )
    bad = [C for C in Cs or () if not 0 < C < float("inf")]
    if bad:
        raise FeatcacheError(f"--C {bad[0]:g}: expected numbers above 0, such as 0.001,0.01,0.1")
    grids = {name: GRIDS.get(name, [{}]) for name in names}
    if Cs:
        ours = [{"C": C} for C in sorted(set(Cs))]
        grids = {name: ours if "C" in grid[0] else grid for name, grid in grids.items()}
        if ours not in grids.values():
            raise FeatcacheError(f"--C: none of {', '.join(names)} has this option; logreg has")
    return grids


def words_of(settings: Settings) -> str:
    """Settings as a person writes them: "C=0.01"."""
    return " ".join(
        f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}"
        for name, value in settings.items()
    )
