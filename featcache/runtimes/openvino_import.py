"""The one door to OpenVINO: its telemetry stays out.

By default `import openvino` and every conversion send events to an analytics host, from a
process of their own, and write two files into the user's home. No documented variable stops that;
CI=true does, but other programs would act on it.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator
from typing import Any

from featcache.errors import FeatcacheError

_TELEMETRY = "openvino_telemetry"

_ONE_AT_A_TIME = threading.Lock()


def import_openvino() -> Any:
    """The `openvino` module, imported as where its telemetry package is not installed.

    One that the caller's own code imported before is taken as it is. Raises `FeatcacheError` where
    it cannot be imported.
    """
    try:
        with _ONE_AT_A_TIME, _without_telemetry():
            import openvino
    except ImportError as error:
        raise FeatcacheError(
            f"OpenVINO could not be imported: {error}: install it again (pip install openvino), "
            "or use --runtime tensorflow"
        ) from error
    return openvino


@contextlib.contextmanager
def _without_telemetry() -> Iterator[None]:
    """Within it, importing the telemetry fails; OpenVINO then has stubs that send nothing."""
    before = {name: module for name, module in sys.modules.items() if name == _TELEMETRY}
    sys.modules[_TELEMETRY] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        # Other programs in this process find what they would have found.
        del sys.modules[_TELEMETRY]
        sys.modules.update(before)
