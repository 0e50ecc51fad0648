"""Files that are wrong on purpose, with checksums that are right again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

BLOCK = 4096
MAGIC = b"featcache-h5 1\n"


def overwrite(path: Path, content: bytes) -> None:
    """Replace the content of a read-only file in place."""
    path.chmod(0o644)
    path.write_bytes(content)


def signed(body: bytes, *, magic: bytes = MAGIC) -> bytes:
    """A header block over any body, with the checksum that it needs."""
    head = magic + body + b"\n"
    return (head + hashlib.sha256(head).hexdigest().encode() + b"\n").ljust(BLOCK, b"\0")


def header_of(content: bytes) -> dict[str, Any]:
    return json.loads(content.split(b"\n")[1])


def with_header(content: bytes, header: dict[str, Any]) -> bytes:
    body = json.dumps(header, sort_keys=True, separators=(",", ":")).encode()
    return signed(body) + content[BLOCK:]


def with_metadata(content: bytes, change: Callable[[bytes], bytes]) -> bytes:
    """The file with its metadata changed, and both checksums made right."""
    header = header_of(content)
    end = header["arrays"]["features"]["offset"]
    metadata = change(content[BLOCK:end])
    header["metadata_sha256"] = hashlib.sha256(metadata).hexdigest()
    return with_header(content[:BLOCK] + metadata + content[end:], header)
