"""Digests: SHA-256 of a file, kept inside of it or beside it."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

#: What stands in the place of a file's own digest while it is computed.
ZEROS = "0" * 64
_OWN = re.compile(rb'"digest": ?"([0-9a-f]{64})"')
_SEARCHED = 1 << 20


def sealed(content: bytes) -> bytes:
    """JSON, or what begins with some, with its digest instead of the `ZEROS` under "digest"."""
    found = _OWN.search(content, 0, _SEARCHED)
    if found is None or found[1] != ZEROS.encode("ascii"):
        raise ValueError("there is no place for a digest")
    digest = hashlib.sha256(content).hexdigest().encode("ascii")
    return content[: found.start(1)] + digest + content[found.end(1) :]


def is_sound(content: bytes) -> bool | None:
    """Whether content matches the digest inside of it; None where there is none."""
    found = _OWN.search(content, 0, _SEARCHED)
    if found is None:
        return None
    total = hashlib.sha256(memoryview(content)[: found.start(1)])
    total.update(ZEROS.encode("ascii"))
    total.update(memoryview(content)[found.end(1) :])
    return total.hexdigest().encode("ascii") == found[1]


def digest_of_file(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex; raises `OSError`."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
