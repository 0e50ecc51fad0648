"""What a note tells of a network, looked at value by value: a right checksum can be forged."""

from __future__ import annotations

import re
from typing import Any, get_args

from featcache.backbones.network import Tap
from featcache.recipe import LARGEST_SIDE, Pooling

_SHA256 = re.compile("[0-9a-f]{64}")


def noted_tap(noted: dict[str, Any]) -> Tap:
    """The tap that `asdict` wrote; raises `ValueError`, or what JSON of other types brings."""
    tap = Tap(**{**noted, "row_shape": noted_sides(noted["row_shape"])})
    if not isinstance(tap.layer, str) or tap.pooling not in get_args(Pooling):
        raise ValueError(f"no tap: {tap!r:.200}")
    if not _SHA256.fullmatch(tap.weights):
        raise ValueError(f"no digest: {tap.weights!r:.80}")
    return tap


def noted_sides(noted: list[Any]) -> tuple[int, ...]:
    """Whole numbers of pixels or values; raises `ValueError` for anything else."""
    sides = tuple(noted)
    if not sides or not all(type(side) is int and 1 <= side <= LARGEST_SIDE**2 for side in sides):
        raise ValueError(f"no sides: {sides!r:.80}")
    return sides
