"""Files: the one way to write, to append and to delete; no other module does any of it.

A file is written as a draft beside its place, is made durable, and then takes its name: it is there
whole, or as it was. What dead writers of the same target left is cleared away.

`base` is the folder that the user named, below which no link is followed (see `folders`). Without
one the target itself was named: then its folder is the base, and the target is checked to be
nothing but a regular file that may be written over.
"""

from __future__ import annotations

import errno
import fcntl
import io
import json
import os
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, BinaryIO

from featcache.errors import FeatcacheError, StorageFailure
from featcache.files.folders import (
    FOLDER,
    READ,
    TEMPORARY,
    clear_drafts,
    create,
    draft_name,
    make_folder,
    opened_folder,
    private_folder,
)
from featcache.files.small_files import read_small

_APPEND = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

#: How a file of features begins; and where the HDF5 in it does, whatever became of the beginning.
FEATURES, HDF5, HDF5_AT = b"featcache-h5 ", b"\x89HDF\r\n\x1a\n", 4096


@contextmanager
def writing(target: Path) -> Iterator[None]:
    """Turn what the system says into a `StorageFailure` that names the target."""
    try:
        yield
    except OSError as error:
        raise StorageFailure(
            f"cannot write {target}: {_words(error)}. Make room, or name another place"
        ) from error


def _words(error: OSError) -> str:
    """What went wrong, and where, if that is not a draft, which the user did not name."""
    where = os.fsdecode(error.filename) if error.filename else ""
    if error.strerror is None or not where or TEMPORARY in where:
        return error.strerror or str(error)
    return f"{error.strerror}: {where}"


@contextmanager
def _place(target: Path, base: Path | None) -> Iterator[int]:
    """The folder of a target, made where it is missing, without drafts of dead writers."""
    if base is None:
        check_output(target)
    with writing(target):
        make_folder(target.parent, base)
        with opened_folder(target.parent, base) as folder:
            clear_drafts(folder, target.name)
            yield folder


@contextmanager
def whole_stream(target: Path, *, base: Path | None = None) -> Iterator[BinaryIO]:
    """A binary file to write, which then takes the target's place; its folder is made.

    Of what fails, nothing is left. Raises `StorageFailure` where the disk refuses.
    """
    with _draft(target, base) as (folder, name, file):
        yield file
        _finish(file)
        os.replace(name, target.name, src_dir_fd=folder, dst_dir_fd=folder)
        os.fsync(folder)


@contextmanager
def _draft(target: Path, base: Path | None) -> Iterator[tuple[int, str, BinaryIO]]:
    """The folder of a target, and a draft in it: its name, and the file to write."""
    with _place(target, base) as folder:
        name = draft_name(target.name)
        descriptor = create(folder, name)
        try:
            with os.fdopen(descriptor, "wb", closefd=False) as file:
                yield folder, name, file
        finally:
            with suppress(OSError):  # it has its name by now
                os.unlink(name, dir_fd=folder)
            os.close(descriptor)


def _finish(file: BinaryIO) -> None:
    file.flush()
    sync(file.fileno())


def sync(descriptor: int) -> None:
    """Return when a file's bytes are on the medium."""
    if hasattr(fcntl, "F_FULLFSYNC"):  # macOS: fsync alone stops at the drive's own cache
        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
    else:
        os.fsync(descriptor)


@contextmanager
def whole_text(target: Path) -> Iterator[IO[str]]:
    """`whole_stream` for UTF-8; line ends are written as they are given."""
    with whole_stream(target) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="")
        yield text
        text.flush()
        text.detach()


def write_whole(target: Path, content: bytes, *, base: Path | None = None) -> None:
    """Write a file, whole or not at all; raises `StorageFailure`."""
    with whole_stream(target, base=base) as file:
        file.write(content)


def write_first(target: Path, content: bytes, *, base: Path) -> bool:
    """Write a file unless there is anything of its name; whether this call, and no other, did."""
    with _draft(target, base) as (folder, name, file):
        file.write(content)
        _finish(file)
        try:
            os.link(name, target.name, src_dir_fd=folder, dst_dir_fd=folder)
        except FileExistsError:
            return False
        except OSError:  # no links here: then in turns
            return _rename_first(folder, name, target.name)
        os.fsync(folder)
    return True


def _rename_first(folder: int, name: str, target: str) -> bool:
    turn = os.open(".", FOLDER, dir_fd=folder)
    try:
        fcntl.flock(turn, fcntl.LOCK_EX)
        if _exists(folder, target):
            return False
        os.replace(name, target, src_dir_fd=folder, dst_dir_fd=folder)
        os.fsync(folder)
    finally:
        os.close(turn)
    return True


def _exists(folder: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def append_record(target: Path, record: dict[str, Any], *, base: Path) -> None:
    """Add a line of JSON to a file of such lines; raises `StorageFailure`.

    A file that has another name too, or is a link, is not written into: it is written anew.
    """
    line = json.dumps(record).encode("ascii") + b"\n"
    with writing(target), opened_folder(target.parent, base) as folder:
        if not _append(folder, target.name, line):
            old = read_small(target)
            write_whole(target, (old if old.startswith(b"{") else b"") + line, base=base)


def _append(folder: int, name: str, line: bytes) -> bool:
    """Whether the file is one to append to, and was."""
    try:
        descriptor = os.open(name, _APPEND, 0o666, dir_fd=folder)
    except OSError as error:
        if error.errno in {errno.ELOOP, errno.ENXIO}:  # a link; a pipe that nobody reads
            return False
        raise
    with os.fdopen(descriptor, "ab") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
            return False
        file.write(line)
    return True


@contextmanager
def whole_file(target: Path, *, base: Path | None = None) -> Iterator[Path]:
    """A path to write to, for those who want one, which then takes the target's place.

    It lies in a folder of its own and has the target's name: Keras and others tell a file's kind by
    the name's end. What comes must be one regular file. Raises as `whole_stream`.
    """
    if base is None:
        check_output(target)
    with writing(target):
        make_folder(target.parent, base)
        with private_folder(target.parent, target.name, base=base) as draft:
            yield draft / target.name
            with opened_folder(target.parent, base) as folder, opened_folder(draft) as inner:
                _finish_foreign(inner, target.name)
                os.replace(target.name, target.name, src_dir_fd=inner, dst_dir_fd=folder)
                os.fsync(folder)


def _finish_foreign(folder: int, name: str) -> None:
    """Make durable what another library wrote, if it is one file."""
    descriptor = os.open(name, READ | os.O_NOFOLLOW, dir_fd=folder)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
            raise OSError(errno.EINVAL, "what was written is not one regular file")
        sync(descriptor)
    finally:
        os.close(descriptor)


def finish_folder(draft: Path, names: Iterable[str]) -> None:
    """Make durable what others wrote into a private folder; raises `OSError`."""
    with opened_folder(draft) as folder:
        for name in names:
            _finish_foreign(folder, name)
        os.fsync(folder)


def put(folder: Path, names: Sequence[str], content: IO[bytes]) -> None:
    """Copy into a new file in a private folder, below folders that are made; raises `OSError`.

    `names` lead from the folder to the file; each must be a plain name.
    """
    if not names or any(name in {"", ".", ".."} or "/" in name for name in names):
        raise FeatcacheError(f"{'/'.join(names)!r} is not the path of a file below a folder")
    target = folder.joinpath(*names)
    make_folder(target.parent, folder)
    with (
        opened_folder(target.parent, folder) as inner,
        os.fdopen(create(inner, target.name), "wb") as file,
    ):
        shutil.copyfileobj(content, file, 1 << 20)


# What is there already


def check_output(target: Path, inputs: Iterable[str | Path] = ()) -> None:
    """Raise `FeatcacheError` where what the user names as an output must not be written over.

    That is: one of the inputs, a file of features, a link, a device, a folder.
    """
    try:
        found = target.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise FeatcacheError(f"{target}: {error.strerror}: name another file") from error
    if stat.S_ISLNK(found.st_mode):
        raise FeatcacheError(f"{target} is a link: name the file that it leads to, or another one")
    if not stat.S_ISREG(found.st_mode):
        raise FeatcacheError(f"{target} is there, and not a regular file: name another file")
    if holds_features(target):
        raise FeatcacheError(f"{target} holds features: it is not written over; name another file")
    if any(_is_same(found, each) for each in inputs):
        raise FeatcacheError(f"{target} is read by this command: name another file to write")


def holds_features(path: Path) -> bool:
    """Whether a file is one of ours, even a damaged one; not where it cannot be read."""
    try:
        with path.open("rb") as file:
            return looks_like_features(file.read(HDF5_AT + len(HDF5)))
    except OSError:
        return False


def looks_like_features(beginning: bytes) -> bool:
    """Whether so many bytes begin a file of features: by its first words, or by its HDF5."""
    return beginning.startswith(FEATURES) or beginning[HDF5_AT:] == HDF5


def _is_same(found: os.stat_result, other: str | Path) -> bool:
    try:
        return os.path.samestat(found, Path(other).stat())
    except OSError:
        return False


def remove(path: Path, is_ours: Callable[[BinaryIO], bool], *, base: Path | None = None) -> bool:
    """Remove a regular file that is recognised by its content; whether that was done.

    Raises `StorageFailure` where the disk refuses.
    """
    with deleting(path):
        try:
            with opened_folder(path.parent, base) as folder:
                return _remove(folder, path.name, is_ours)
        except FileNotFoundError:
            return False


def _remove(folder: int, name: str, is_ours: Callable[[BinaryIO], bool]) -> bool:
    try:
        if not stat.S_ISREG(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            return False
        descriptor = os.open(name, READ | os.O_NOFOLLOW, dir_fd=folder)
    except PermissionError:  # its content is unknown
        return False
    with os.fdopen(descriptor, "rb") as file:
        if not is_ours(file):
            return False
        os.unlink(name, dir_fd=folder)
    return True


@contextmanager
def deleting(path: Path) -> Iterator[None]:
    """Turn what the system says into a `StorageFailure` that names the path."""
    try:
        yield
    except OSError as error:
        raise StorageFailure(f"cannot delete {path}: {_words(error)}") from error


def touch(path: Path, base: Path | None = None) -> None:
    """Mark as used today, where that may be done."""
    with suppress(OSError, FeatcacheError), opened_folder(path.parent, base) as folder:
        os.utime(path.name, dir_fd=folder, follow_symlinks=False)
