"""Grids: the settings that a sweep compares for each kind of head, the simplest first.

On the command line: `--grid HEAD:OPTION=V1,V2`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import groupby, product
from typing import Any, get_args, get_origin, get_type_hints

from featcache.errors import FeatcacheError
from featcache.heads.kinds import HEADS, options_of

HeadSettings = dict[str, Any]

#: Of equals the first wins, so each grid goes from simple to flexible.
GRIDS: dict[str, list[HeadSettings]] = {
    "centroid": [{}],
    "ridge": [{}],
    "logreg": [{"C": C} for C in (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)],
    "svm": [{"C": C} for C in (0.0001, 0.001, 0.01)],
    "knn": [{"neighbors": neighbors} for neighbors in (20, 5, 1)],
    "dense": [{}],
}
#: Heads that are swept where none are named; the others take longer, or rarely win.
USUAL = ("centroid", "ridge", "logreg", "knn")
#: By kind of head, the option whose values cost little more than one of them.
TOGETHER = {"logreg": "C", "knn": "neighbors"}

_SWITCH = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


def choose_grids(
    heads: Sequence[str] | None,
    Cs: Sequence[float] | None,
    grids: Mapping[str, Sequence[HeadSettings]] | None = None,
) -> dict[str, list[HeadSettings]]:
    """The settings to compare, by kind of head.

    `grids` holds whole settings, for heads that are named in `heads` or not; `Cs` replaces the
    usual grids of the other heads that have a C.

    Raises `FeatcacheError` where a head or an option is not known, or a value cannot be.
    """
    own = {head: list(grid) for head, grid in (grids or {}).items()}
    names = list(dict.fromkeys([*(USUAL if heads is None else heads), *own]))
    _check_names(names)
    chosen = {name: own.get(name, GRIDS.get(name, [{}])) for name in names}
    if Cs is not None:
        chosen |= _with_Cs(chosen, Cs) | own
    for name, grid in chosen.items():
        _check_grid(name, grid)
    return chosen


def pieces_of(head: str, grid: Sequence[HeadSettings]) -> list[list[HeadSettings]]:
    """The grid, in its order, in pieces whose settings are tried together."""
    together = TOGETHER.get(head)

    def others(settings: HeadSettings) -> HeadSettings:
        return {name: value for name, value in settings.items() if name != together}

    return [list(piece) for _, piece in groupby(grid, key=others)]


def is_one_apart(grid: Sequence[HeadSettings], name: str) -> bool:
    """Whether all settings have this option, and nothing else tells them apart."""
    return all(name in settings for settings in grid) and all(
        {**settings, name: None} == {**grid[0], name: None} for settings in grid
    )


def label_of(head: str, settings: HeadSettings) -> str:
    """What tells a candidate from the others, as a person writes it: "dense hidden=1024x64"."""
    return " ".join([head, *(f"{name}={_value_words(each)}" for name, each in settings.items())])


def _value_words(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return "x".join(map(str, value)) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _with_Cs(
    grids: dict[str, list[HeadSettings]], Cs: Sequence[float]
) -> dict[str, list[HeadSettings]]:
    """The grids of heads that have a C, with these values."""
    bad = [C for C in Cs if not 0 < C < float("inf")]
    if bad:
        raise FeatcacheError(f"--C {bad[0]:g}: expected numbers above 0, such as 0.001,0.01,0.1")
    if not len(Cs):
        raise FeatcacheError("--C: no number was given; expected some, such as 0.001,0.01,0.1")
    having = [name for name, grid in grids.items() if any("C" in settings for settings in grid)]
    if not having:
        raise FeatcacheError(f"--C: none of {', '.join(grids)} has this option; logreg has")
    return {name: [{"C": C} for C in sorted(set(Cs))] for name in having}


def _check_names(names: list[str]) -> None:
    unknown = [name for name in names if name not in HEADS]
    if unknown:
        raise FeatcacheError(
            f"--heads {', '.join(map(str, unknown))}: there is no such head; there are: "
            f"{', '.join(HEADS)}"
        )
    if not names:
        raise FeatcacheError(f"--heads: no head was named; there are: {', '.join(HEADS)}")


def _check_grid(head: str, grid: Sequence[HeadSettings]) -> None:
    if not grid:
        raise FeatcacheError(
            f"the grid of {head} is empty: give at least one setting, such as {{}}"
        )
    for settings in grid:
        try:
            options_of(head, settings)
        except (FeatcacheError, TypeError) as error:
            raise FeatcacheError(f"the grid of {head}: {error}") from error


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
    kind = next((Sequence for each in kinds if get_origin(each) is Sequence), kinds[0])
    read, expected = _READERS.get(kind, (str, "a text"))
    try:
        return read(word)
    except (ValueError, KeyError) as error:
        raise FeatcacheError(f"{word}: expected {expected}") from error


def _units(word: str) -> tuple[int, ...]:
    """Layers: 1024x64 are two, none is none."""
    return () if word == "none" else tuple(int(piece) for piece in word.split("x"))


#: By the type of an option: how a word is read, and what is expected of it.
_READERS: dict[Any, tuple[Callable[[str], Any], str]] = {
    bool: (lambda word: _SWITCH[word.lower()], "true or false"),
    int: (int, "a whole number"),
    float: (float, "a number"),
    Sequence: (_units, "the units of each layer, such as 64 or 1024x64, or none"),
}


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
