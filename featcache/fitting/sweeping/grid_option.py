"""`--grid HEAD:OPTION=V1,V2`: the settings that a sweep compares, as words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from typing import Any, get_args, get_origin, get_type_hints

from featcache.errors import FeatcacheError
from featcache.fitting.sweeping.grids import GRIDS, HeadSettings
from featcache.heads.kinds import HEADS, options_of

_SWITCH = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


def parse_grids(texts: Sequence[str], Cs: Sequence[float] | None) -> dict[str, list[HeadSettings]]:
    """The settings of each head that is named: all combinations of its options' values.

    Options that are not named keep the values of the usual grid; `Cs` stands for its values of C.
    The last option varies fastest, so those of the usual grid stay together.

    Raises `FeatcacheError` for an unknown head or option, or a value that cannot be.
    """
    named: dict[str, dict[str, list[Any]]] = {}
    for text in texts:
        head, option, values = _parse(text)
        if option in named.setdefault(head, {}):
            raise FeatcacheError(f"--grid {text}: {head}:{option} is given twice; join the values")
        named[head][option] = values
    return {head: _combined(axes, _usual(head, Cs)) for head, axes in named.items()}


def _parse(text: str) -> tuple[str, str, list[Any]]:
    """HEAD:OPTION=V1,V2 as head, option and checked values."""
    head, _, rest = text.partition(":")
    option, _, listed = rest.partition("=")
    words = [word.strip() for word in listed.split(",") if word.strip()]
    if not words or not option:
        raise FeatcacheError(
            f"--grid {text!r}: expected HEAD:OPTION=V1,V2, such as dense:hidden=64,1024x64"
        )
    head, option = head.strip(), option.strip().replace("-", "_")
    try:
        values = [_value(head, option, word) for word in words]
        for value in values:
            options_of(head, {option: value})
    except FeatcacheError as error:
        raise FeatcacheError(f"--grid {text}: {error}") from error
    return head, option, values


def _value(head: str, option: str, word: str) -> Any:
    """A word as the type that the head's option has; `options_of` refuses what has none."""
    hint = get_type_hints(HEADS[head].options).get(option) if head in HEADS else None
    kinds = get_args(hint) or (hint,)
    if type(None) in kinds and word == "none":
        return None
    if any(get_origin(kind) is Sequence for kind in kinds):
        return _units(word)
    return _READERS.get(kinds[0], str)(word)


def _switch(word: str) -> bool:
    if word.lower() not in _SWITCH:
        raise FeatcacheError(f"{word}: expected true or false")
    return _SWITCH[word.lower()]


def _whole(word: str) -> int:
    try:
        return int(word)
    except ValueError as error:
        raise FeatcacheError(f"{word}: expected a whole number") from error


def _number(word: str) -> float:
    try:
        return float(word)
    except ValueError as error:
        raise FeatcacheError(f"{word}: expected a number") from error


_READERS: dict[Any, Callable[[str], Any]] = {bool: _switch, int: _whole, float: _number}


def _units(word: str) -> tuple[int, ...]:
    """Layers: 1024x64 are two, none is none."""
    if word == "none":
        return ()
    try:
        return tuple(int(piece) for piece in word.split("x"))
    except ValueError as error:
        raise FeatcacheError(
            f"{word}: expected the units of each layer, such as 64 or 1024x64, or none"
        ) from error


def _usual(head: str, Cs: Sequence[float] | None) -> dict[str, list[Any]]:
    """The values of each option in the usual grid of a head."""
    axes: dict[str, list[Any]] = {}
    for settings in GRIDS[head]:
        for name, value in settings.items():
            axes.setdefault(name, []).append(value)
    if Cs is not None and "C" in axes:
        axes["C"] = sorted(set(Cs))
    return axes


def _combined(named: dict[str, list[Any]], usual: dict[str, list[Any]]) -> list[HeadSettings]:
    own = {name: values for name, values in named.items() if name not in usual}
    axes = own | usual | {name: named[name] for name in usual if name in named}
    return [dict(zip(axes, values, strict=True)) for values in product(*axes.values())]
