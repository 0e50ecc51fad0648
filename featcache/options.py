"""Options: described once, by type, default and text, for Python and the command line alike.

    class ReadingOptions(TypedDict, total=False):
        batch: Annotated[int | None, Option(None, "Images in a network call.", least=1)]

    @takes(ReadingOptions)
    def read(images: Images, **options: Unpack[ReadingOptions]) -> Features: ...

The type checker reads the class. `takes` makes of it what `help`, a notebook and scikit-learn see,
and checks every call; `cli/options.py` makes the options of commands.
"""

from __future__ import annotations

import difflib
import functools
import inspect
import re
import textwrap
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from numbers import Integral, Real
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from featcache.errors import FeatcacheError

T = TypeVar("T", bound=Mapping[str, Any])
F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Option:
    """What is known of an option beside its name.

    Attributes
    ----------
    default: its value where it is not given; `shown` says in words what that means.
    help: what it is, in a sentence.
    least: the smallest number that it may be.
    variable: of the environment, which is asked before the default is taken.
    kind: its type.
    """

    default: Any
    help: str
    shown: str = ""
    least: int | None = None
    variable: str = ""
    kind: Any = Any

    @property
    def meant(self) -> str:
        """What holds where the option is not given; "" where that goes without saying."""
        value = "" if self.default in (None, False, "") else repr(self.default)
        return (f"${self.variable}, else " if self.variable else "") + (self.shown or value)


@functools.cache
def options_in(described: type) -> dict[str, Option]:
    """The options of a description, by name."""
    hints = get_type_hints(described, include_extras=True)
    pairs = {name: get_args(hint) for name, hint in hints.items()}
    return {name: replace(option, kind=kind) for name, (kind, option) in pairs.items()}


def complete(described: type[T], given: Mapping[str, Any]) -> T:
    """What was given, and the defaults of everything else."""
    defaults = {name: each.default for name, each in options_in(described).items()}
    return cast(T, {**defaults, **given})


def flag(name: str) -> str:
    """The name of an option on the command line."""
    return f"--{name.replace('_', '-')}"


def takes(described: type, *, values: bool = True) -> Callable[[F], F]:
    """A function or class takes the options of a description, by its signature and in its text.

    In its docstring they replace the line that begins with ``options:``. A wrong name raises
    `FeatcacheError`, with `values` a value of a wrong type too, also of its own keywords.
    """

    def decorate(taker: F) -> F:
        taker.__doc__ = _documented(taker.__doc__, options_in(described))
        if isinstance(taker, type):
            taker.__init__ = _checked(taker.__init__, described, values=values)  # type: ignore[misc]
            return cast(F, taker)
        return _checked(taker, described, values=values)

    return decorate


def _checked(function: F, described: type, *, values: bool) -> F:
    """The function, whose calls are checked against its signature with all options."""
    signature = inspect.signature(function, eval_str=True)
    own = [each for each in signature.parameters.values() if each.kind is not each.VAR_KEYWORD]
    keyword = inspect.Parameter.KEYWORD_ONLY
    added = [
        inspect.Parameter(name, keyword, default=each.default, annotation=each.kind)
        for name, each in options_in(described).items()
    ]
    signature = signature.replace(parameters=[*own, *added])
    options = {
        each.name: Option(each.default, "", kind=each.annotation)
        for each in own
        if each.kind is keyword
    } | options_in(described)
    called = f"{function.__qualname__.removesuffix('.__init__')}()"

    @functools.wraps(function)
    def checked(*args: Any, **given: Any) -> Any:
        _check_names(called, given, list(signature.parameters))
        try:
            signature.bind(*args, **given)
        except TypeError as error:
            raise FeatcacheError(f"{called}: {error}") from None
        if values:
            check_values(options, given)
        return function(*args, **given)

    checked.__signature__ = signature  # type: ignore[attr-defined]
    return cast(F, checked)


def _documented(text: str | None, options: Mapping[str, Option]) -> str | None:
    """A docstring, with the options in the place of its line ``options: ...``."""

    def listed(line: re.Match[str]) -> str:
        wrap = textwrap.TextWrapper(100, line[1], line[1] + "    ", break_on_hyphens=False)
        return "\n".join(
            wrap.fill(f"{name}: {each.help}" + (f" Default: {each.meant}." if each.meant else ""))
            for name, each in options.items()
        )

    return text and re.sub("^( *)options: .*$", listed, text, count=1, flags=re.MULTILINE)


def _check_names(called: str, given: Iterable[str], known: list[str]) -> None:
    """Raise `FeatcacheError` for a name that is not known, with the nearest one that is."""
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            there = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
            raise FeatcacheError(f"{called} has no option {name}; {there}")


def check_values(
    options: Mapping[str, Option], given: Mapping[str, Any], spelled: Callable[[str], str] = str
) -> None:
    """Raise `FeatcacheError` for a value that an option cannot have, with what it can be."""
    for name, value in given.items():
        each = options.get(name, Option(None, ""))
        too_small = each.least is not None and isinstance(value, Real) and value < each.least
        if too_small or not _fits(value, each.kind):
            raise FeatcacheError(
                f"{spelled(name)} {value!r:.80}: expected {_expected(each, value)}"
            )


def kinds_of(kind: Any) -> tuple[Any, ...]:
    """The types that a union is made of; of any other, itself."""
    return get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)


def _fits(value: Any, kind: Any) -> bool:
    """Whether a value is of a type; a whole number is a number, True is none."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return any(_fits(value, each) for each in inner)
    if origin is Literal:
        return isinstance(value, str) and value in inner
    if origin is tuple:
        fixed = isinstance(value, list | tuple) and len(value) == len(inner)
        return fixed and all(map(_fits, value, inner))
    if origin is not None:
        texts = value if inner == (str,) and isinstance(value, list | tuple) else ()
        return isinstance(value, origin) and all(isinstance(each, str) for each in texts)
    if kind in (int, float):
        return isinstance(value, Integral if kind is int else Real) and not isinstance(value, bool)
    return kind is Any or isinstance(value, kind)


_WORDS: dict[Any, str] = {
    bool: "True or False", int: "a whole number", float: "a number", str: "text", Path: "a path",
    tuple: "two whole numbers", Callable: "a function",
}  # fmt: skip


def _expected(option: Option, value: Any) -> str:
    """What a value may be, in words; and the choice that a wrong word is near to."""
    least = "" if option.least is None else f" of at least {option.least}"
    words: list[str] = []
    choices: list[str] = []
    for kind in kinds_of(option.kind):
        if get_origin(kind) is Literal:
            choices += get_args(kind)
        elif kind is NoneType:
            words.append(f"None ({option.meant})" if option.meant else "None")
        else:
            words.append(_WORDS.get(get_origin(kind) or kind, "a list") + least)
    words = [*map(repr, choices), *words]
    near = difflib.get_close_matches(value, choices, n=1) if isinstance(value, str) else []
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return " or ".join([", ".join(words[:-1]), words[-1]] if words[:-1] else words) + hint
