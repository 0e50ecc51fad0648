"""Pages of files of several: `stack.tif#page=3`, an image of its own under --pages each.

Light on purpose: what counts pages is imported where a file is there that may have them.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from featcache.errors import BadImage
from featcache.files.small_files import FileStamp
from featcache.images.file_bytes import read_file, read_start, stamp_file

#: --pages: the page that the recipe says, or a row of every page.
PAGES = ("first", "each")

_NAMED = re.compile(r"(.+)#page=(\d{1,9})", re.DOTALL)


@dataclass(frozen=True, slots=True)
class PageOf:
    """One page of a file's bytes, in place of the one that the recipe says."""

    raw: bytes
    page: int


def page_name(name: str, page: int) -> str:
    """What the row of a page is called; pages are counted from 0."""
    return f"{name}#page={page}"


def split_page(name: str) -> tuple[str, int | None]:
    """The file's name and the page in the name of a row; None where it names no page."""
    found = _NAMED.fullmatch(name)
    return (found[1], int(found[2])) if found else (name, None)


def page_key(digest: str, page: int) -> str:
    """The key of a page: SHA-256 in hex of the file's SHA-256 and the page, as in its name."""
    return hashlib.sha256(page_name(digest, page).encode("ascii")).hexdigest()


def find_page_counts(paths: list[str], root: str | None) -> list[int]:
    """How many pages each file has; 1 where it cannot be read, as reading it will say."""
    return [_count(path, root) for path in paths]


@dataclass(slots=True)
class LastFile:
    """The file that was read last, for the pages that come next; safe in threads."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    path: str = ""
    raw: bytes = b""
    digest: str = ""
    stamp: FileStamp | None = None

    def __reduce__(self) -> tuple[type[LastFile], tuple[()]]:
        return LastFile, ()  # a lock stays in its process, and so do the bytes

    def read(self, path: str, root: str | None) -> tuple[bytes, str, FileStamp | None]:
        """Bytes, SHA-256 and stamp of a file, read again where it may have changed."""
        with self.lock:
            if path != self.path or self.stamp is None or stamp_file(path, root) != self.stamp:
                self.path, self.raw = "", b""
                self.raw, self.stamp = read_file(path, root)
                self.digest, self.path = hashlib.sha256(self.raw).hexdigest(), path
            return self.raw, self.digest, self.stamp


def _count(path: str, root: str | None) -> int:
    from featcache.images.dicom import count_frames
    from featcache.images.image_header import sniff
    from featcache.images.tiff_pages import find_pages

    counts: dict[str, Callable[[bytes], int]] = {
        "TIFF": lambda raw: len(find_pages(raw)),
        "DICOM": count_frames,
    }
    try:
        count = counts.get(sniff(read_start(path, root)))
        return count(read_file(path, root)[0]) if count else 1
    except BadImage:
        return 1
    except Exception:
        # pydicom raises whatever comes to hand on damaged bytes; decoding says what is wrong.
        return 1
