"""What commands print: results to stdout, everything else to stderr; one JSON object on request."""

from __future__ import annotations

import errno
import functools
import json
import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, redirect_stdout, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ParamSpec, TextIO

import typer

from featcache.errors import FeatcacheError, StorageFailure
from featcache.interruption import INTERRUPTED, STOPPED, was_told_to_stop
from featcache.options import flag

if TYPE_CHECKING:
    from featcache.images import ImageSet

P = ParamSpec("P")

#: Rows of the table of classes and splits that are printed.
COUNTED = 40

#: The largest numbers that an option and a seed can be.
LARGEST, LAST_SEED = 2**31 - 1, 2**32 - 1

# An impossible path is the user's to fix; everything else is the disk's.
_WRONG_PATH = {
    errno.ENAMETOOLONG, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENXIO,
    errno.EINVAL,
}  # fmt: skip

_answered = _ended = False
_diverted: list[TextIO] = []


def command(function: Callable[P, None]) -> Callable[P, None]:
    """A command whose known errors become one message and DESIGN's exit code.

    What the system refuses (a file, memory) is told likewise. Anything else that is not a
    `FeatcacheError` is our bug and keeps its traceback.
    """

    @functools.wraps(function)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
        global _answered
        _answered, as_json = False, bool(kwargs.get("json"))
        try:
            _check_numbers(kwargs)
            # stdout is for our one object: what a library prints there goes to stderr.
            with _library_output_on_stderr() if as_json else nullcontext():
                function(*args, **kwargs)
        except (Exception, KeyboardInterrupt) as error:
            raise typer.Exit(end(error, as_json=as_json)) from error

    return guarded


@dataclass(frozen=True, slots=True)
class _Failed:
    """How a command ended that did not do what was asked: lines to print, and the exit code."""

    lines: list[str]
    exit_code: int


def end(error: BaseException, *, as_json: bool) -> int:
    """Say what went wrong; gives the exit code. A bug of ours is raised again."""
    if (code := getattr(error, "exit_code", None)) is not None and isinstance(error, typer.Exit):
        return int(code)
    global _ended
    failed = _failure_of(error)
    if failed is None:
        raise error
    _ended = True
    if failed.lines:
        typer.secho("error: ", fg="red", bold=True, err=True, nl=False)
        say(*failed.lines)
    if failed.exit_code == 0:
        _leave_stdout()
    if as_json and not _answered:
        with suppress(StorageFailure, BrokenPipeError):  # stdout itself may be what failed
            answer({"error": "\n".join(failed.lines), "exit_code": failed.exit_code})
    return failed.exit_code


def has_ended() -> bool:
    """Whether `end` said already why the process ends."""
    return _ended


def _failure_of(error: BaseException) -> _Failed | None:
    """What to say about an exception; None for a bug of ours."""
    if isinstance(error, FeatcacheError):
        return _Failed(error.printed, error.exit_code)
    if isinstance(error, KeyboardInterrupt) or was_told_to_stop():
        # During an import, a request to stop may surface as any other exception.
        said = str(error) if isinstance(error, KeyboardInterrupt) else ""
        return _Failed([said or STOPPED], INTERRUPTED)
    if isinstance(error, BrokenPipeError):
        return _Failed([], 0)  # the reader (head, less) has gone: nothing is wrong
    if isinstance(error, MemoryError):
        words = (
            f"out of memory: {error or 'there is no more'}; a smaller --size or --batch needs less"
        )
        return _Failed([words], StorageFailure.exit_code)
    if isinstance(error, OSError):
        return _Failed([_refusal(error)], 2 if error.errno in _WRONG_PATH else 5)
    if isinstance(error, UnicodeEncodeError):
        return _Failed([f"{error.object!r:.200} cannot be written as UTF-8: give another name"], 2)
    return _usage(error)


def _usage(error: BaseException) -> _Failed | None:
    """What the parser of the arguments has to say; None for anything else.

    Its exceptions have no public names.
    """
    words, context = getattr(error, "format_message", None), getattr(error, "ctx", None)
    if words is None:
        return None
    lines = words().splitlines()
    if context is not None and lines:  # none where the help was shown instead
        say(*context.get_usage().splitlines(), f"`{context.command_path} --help` explains it.")
    return _Failed(lines, int(getattr(error, "exit_code", 2)))


def _refusal(error: OSError) -> str:
    """What the system refused, and of which file."""
    reason = error.strerror or str(error) or type(error).__name__
    if error.filename is None:
        return f"the system refused: {reason}"
    return f"{os.fsdecode(error.filename)!r}: {reason}"


def _check_numbers(options: Mapping[str, object]) -> None:
    """Refuse numbers that no array, thread or seed can be made of, naming the option."""
    for name, value in options.items():
        numbers = value if isinstance(value, list) else [value]
        most = LAST_SEED if name == "seed" else LARGEST
        if any(isinstance(each, int) and abs(each) > most for each in numbers):
            raise FeatcacheError(f"{flag(name)} {value}: expected a number up to {most:,}")


@contextmanager
def _library_output_on_stderr() -> Iterator[None]:
    _diverted.append(sys.stdout)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        _diverted.pop()


def answer(record: dict[str, Any]) -> None:
    """The one JSON object of a command with --json."""
    global _answered
    _answered = True
    _write(json_text(record))


def json_text(value: object) -> str:
    """JSON that a terminal shows as it is: letters of all languages, the rest as \\u escapes."""
    text = json.dumps(value, ensure_ascii=False, default=str, allow_nan=False)
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else json.dumps(character)[1:-1] for character in text
    )


def _write(text: str) -> None:
    """A line on the stdout that was there before `command` turned it away.

    Raises `StorageFailure` where it is full, `BrokenPipeError` where nobody reads on.
    """
    with _stdout_may_be_full():
        typer.echo(text, file=_diverted[-1] if _diverted else sys.stdout)


def flush() -> None:
    """Hand on what waits for stdout; raises `StorageFailure` where it is full."""
    with _stdout_may_be_full():
        sys.stdout.flush()


@contextmanager
def _stdout_may_be_full() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        _leave_stdout()
        raise StorageFailure(f"stdout could not be written: {error.strerror}") from error


def _leave_stdout() -> None:
    """Give up stdout: what is left of it goes nowhere, and says nothing at the very end."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.__stdout__.fileno() if sys.__stdout__ else 1)
        os.close(nowhere)


def agreed(question: str) -> bool:
    """Ask on stderr, and read the answer from stdin; only y and yes agree.

    Raises `FeatcacheError` where nobody is there to answer.
    """
    typer.echo(f"{printable(question)} [y/N]: ", nl=False, err=True)
    line = sys.stdin.readline() if sys.stdin else ""
    if not line:
        typer.echo(err=True)
        raise FeatcacheError("there was no answer, nothing was done: --yes does it without asking")
    return line.strip().lower() in ("y", "yes")


def say(*lines: str) -> None:
    """Remarks for the person who waits: stderr, a line each."""
    for line in lines:
        typer.echo(printable(line), err=True)


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


def show(*lines: str) -> None:
    """Results: stdout, a line each."""
    for line in lines:
        _write(printable(line))


def table(rows: Iterable[tuple[object, ...]], heading: tuple[str, ...]) -> None:
    """Plain aligned columns on stdout; numbers to the right."""
    cells = [tuple(printable(str(cell)) for cell in row) for row in (heading, *rows)]
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
        _write("  ".join(pieces).rstrip())


def printable(text: str) -> str:
    """One line of other people's text, file names and labels: nothing in it moves the cursor,
    turns the direction of writing or ends the line; such characters are escaped.
    """
    if text.isprintable():
        return text
    return "".join(
        character
        if character.isprintable()
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
