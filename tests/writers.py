"""Who may change what is on a disk, and a watch over every change while the tests run."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from pathlib import Path
from types import FrameType
from typing import Any

import featcache

ROOT = Path(featcache.__file__).parent
HERE = Path(__file__).parent

#: The only modules that write, append, make, rename or delete anything.
WRITERS = {"files/write.py", "files/folders.py", "features/store/disk.py"}

#: Keras makes the folder of its own downloads there.
DOWNLOADING = {"backbones/construct.py"}

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_CHANGES = {
    "os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate",
    "os.chmod", "os.chown", "os.utime", "shutil.rmtree", "shutil.move", "shutil.copyfile",
    "shutil.copymode", "shutil.copytree",
}  # fmt: skip
#: What Python's own modules do, whoever called them did.
_STANDARD = str(Path(os.__file__).parent)
_SCRATCH = tempfile.__file__
_DRAFT = re.compile(r"/\.tmp-[0-9a-f]{40}(/|$)")


class Watch:
    """Changes that came from elsewhere than the writers, below the folders of the tests.

    What a library writes to a path that it was given counts too, unless it is in a draft.
    """

    def __init__(self) -> None:
        self.strays: list[str] = []
        self.folders: tuple[str, ...] = ()

    def start(self, *folders: Path) -> None:
        self.folders = tuple(map(str, folders))
        sys.addaudithook(self._look)

    def _look(self, event: str, details: tuple[Any, ...]) -> None:
        if event == "open":
            if not isinstance(details[2], int) or not details[2] & _WRITING:
                return
        elif event not in _CHANGES:
            return
        culprit = self._culprit(sys._getframe(1), details[0])
        if culprit:
            self.strays.append(f"{culprit}: {event} {details[0]!r}")

    def _culprit(self, frame: FrameType | None, path: Any) -> str:
        """The module of ours that did it without the writers; "" where all is well."""
        is_direct = True
        while frame is not None:
            name = frame.f_code.co_filename
            if name == _SCRATCH:  # a folder that it made itself
                return ""
            if name.startswith("<frozen importlib") or name.startswith(str(HERE)):
                return ""
            if name.startswith(str(ROOT)):
                module = name[len(str(ROOT)) + 1 :]
                is_odd = module not in DOWNLOADING and self._is_odd(path)
                return "" if module in WRITERS or not (is_direct or is_odd) else module
            is_direct &= name.startswith(_STANDARD) and "site-packages" not in name
            frame = frame.f_back
        return ""

    def _is_odd(self, path: Any) -> bool:
        """Whether a library writes into a folder of the tests, and not into a draft."""
        if not isinstance(path, str | bytes | os.PathLike):
            return False
        text = os.fsdecode(path)
        return text.startswith(self.folders) and not _DRAFT.search(text)
