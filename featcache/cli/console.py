"""What commands print: results to stdout, everything else to stderr; one JSON object on request."""

from __future__ import annotations

import functools
import json
import logging
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from typing import TYPE_CHECKING, Any, ParamSpec, TextIO

import typer

from featcache.errors import FeatcacheError

if TYPE_CHECKING:
    from featcache.images import ImageSet

P = ParamSpec("P")

#: Rows of the table of classes and splits that are printed.
COUNTED = 40

#: Exit code after Ctrl-C or SIGTERM.
INTERRUPTED = 128 + signal.SIGINT

_answered = False
_diverted: list[TextIO] = []


def command(function: Callable[P, None]) -> Callable[P, None]:
    """A command whose known errors become one message and DESIGN's exit code.

    Anything that is not a `FeatcacheError` is our bug and keeps its traceback.
    """

    @functools.wraps(function)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
        as_json = bool(kwargs.get("json"))
        try:
            # stdout is for our one object: what a library prints there goes to stderr.
            with _library_output_on_stderr() if as_json else nullcontext():
                function(*args, **kwargs)
        except FeatcacheError as error:
            fail(str(error), error.exit_code, as_json=as_json)
        except KeyboardInterrupt as stop:
            message = str(stop) or "interrupted; run the same command to go on"
            fail(message, INTERRUPTED, as_json=as_json)
        except BrokenPipeError:
            # The reader (head, less) has gone: nothing is wrong, and nobody is left to tell.
            sys.stderr.close()
            raise typer.Exit(0) from None

    return guarded


@contextmanager
def _library_output_on_stderr() -> Iterator[None]:
    _diverted.append(sys.stdout)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        _diverted.pop()


def fail(message: str, exit_code: int, *, as_json: bool) -> None:
    """Say what went wrong and leave with the exit code."""
    typer.secho("error: ", fg="red", bold=True, err=True, nl=False)
    typer.echo(printable(message, keep="\n"), err=True)
    if as_json:
        answer({"error": message, "exit_code": exit_code})
    raise typer.Exit(exit_code)


def answer(record: dict[str, Any]) -> None:
    """The one JSON object of a command with --json."""
    global _answered
    _answered = True
    text = json.dumps(record, ensure_ascii=False, default=str, allow_nan=False)
    typer.echo(text, file=_stdout())


def _stdout() -> TextIO:
    """Where stdout led before `command` turned it away."""
    return _diverted[-1] if _diverted else sys.stdout


def report_usage_error(code: object, arguments: list[str]) -> None:
    """With --json, even a wrong option gets its JSON object (the words are on stderr)."""
    if code == 2 and "--json" in arguments and not _answered:
        answer({"error": "wrong usage: see stderr", "exit_code": 2})


def say(text: str) -> None:
    """A remark for the person who waits: stderr."""
    typer.echo(printable(text, keep="\n"), err=True)


class _Saying(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        say(record.getMessage())


def hear_library() -> None:
    """Say what the library logs, such as that a check of a large file has begun."""
    log = logging.getLogger("featcache")
    log.setLevel(logging.INFO)
    log.addHandler(_Saying())


def say_counts(images: ImageSet) -> None:
    """How many images each class has in each split, before a wait begins."""
    say(f"{images.name}: {len(images):,} images")
    for split, label, count in images.rows()[:COUNTED]:
        say(f"  {split or '-':<12}{label or '(no label)':<24}{count:>8,}")


def show(text: str) -> None:
    """A result: stdout."""
    typer.echo(printable(text, keep="\n"))


def table(rows: Iterable[tuple[object, ...]], heading: tuple[str, ...]) -> None:
    """Plain aligned columns on stdout; numbers to the right."""
    cells = [heading, *[tuple(printable(str(cell)) for cell in row) for row in rows]]
    widths = [max(len(row[column]) for row in cells) for column in range(len(heading))]
    numeric = [
        len(cells) > 1 and all(row[column][:1].isdigit() or not row[column] for row in cells[1:])
        for column in range(len(heading))
    ]
    for row in cells:
        pieces = [
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, numeric, strict=True)
        ]
        typer.echo("  ".join(pieces).rstrip())


def printable(text: str, keep: str = "") -> str:
    """File names and labels are other people's text: no control or direction characters."""
    return "".join(
        character
        if character in keep or character.isprintable()
        else character.encode("unicode_escape", "backslashreplace").decode("ascii")
        for character in text.encode("utf-8", "backslashreplace").decode("utf-8")
    )


def size_text(count: float) -> str:
    """Bytes in the unit that reads best."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(count) < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def time_text(seconds: float) -> str:
    """Seconds as people say them."""
    if seconds < 90:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
