"""The command line: parse, one call, print. One file a group of commands.

Nothing heavy is imported before a command runs, so that --help answers at once.
"""

from __future__ import annotations

import io
import sys

import typer

from featcache.cli import (
    backbones,
    baseline,
    cache,
    classify,
    demo,
    evaluate,
    extract,
    finetune,
    fit_head,
    predict,
    split,
    sweep,
    verify,
    views,
)
from featcache.cli.console import end, flush, has_ended, hear_library
from featcache.interruption import INTERRUPTED

app = typer.Typer(
    name="featcache",
    help="Run a frozen image network once, keep its features in HDF5, train heads in seconds.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for group in (
    demo, extract, fit_head, finetune, baseline, evaluate, predict, sweep, split, classify,
    backbones, views, verify, cache,
):  # fmt: skip
    group.register(app)


def main() -> None:
    """The `featcache` command, from its arguments to its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal may not know all letters
    hear_library()
    try:
        code = app(standalone_mode=False)
        if code == INTERRUPTED and not has_ended():
            raise KeyboardInterrupt  # typer heard it, and says nothing
        flush()
    except (Exception, KeyboardInterrupt) as error:
        code = end(error, as_json="--json" in sys.argv)
    raise SystemExit(code)
