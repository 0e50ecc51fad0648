"""Options that several commands share; those of an extraction come from their one description."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, get_origin

import typer

from featcache.errors import FeatcacheError
from featcache.extraction.options import ExtractionOptions
from featcache.options import Option, check_values, flag, kinds_of, options_in


def path(text: str) -> Path:
    """A folder to write to, as a path; see `folder`."""
    return Path(folder(text))


def folder(text: str) -> str:
    """A folder to write to: "", which `Path` takes for the current one, is a mistake."""
    if not text:
        raise typer.BadParameter("the name is empty: write . for the current folder")
    return text


Images = Annotated[
    str, typer.Argument(help="A folder, a CSV manifest (path,label,split,group), or one image.")
]
FeaturesName = Annotated[
    str, typer.Argument(help="A name such as photos or photos/vgg16, or a path.")
]
HeadFile = Annotated[str, typer.Argument(help="A head that fit-head saved.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
Plots = Annotated[
    str | None, typer.Option(help="Draw the report into this folder, as PNG files.", parser=folder)
]


def _typer_option(name: str, option: Option, panel: str | None = None) -> Any:
    """An option as typer has it; a switch has no opposite."""
    return typer.Option(
        *([flag(name)] if option.kind is bool else []),
        help=option.help,
        min=option.least,
        show_default=option.shown or True,
        envvar=option.variable or None,
        rich_help_panel=panel,
    )


def _shared(name: str) -> Any:
    return _typer_option(name, options_in(ExtractionOptions)[name])


Cache = Annotated[str | None, _shared("cache")]
Weights = Annotated[str | None, _shared("weights")]
Scale = Annotated[str | None, _shared("scale")]
TrustModel = Annotated[bool, _shared("trust_model")]
Batch = Annotated[int | None, _shared("batch")]
Threads = Annotated[int | None, _shared("threads")]
MaxPixels = Annotated[int, _shared("max_pixels")]
TestFrom = Annotated[str | None, _shared("test_from")]
FollowLinks = Annotated[bool, _shared("follow_symlinks")]
Folders = Annotated[str | None, _shared("folders")]
SplitsFromFolders = Annotated[bool, _shared("splits_from_folders")]
Ignore = Annotated[list[str] | None, _shared("ignore")]
Pages = Annotated[str, _shared("pages")]

MAX_PIXELS: int = options_in(ExtractionOptions)["max_pixels"].default

#: Options that are lists, one entry an image: a manifest has them.
LISTS = ("labels", "splits", "groups")


def with_options(
    described: type,
    *,
    but: Collection[str] = LISTS,
    before: Mapping[str, str] | None = None,
    panels: Mapping[type, str] | None = None,
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A command takes the options of a description, and is called with those that were given.

    `but` names what it does not take. In its help they stand before its keywords (those after the
    ``*``); `before` puts one before another, and `panels` gives groups of them a heading.
    """
    options = {name: each for name, each in options_in(described).items() if name not in but}
    headed = {name: panel for group, panel in (panels or {}).items() for name in options_in(group)}
    parameters = [_parameter(name, each, headed.get(name)) for name, each in options.items()]

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(function)
        def command(ctx: typer.Context, **values: Any) -> None:
            asked = {name: values.pop(name) for name in options}
            given = {name: value for name, value in asked.items() if _is_given(ctx, name)}
            if "size" in given:
                given["size"] = parse_size(given["size"])
            check_values(options, given, flag)
            function(**values, **given)

        signature = _signature(function, parameters, before or {})
        command.__signature__ = signature  # type: ignore[attr-defined]
        return command

    return decorate


def _parameter(name: str, option: Option, panel: str | None) -> inspect.Parameter:
    """An option as a parameter that typer reads: a number, a switch, or text to be parsed."""
    kinds = [each for each in kinds_of(option.kind) if each is not NoneType]
    kind: Any = kinds[0] if kinds in ([bool], [int], [float]) else str
    if get_origin(kinds[0]) is Sequence:
        kind = list[str]
    if NoneType in kinds_of(option.kind):
        kind = kind | None
    annotation = Annotated[kind, _typer_option(name, option, panel)]
    keyword = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(name, keyword, default=option.default, annotation=annotation)


def _signature(
    function: Callable[..., None], options: list[inspect.Parameter], before: Mapping[str, str]
) -> inspect.Signature:
    """The parameters in the order of the help, and the context that tells what was given."""
    signature = inspect.signature(function, eval_str=True)
    own = [each for each in signature.parameters.values() if each.kind is not each.VAR_KEYWORD]
    after = [each for each in own if each.kind is each.KEYWORD_ONLY]
    named = {each.name: each for each in [*own[: len(own) - len(after)], *options, *after]}
    moved = {place: named.pop(name) for name, place in before.items()}
    order = [each for name in named for each in (moved.get(name), named[name]) if each]
    keyword = inspect.Parameter.KEYWORD_ONLY
    context = inspect.Parameter("ctx", keyword, annotation=typer.Context)
    return signature.replace(parameters=[each.replace(kind=keyword) for each in (context, *order)])


def _is_given(ctx: typer.Context, name: str) -> bool:
    source = ctx.get_parameter_source(name)
    return source is not None and source.name != "DEFAULT"


def parse_size(text: str) -> tuple[int, int]:
    """--size: S, or HEIGHTxWIDTH, as (height, width)."""
    match = re.fullmatch(r"([0-9]{1,6})(?:[xX]([0-9]{1,6}))?", text)
    if not match:
        raise FeatcacheError(f"--size {text!r}: expected pixels such as 224, or HEIGHTxWIDTH")
    height, width = match.groups()
    return int(height), int(width or height)
