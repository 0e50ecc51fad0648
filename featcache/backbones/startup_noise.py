"""TensorFlow's start-up messages, kept off the user's terminal.

No setting silences them: they are written to file descriptor 2 before any log level is read. So
that descriptor is a file while TensorFlow is imported, and whatever else was said is said after.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator

from featcache.files.folders import scratch_file

_NOISE = re.compile(
    rb"^(WARNING: All log messages before absl::InitializeLog|[IWE]\d{4} |"
    rb"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+: [IWE] |To enable the following instructions)"
)


@contextlib.contextmanager
def without_startup_noise() -> Iterator[None]:
    """Within it, log lines of TensorFlow's C++ written to stderr are dropped, others delayed."""
    try:
        terminal = os.dup(2)
    except OSError:
        # There is no stderr (a service): nobody would see the noise.
        yield
        return
    with scratch_file() as said:
        os.dup2(said.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)
            said.seek(0)
            for line in said:
                if not _NOISE.match(line):
                    os.write(2, line)
