"""Files: written whole, appended to, deleted; never through a link, never what is not ours."""

from __future__ import annotations

import fcntl
import io
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from featcache.errors import FeatcacheError, StorageFailure
from featcache.files import folders
from featcache.files import write as files

TEXT = b"what was there before\n"


@pytest.fixture
def outside(tmp_path):
    """A file of the user's own, which must not change by a byte, its mode or its time."""
    target = tmp_path / "outside" / "mine.txt"
    target.parent.mkdir()
    target.write_bytes(TEXT)
    target.chmod(0o640)
    os.utime(target, (1_000_000, 1_000_000))
    before = target.lstat()
    yield target
    after = target.lstat()
    assert target.read_bytes() == TEXT
    assert (before.st_mode, before.st_mtime_ns, before.st_ino, before.st_nlink) == (
        after.st_mode, after.st_mtime_ns, after.st_ino, after.st_nlink,
    )  # fmt: skip
    assert [each.name for each in target.parent.iterdir()] == ["mine.txt"]


def names(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


def writers():
    """Every way to give a file a whole new content."""

    def stream(target, base):
        with files.whole_stream(target, base=base) as file:
            file.write(b"new\n")

    def path(target, base):
        with files.whole_file(target, base=base) as draft:
            draft.write_bytes(b"new\n")

    def whole(target, base):
        files.write_whole(target, b"new\n", base=base)

    return [stream, path, whole]


each_writer = pytest.mark.parametrize("write", writers(), ids=lambda write: write.__name__)


@each_writer
def test_a_file_is_written_whole_and_nothing_else_is_left(tmp_path, write):
    """The folder is made, the content is there, the mode follows the umask, no draft is left."""
    target = tmp_path / "new" / "folder" / "file.bin"
    earlier = os.umask(0o027)
    try:
        write(target, None)
        write(target, None)
    finally:
        os.umask(earlier)
    assert target.read_bytes() == b"new\n"
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    assert names(target.parent) == ["file.bin"]


@each_writer
def test_the_folder_that_was_named_may_be_a_link(tmp_path, write):
    """Links that lead to the base are followed, whatever stands before it."""
    (tmp_path / "real").mkdir()
    (tmp_path / "cache").symlink_to("real")
    write(tmp_path / "cache" / "photos" / "note.json", tmp_path / "cache")
    write(tmp_path / "cache" / "out.csv", None)
    assert (tmp_path / "real" / "photos" / "note.json").read_bytes() == b"new\n"
    assert (tmp_path / "real" / "out.csv").read_bytes() == b"new\n"


@each_writer
def test_no_folder_below_the_base_is_reached_through_a_link(tmp_path, outside, write):
    """A link at any level below the base is refused, relative or absolute, by an error that says
    what to name.
    """
    for number, (where, link) in enumerate(
        [("photos", outside.parent), ("photos", Path("../outside")), ("a/b/c", outside.parent)]
    ):
        cache = tmp_path / str(number)
        (cache / where).parent.mkdir(parents=True)
        (cache / where).symlink_to(link)
        with pytest.raises(FeatcacheError, match=r"is a link.*--cache") as caught:
            write(cache / where / "mine.txt", cache)
        assert caught.value.exit_code == 2


@each_writer
def test_a_link_in_the_place_of_a_file_is_replaced_not_followed(tmp_path, outside, write):
    """Below a base a link's name gets a file of its own; what the link led to stays as it was."""
    target = tmp_path / "note.json"
    target.symlink_to(outside)
    write(target, tmp_path)
    assert not target.is_symlink()
    assert target.read_bytes() == b"new\n"


@each_writer
def test_only_a_regular_file_is_written_over(tmp_path, outside, write):
    """A link, a device, a pipe, a folder and a file of features are refused as outputs."""
    (tmp_path / "link").symlink_to(outside)
    (tmp_path / "dangling").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "features").write_bytes(b"featcache-h5 1\n" + bytes(8192))
    (tmp_path / "damaged").write_bytes(bytes(4096) + b"\x89HDF\r\n\x1a\n")
    before = names(tmp_path)
    for name in ("link", "dangling", "pipe", "features", "damaged", "outside"):
        with pytest.raises(FeatcacheError) as caught:
            write(tmp_path / name, None)
        assert caught.value.exit_code == 2
    with pytest.raises(FeatcacheError, match="not a regular file"):
        write(Path("/dev/null"), None)
    assert names(tmp_path) == before


def test_an_output_is_none_of_the_inputs(tmp_path):
    """By whatever path or link an input was named, it is not written over; another file may be."""
    given, other = tmp_path / "m.csv", tmp_path / "other.csv"
    given.write_bytes(TEXT)
    other.write_bytes(TEXT)
    (tmp_path / "link.csv").symlink_to(given)
    for named in (given, str(given), tmp_path / "x" / ".." / "m.csv", tmp_path / "link.csv"):
        (tmp_path / "x").mkdir(exist_ok=True)
        with pytest.raises(FeatcacheError, match="read by this command"):
            files.check_output(given, [tmp_path / "gone", named])
    files.check_output(other, [given])
    files.check_output(tmp_path / "new.csv", [given])


@each_writer
def test_what_fails_leaves_what_was_there(tmp_path, write, monkeypatch):
    """An error while a file is written leaves the old one and no draft, and names the target."""
    target = tmp_path / "file.bin"
    target.write_bytes(TEXT)

    def broken(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "sync", broken)
    with pytest.raises(StorageFailure, match=r"cannot write .*file.bin: No space left"):
        write(target, None)
    assert target.read_bytes() == TEXT
    assert names(tmp_path) == ["file.bin"]


def test_a_long_name_is_an_error_of_the_user(tmp_path):
    """A name of more than 255 bytes is refused with exit code 2 or 5, without a traceback."""
    with pytest.raises(FeatcacheError, match="File name too long"):
        files.write_whole(tmp_path / ("n" * 300), b"")


def test_what_comes_from_a_path_must_be_one_regular_file(tmp_path, outside):
    """A writer that leaves a link, a second name, a pipe or nothing gives no file."""
    for leave in (
        lambda draft: draft.symlink_to(outside),
        lambda draft: (draft.write_bytes(b"x"), os.link(draft, draft.with_name("twin"))),
        os.mkfifo,
        lambda draft: None,
    ):
        with pytest.raises(StorageFailure), files.whole_file(tmp_path / "model.keras") as draft:
            leave(draft)
    assert names(tmp_path) == ["outside"]


def test_drafts_are_private_and_cannot_be_guessed(tmp_path):
    """Two drafts of one target differ, lie beside it, and only their owner gets into them."""
    target = tmp_path / "model.keras"
    with files.whole_file(target) as one, files.whole_file(target) as two:
        assert one.parent != two.parent
        for draft in (one, two):
            assert draft.name == "model.keras"
            assert draft.parent.parent == tmp_path
            assert folders.DRAFT.fullmatch(draft.parent.name)
            assert stat.S_IMODE(draft.parent.stat().st_mode) == 0o700
            draft.write_bytes(b"x")
    assert names(tmp_path) == ["model.keras"]


_DIES = """
import os, signal, sys
from pathlib import Path
from featcache.files import write as files
target = Path(sys.argv[1])
if sys.argv[2] == "stream":
    with files.whole_stream(target) as file:
        file.write(b"half")
        file.flush()
        os.kill(os.getpid(), signal.SIGKILL)
with files.whole_file(target) as draft:
    draft.write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("way", ["stream", "path"])
def test_the_next_write_clears_what_a_killed_one_left(tmp_path, way):
    """A draft of a dead writer goes with the next write of its target; that of a living one, and
    of another target, stays.
    """
    target = tmp_path / "file.bin"
    done = subprocess.run([sys.executable, "-c", _DIES, target, way], check=False)
    assert done.returncode == -signal.SIGKILL
    (left,) = names(tmp_path)
    write = dict(zip(("stream", "path"), writers()[:2], strict=True))[way]
    write(tmp_path / "other.bin", None)
    assert left in names(tmp_path)
    with files.whole_stream(target) as file:
        write(target, None)
        assert left not in names(tmp_path)
        assert len(names(tmp_path)) == 3
        file.write(b"last")
    assert target.read_bytes() == b"last"
    assert names(tmp_path) == ["file.bin", "other.bin"]


def test_a_writer_of_files_deletes_no_folder(tmp_path):
    """A folder under a draft's name is cleared only by those who make private folders."""
    target = tmp_path / "file.bin"
    tree = tmp_path / folders.draft_name("file.bin") / "mine"
    tree.mkdir(parents=True)
    files.write_whole(target, b"x")
    with folders.opened_folder(tmp_path) as folder:
        assert not folders.remove_abandoned(folder, tree.parent.name)
    assert tree.is_dir()


def test_without_locks_a_draft_is_stale_after_a_day(tmp_path, monkeypatch):
    """Where it is unknown whether the writer lives, its draft stays for a day."""

    def none(descriptor, kind):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", none)
    young, old = (tmp_path / folders.draft_name("file.bin") for _ in range(2))
    young.write_bytes(b"x")
    old.write_bytes(b"x")
    past = time.time() - 25 * 3600
    os.utime(old, (past, past))
    files.write_whole(tmp_path / "file.bin", b"new")
    assert names(tmp_path) == sorted([young.name, "file.bin"])


def test_many_writers_of_one_file_never_mix(tmp_path):
    """Eight threads write one target: each read is one whole content, and no draft is left."""
    target = tmp_path / "file.bin"
    contents = [bytes([number]) * 100_000 for number in range(8)]
    files.write_whole(target, contents[0])
    threads = [
        threading.Thread(target=lambda c=content: [files.write_whole(target, c) for _ in range(10)])
        for content in contents
    ]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert target.read_bytes() in contents
    for thread in threads:
        thread.join()
    assert names(tmp_path) == ["file.bin"]


@pytest.mark.parametrize("links", [True, False])
def test_only_one_of_many_is_the_first(tmp_path, monkeypatch, links):
    """Of eight that write a file unless it is there, one does, and its content stays."""
    if not links:

        def refuse(*arguments, **options):
            raise OSError(95, "Operation not supported")

        monkeypatch.setattr(os, "link", refuse)
    for turn in range(10):
        target, won = tmp_path / str(turn) / "marker", []

        def claim(number, target=target, won=won):
            if files.write_first(target, str(number).encode(), base=tmp_path):
                won.append(number)

        threads = [threading.Thread(target=claim, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [target.read_bytes()] == [str(number).encode() for number in won]
        assert names(target.parent) == ["marker"]


def test_a_line_is_added_to_a_file_of_lines(tmp_path, outside):
    """Records are appended; a link or a second name is replaced by a file of its own."""
    log = tmp_path / "runs.jsonl"
    for number in range(3):
        files.append_record(log, {"n": number}, base=tmp_path)
    assert log.read_bytes() == b'{"n": 0}\n{"n": 1}\n{"n": 2}\n'
    twin = tmp_path / "twin"
    os.link(log, twin)
    files.append_record(log, {"n": 3}, base=tmp_path)
    assert twin.read_bytes() == b'{"n": 0}\n{"n": 1}\n{"n": 2}\n'
    assert log.read_bytes() == twin.read_bytes() + b'{"n": 3}\n'
    log.unlink()
    log.symlink_to(outside)
    files.append_record(log, {"n": 4}, base=tmp_path)
    assert log.read_bytes() == b'{"n": 4}\n'
    log.unlink()
    os.mkfifo(log)
    with pytest.raises(StorageFailure, match="not a regular file"):
        files.append_record(log, {"n": 5}, base=tmp_path)


def test_only_what_is_recognised_is_removed(tmp_path, outside):
    """A file of another content, a link, a folder, a pipe stay; what is recognised goes."""
    for name in ("ours", "theirs"):
        (tmp_path / name).write_bytes(name.encode())
    (tmp_path / "link").symlink_to("ours")
    (tmp_path / "away").symlink_to(outside.parent)
    os.mkfifo(tmp_path / "pipe")

    def is_ours(file):
        return file.read() in (b"ours", TEXT)

    for name in ("theirs", "link", "outside", "pipe", "gone", "gone/below"):
        assert not files.remove(tmp_path / name, is_ours, base=tmp_path)
    with pytest.raises(FeatcacheError, match="is a link"):
        files.remove(tmp_path / "away" / "mine.txt", is_ours, base=tmp_path)
    assert files.remove(tmp_path / "ours", is_ours, base=tmp_path)
    assert names(tmp_path) == ["away", "link", "outside", "pipe", "theirs"]


def test_a_folder_goes_only_when_it_is_empty(tmp_path, outside):
    """A folder with anything in it, or a link to one, stays."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    assert not folders.remove_folder(outside.parent, tmp_path)
    assert not folders.remove_folder(tmp_path / "link", tmp_path)
    assert not folders.remove_folder(tmp_path / "gone", tmp_path)
    assert folders.remove_folder(tmp_path / "empty", tmp_path)
    assert names(tmp_path) == ["link", "outside"]


def test_a_time_is_not_set_through_a_link(tmp_path, outside):
    """Marking as used reaches a file of ours, and nothing that a link leads to."""
    (tmp_path / "link").symlink_to(outside)
    (tmp_path / "away").symlink_to(outside.parent)
    (tmp_path / "note").write_bytes(b"")
    os.utime(tmp_path / "note", (0, 0))
    files.touch(tmp_path / "link", tmp_path)
    files.touch(tmp_path / "away" / "mine.txt", tmp_path)
    files.touch(tmp_path / "note", tmp_path)
    assert (tmp_path / "note").stat().st_mtime > 1_000_000_000


def test_files_put_into_a_folder_stay_in_it(tmp_path):
    """Only plain names lead below a private folder, and no file is written twice."""
    with folders.private_folder(tmp_path, "data") as draft:
        files.put(draft, ["a", "b", "1.png"], io.BytesIO(b"x"))
        for names_ in (["..", "x"], ["/etc", "x"], ["a", ""], [], ["a/../../x"], ["."]):
            with pytest.raises(FeatcacheError, match="is not the path"):
                files.put(draft, names_, io.BytesIO(b"x"))
        with pytest.raises(FileExistsError):
            files.put(draft, ["a", "b", "1.png"], io.BytesIO(b"y"))
        folders.move_folder(draft, tmp_path / "data")
    assert (tmp_path / "data" / "a" / "b" / "1.png").read_bytes() == b"x"
    assert names(tmp_path) == ["data"]


def test_a_lock_whose_file_was_deleted_is_taken_anew(tmp_path):
    """Who waits for a lock that is deleted by its holder gets that of the new file."""
    with folders.opened_folder(tmp_path) as folder:
        first = folders.lock(folder, "lock")
        got = []
        waiting = threading.Thread(target=lambda: got.append(folders.lock(folder, "lock")))
        waiting.start()
        time.sleep(0.1)
        assert got == []
        (tmp_path / "lock").unlink()
        os.close(first)
        waiting.join()
        assert os.path.samestat(os.fstat(got[0]), (tmp_path / "lock").stat())
        os.close(got[0])


def test_a_group_can_share_a_lock(tmp_path):
    """The lock's mode follows the umask, so that a second user of the group may take it."""
    earlier = os.umask(0o002)
    try:
        with folders.opened_folder(tmp_path) as folder:
            os.close(folders.lock(folder, "lock"))
    finally:
        os.umask(earlier)
    assert stat.S_IMODE((tmp_path / "lock").stat().st_mode) == 0o664


def test_a_lock_is_neither_a_link_nor_a_pipe(tmp_path, outside):
    """No lock is taken through a link, and nobody waits for a pipe."""
    (tmp_path / "link").symlink_to(outside)
    os.mkfifo(tmp_path / "pipe")
    with folders.opened_folder(tmp_path) as folder:
        for name in ("link", "pipe"):
            with pytest.raises(FeatcacheError, match="should be a file for locking"):
                folders.lock(folder, name)


def test_text_is_written_as_it_is_given(tmp_path):
    """UTF-8 whatever the locale, line ends untouched; where writing fails, the old text stays."""
    target = tmp_path / "table.csv"
    with files.whole_text(target) as file:
        file.write("é,ü\r\n1,2\n")
    assert target.read_bytes() == b"\xc3\xa9,\xc3\xbc\r\n1,2\n"
    with pytest.raises(UnicodeEncodeError), files.whole_text(target) as file:
        file.write("half \ud800")
    assert target.read_bytes() == b"\xc3\xa9,\xc3\xbc\r\n1,2\n"
    assert names(tmp_path) == ["table.csv"]
