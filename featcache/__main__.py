"""python -m featcache, and the `featcache` command"""

from __future__ import annotations

import sys

from featcache.interruption import INTERRUPTED, STOPPED, stop_on_signals, was_told_to_stop


def main() -> None:
    """Run the command line; stopped at any moment, it ends with a sentence and exit code 130."""
    stop_on_signals()
    try:
        from featcache.cli import main as run

        run()
    except SystemExit:
        raise
    except BaseException:
        # A request to stop may also come out of a half-done import as some other exception.
        if not was_told_to_stop():
            raise
        sys.stderr.write(f"error: {STOPPED}\n")
        if "--json" in sys.argv:
            sys.stdout.write(f'{{"error": "{STOPPED}", "exit_code": {INTERRUPTED}}}\n')
        raise SystemExit(INTERRUPTED) from None


if __name__ == "__main__":
    main()
