"""Provenance: what made a file's vectors, and how exactly. Recorded in the file, not in the key.

Canonical JSON, no times: two runs of the same software on the same machine write the same text.
"""

from __future__ import annotations

import json
import math
import platform
from importlib.metadata import version
from typing import Any

import numpy as np

from featcache.images.decoder import decoder_versions
from featcache.runtimes.proof import Proven

#: The largest error on the probe against live Keras, which computes in float32.
_PARITY = "probe_error_against_keras"
#: The error of live Keras itself on the probe: what counts as rounding follows from it.
_ROUNDING = "rounding_of_keras"


def provenance_of(proven: Proven | None, tap: int = 0) -> str:
    """The versions in use, and how well the runtime agreed with live Keras on a tap."""
    versions = {
        "featcache": version("featcache"),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "h5py": version("h5py"),
        "decoders": decoder_versions(),
        "machine": platform.machine(),
    }
    if proven is not None:
        runtime = proven.runtime
        versions |= {**proven.versions, "runtime": runtime.name, "device": runtime.device}
        # Two digits: a last-bit difference between two runs must not make two files differ.
        versions[_PARITY] = f"{proven.parities[tap]:.1e}"
        versions[_ROUNDING] = f"{proven.roundings[tap]:.1e}"
    return json.dumps(versions, sort_keys=True)


def merged(provenances: list[str]) -> str:
    """One provenance for a file whose rows may come from several."""
    records = [record for text in provenances for record in _records(text)]
    texts = sorted({json.dumps(record, sort_keys=True) for record in records})
    if len(texts) == 1:
        return texts[0]
    return json.dumps({"mixed": [json.loads(text) for text in texts]}, sort_keys=True)


def roundings_of(provenance: str) -> list[float]:
    """The roundings of the network that a file's provenance tells; none in older files."""
    return [rounding for each in _records(provenance) if (rounding := _number(each)) is not None]


def _number(record: dict[str, Any]) -> float | None:
    """The rounding that a record tells, None where it is no number that can be one."""
    try:
        found = float(record[_ROUNDING])
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    return found if 0 <= found < math.inf else None


def version_changes(stored: str, current: str) -> str:
    """What differs between a stored provenance and the current one, in words."""
    now = _records(current)[0]
    changes = {
        f"{name} {then[name]} -> {now[name]}"
        for then in _records(stored)
        for name in set(now) & set(then)
        if now[name] != then[name] and name not in (_PARITY, _ROUNDING)
    }
    return f"changed since: {', '.join(sorted(changes))}" if changes else "no version changed"


def _records(text: str) -> list[dict[str, Any]]:
    record: dict[str, Any] = json.loads(text)
    records: list[dict[str, Any]] = record.get("mixed", [record])
    return records
