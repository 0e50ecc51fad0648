"""The command line: parse, one call, print. One file a group of commands.

Nothing heavy is imported before a command runs, so that --help answers at once.
"""

from __future__ import annotations

import sys

import typer

from featcache.cli import (
    baseline,
    care,
    classify,
    extract,
    finetune,
    fit_head,
    judging,
    networks,
    predict,
    splitting,
    start,
    sweep,
    verifying,
    views,
)
from featcache.cli.console import hear_library, report_usage_error

app = typer.Typer(
    name="featcache",
    help="Run a frozen image network once, keep its features in HDF5, train heads in seconds.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for group in (
    start, extract, fit_head, finetune, baseline, judging, predict, sweep, splitting, classify,
    networks, views, verifying, care,
):  # fmt: skip
    group.register(app)


def main() -> None:
    """The `featcache` command."""
    hear_library()
    try:
        app()
    except SystemExit as stop:
        report_usage_error(stop.code, sys.argv)
        raise
