"""python -m featcache, and the `featcache` command"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import NoReturn

from featcache.interruption import INTERRUPTED, STOPPED, stop_on_signals, was_told_to_stop


def main() -> None:
    """Run the command line; stopped at any moment, it ends with a sentence and exit code 130."""
    stop_on_signals()
    try:
        from featcache.cli import main as run

        run()
    except SystemExit as stop:
        if not was_told_to_stop():
            raise
        _leave(stop.code)
    except BaseException:
        # A request to stop may also come out of a half-done import as some other exception.
        if not was_told_to_stop():
            raise
        sys.stderr.write(f"error: {STOPPED}\n")
        if "--json" in sys.argv:
            sys.stdout.write(f'{{"error": "{STOPPED}", "exit_code": {INTERRUPTED}}}\n')
        _leave(INTERRUPTED)


def _leave(code: str | int | None) -> NoReturn:
    """End after a signal with this code, whatever libraries note about the interruption.

    Where an extension ran Python code meanwhile, Python itself would die of SIGINT at its end.
    """
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # full, or closed
            stream.flush()
    os._exit(1 if isinstance(code, str) else int(code or 0))


if __name__ == "__main__":
    main()
