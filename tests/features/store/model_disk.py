"""ModelDisk: a file system in memory that knows what a power cut may take.

Every file and folder has what a process sees and what is on the medium. Writes and changes of names
wait in a list until they are synced; a crash applies any subset of the waiting ones, and may tear a
write. That is harsher than any journalling file system, and it is all that POSIX promises.
"""

from __future__ import annotations

import copy
import errno
import random
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from featcache.features.store.disk import FileIdentity, Status

_NUMBERS = count(1)


@dataclass
class File:
    """Bytes as seen, bytes on the medium, and the writes between the two."""

    seen: bytearray = field(default_factory=bytearray)
    durable: bytes = b""
    waiting: list[tuple[int, bytes]] = field(default_factory=list)
    number: int = field(default_factory=lambda: next(_NUMBERS))

    def write(self, offset: int, content: bytes) -> None:
        _put(self.seen, offset, content)
        self.waiting.append((offset, content))

    def sync(self) -> None:
        if self.waiting:
            self.durable, self.waiting = bytes(self.seen), []

    def forget(self) -> None:
        """A failed fsync: the system calls the pages clean, and they never reach the medium."""
        self.waiting = []

    def crash(self, dice: random.Random) -> File:
        left = bytearray(self.durable)
        for offset, content in self.waiting:
            fate = dice.choice(["lost", "torn", "written"])
            if fate == "torn":
                content = content[: dice.randrange(len(content) + 1)]
            if fate != "lost":
                _put(left, offset, content)
        return File(left, bytes(left))


@dataclass
class Folder:
    """Names as seen, names on the medium, and the changes between the two."""

    seen: dict[str, File | Folder] = field(default_factory=dict)
    durable: dict[str, File | Folder] = field(default_factory=dict)
    waiting: list[dict[str, File | Folder | None]] = field(default_factory=list)

    def change(self, names: dict[str, File | Folder | None]) -> None:
        """Give or take (None) some names, all at once."""
        _rename(self.seen, names)
        self.waiting.append(names)

    def sync(self) -> None:
        self.durable, self.waiting = dict(self.seen), []

    def crash(self, dice: random.Random, met: dict[int, File | Folder]) -> Folder:
        left = dict(self.durable)
        for names in self.waiting:
            if dice.random() < 0.5:
                _rename(left, names)
        for name, node in left.items():
            if id(node) not in met:  # one file may have two names after a crash
                is_file = isinstance(node, File)
                met[id(node)] = node.crash(dice) if is_file else node.crash(dice, met)
            left[name] = met[id(node)]
        return Folder(left, dict(left))


class ModelDisk:
    """The interface of `Disk` over `File` and `Folder`."""

    def __init__(self, root: Folder | None = None) -> None:
        self.root = root or Folder()
        self.open_files: dict[int, File] = {}

    def copied(self) -> ModelDisk:
        """The same disk for another process: nothing is open."""
        return ModelDisk(copy.deepcopy(self.root))

    def crashed(self, seed: int) -> ModelDisk:
        """What the medium may hold after a power cut."""
        return ModelDisk(self.root.crash(random.Random(seed), {}))

    def create(self, path: Path) -> int:
        folder = self._folder(path.parent)
        if path.name in folder.seen:
            raise FileExistsError(errno.EEXIST, "File exists", str(path))
        folder.change({path.name: File()})
        return self._descriptor(folder.seen[path.name])

    def allocate(self, descriptor: int, size: int) -> None:
        file = self.open_files[descriptor]
        file.write(len(file.seen), bytes(size - len(file.seen)))

    def write(self, descriptor: int, content: memoryview, offset: int) -> int:
        self.open_files[descriptor].write(offset, bytes(content))
        return len(content)

    def fsync(self, descriptor: int) -> None:
        self.open_files[descriptor].sync()

    def close(self, descriptor: int) -> None:
        del self.open_files[descriptor]

    def replace(self, source: Path, target: Path) -> None:
        node = self._node(source)
        if source.parent == target.parent:
            self._folder(source.parent).change({source.name: None, target.name: node})
        else:  # two folders, two changes: a crash may keep one of them
            self._folder(target.parent).change({target.name: node})
            self._folder(source.parent).change({source.name: None})

    def unlink(self, path: Path) -> None:
        self._node(path)
        self._folder(path.parent).change({path.name: None})

    def unlink_abandoned(self, path: Path) -> bool:
        self.unlink(path)  # whoever wrote it here is dead
        return True

    def rmdir(self, path: Path) -> bool:
        if self._folder(path).seen:
            return False
        self._folder(path.parent).change({path.name: None})
        return True

    def is_folder(self, path: Path) -> bool:
        return self.exists(path) and isinstance(self._node(path), Folder)

    def mkdir(self, path: Path) -> None:
        folder = self._folder(path.parent)
        if path.name in folder.seen:
            raise FileExistsError(errno.EEXIST, "File exists", str(path))
        folder.change({path.name: Folder()})

    def sync_folder(self, path: Path) -> None:
        self._folder(path).sync()

    def lock(self, path: Path) -> int:
        folder = self._folder(path.parent)
        if path.name not in folder.seen:
            folder.change({path.name: File()})
        return self._descriptor(folder.seen[path.name])

    def open(self, path: Path) -> int:
        return self._descriptor(self._node(path))

    def size(self, descriptor: int) -> int:
        return len(self.open_files[descriptor].seen)

    def identity(self, descriptor: int) -> FileIdentity:
        file = self.open_files[descriptor]
        return FileIdentity(0, file.number, len(file.seen), 0, 0)

    def read(self, descriptor: int, size: int, offset: int) -> bytes:
        return bytes(self.open_files[descriptor].seen[offset : offset + size])

    def map(self, descriptor: int, size: int) -> bytes:
        return bytes(self.open_files[descriptor].seen[:size])

    def names(self, path: Path) -> list[str]:
        return sorted(self._folder(path).seen) if self.exists(path) else []

    def exists(self, path: Path) -> bool:
        try:
            self._node(path)
        except FileNotFoundError:
            return False
        return True

    def status(self, path: Path) -> Status:
        node = self._node(path)
        return Status(node.number, len(node.seen), 0.0)

    def content(self, path: Path) -> bytes:
        """For the tests: the bytes of a file."""
        return bytes(self._node(path).seen)

    def spoil(self, path: Path, offset: int) -> None:
        """For the tests: flip a bit on the medium, as an ageing disk does."""
        file = self._node(path)
        file.seen[offset] ^= 1
        file.durable = bytes(file.seen)

    def _descriptor(self, file: File) -> int:
        descriptor = max(self.open_files, default=2) + 1
        self.open_files[descriptor] = file
        return descriptor

    def _node(self, path: Path) -> File | Folder:
        node: File | Folder = self.root
        for name in path.parts[1:]:
            if not isinstance(node, Folder) or name not in node.seen:
                raise FileNotFoundError(errno.ENOENT, "No such file or directory", str(path))
            node = node.seen[name]
        return node

    def _folder(self, path: Path) -> Folder:
        node = self._node(path)
        if not isinstance(node, Folder):
            raise NotADirectoryError(errno.ENOTDIR, "Not a directory", str(path))
        return node


def _put(target: bytearray, offset: int, content: bytes) -> None:
    if len(target) < offset:
        target.extend(bytes(offset - len(target)))
    target[offset : offset + len(content)] = content


def _rename(target: dict[str, File | Folder], names: dict[str, File | Folder | None]) -> None:
    for name, node in names.items():
        if node is None:
            target.pop(name, None)
        else:
            target[name] = node
