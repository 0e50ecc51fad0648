"""The stat cache: unchanged files are not hashed again; everything else is."""

from __future__ import annotations

import gzip
import json
import os
import time

import pytest

from featcache.errors import StorageFailure
from featcache.files.small_files import FileStamp
from featcache.images import find_images
from featcache.images.stat_cache import StatCache

SECOND = 1_000_000_000
LATER = 3 * SECOND  # a hashing that lies this far after the file's times is safe to keep


@pytest.fixture
def hashed(plant):
    """One real image, its stamp, its key, and a time well after its times."""
    root = plant("1.jpg")
    images = find_images(root)
    image = images.read(0)
    return root / "1.jpg", images, image.stamp, image.key


def _settled(stamp: FileStamp) -> int:
    return max(stamp.mtime_ns, stamp.ctime_ns) + LATER


def test_an_unchanged_file_keeps_its_key(hashed, tmp_path) -> None:
    """What was remembered is answered now, and after saving and loading."""
    _, images, stamp, key = hashed
    cache = StatCache()
    assert cache.key_of("1.jpg", stamp) is None
    cache.remember("1.jpg", stamp, key, _settled(stamp))
    assert cache.key_of("1.jpg", images.stat(0)) == key
    cache.save(tmp_path / "scan.json.gz")
    again = StatCache.load(tmp_path / "scan.json.gz")
    assert again.key_of("1.jpg", images.stat(0)) == key
    assert again.key_of("2.jpg", images.stat(0)) is None


def test_any_change_of_the_stamp_is_a_change(hashed) -> None:
    """Size, mtime, ctime and inode each count."""
    file, images, stamp, key = hashed
    cache = StatCache()
    cache.remember("1.jpg", stamp, key, _settled(stamp))
    for field in ("size", "mtime_ns", "ctime_ns", "inode"):
        values = {name: getattr(stamp, name) for name in FileStamp.__slots__}
        assert cache.key_of("1.jpg", FileStamp(**{**values, field: values[field] + 1})) is None
    copy = file.with_suffix(".new")
    copy.write_bytes(file.read_bytes())
    os.utime(copy, ns=(stamp.mtime_ns, stamp.mtime_ns))
    copy.replace(file)
    assert images.stat(0).mtime_ns == stamp.mtime_ns
    assert cache.key_of("1.jpg", images.stat(0)) is None


def test_an_edit_that_puts_its_mtime_back_is_seen(hashed) -> None:
    """Same path, size and mtime: the ctime gives it away."""
    file, images, stamp, key = hashed
    cache = StatCache()
    cache.remember("1.jpg", stamp, key, _settled(stamp))
    time.sleep(0.02)
    raw = bytearray(file.read_bytes())
    raw[-3] ^= 1
    file.write_bytes(bytes(raw))
    os.utime(file, ns=(stamp.mtime_ns, stamp.mtime_ns))
    after = images.stat(0)
    assert (after.size, after.mtime_ns) == (stamp.size, stamp.mtime_ns)
    assert cache.key_of("1.jpg", after) is None


def test_a_file_hashed_too_soon_after_its_change_is_not_kept(hashed) -> None:
    """Git's racy rule: within two seconds the file could change again without its times."""
    _, _, stamp, key = hashed
    last = max(stamp.mtime_ns, stamp.ctime_ns)
    cache = StatCache()
    for hashed_at, kept in [
        (last, None),
        (last + 2 * SECOND, None),
        (last + 2 * SECOND + 1, key),
        (last - SECOND, None),
    ]:
        cache.remember("1.jpg", stamp, key, hashed_at)
        assert cache.key_of("1.jpg", stamp) == kept


def test_old_times_do_not_help_a_young_ctime_and_future_ones_are_not_believed(hashed) -> None:
    """An mtime set back leaves a fresh ctime; an mtime in the future is never kept."""
    file, images, _, key = hashed
    for mtime in (SECOND, time.time_ns() + 3600 * SECOND):
        os.utime(file, ns=(mtime, mtime))
        cache = StatCache()
        cache.remember("1.jpg", images.stat(0), key, time.time_ns())
        assert cache.key_of("1.jpg", images.stat(0)) is None


def test_an_entry_that_became_racy_is_forgotten(hashed) -> None:
    """A fresh hash that may not be kept also removes the old one."""
    _, _, stamp, key = hashed
    cache = StatCache()
    cache.remember("1.jpg", stamp, key, _settled(stamp))
    cache.remember("1.jpg", stamp, "0" * 64, max(stamp.mtime_ns, stamp.ctime_ns))
    assert cache.key_of("1.jpg", stamp) is None


def test_names_not_asked_for_are_not_saved(hashed, tmp_path) -> None:
    """Files that are gone are not kept without end."""
    _, _, stamp, key = hashed
    path = tmp_path / "scan.json.gz"
    cache = StatCache()
    cache.remember("1.jpg", stamp, key, _settled(stamp))
    cache.remember("gone.jpg", stamp, key, _settled(stamp))
    cache.save(path)
    again = StatCache.load(path)
    assert len(again) == 2
    again.key_of("1.jpg", stamp)
    again.save(path)
    assert len(StatCache.load(path)) == 1


def test_the_file_is_deterministic_and_plain(hashed, tmp_path) -> None:
    """The same entries give the same bytes but for gzip's date, as JSON lines."""
    _, _, stamp, key = hashed
    path = tmp_path / "scan.json.gz"
    cache = StatCache()
    cache.remember("é\n.jpg", stamp, key, _settled(stamp))
    cache.remember("a.jpg", stamp, key, _settled(stamp))
    cache.save(path)
    lines = gzip.decompress(path.read_bytes()).splitlines()
    assert json.loads(lines[0]) == {"format": "featcache-stat-cache", "version": 1}
    assert [json.loads(line)[0] for line in lines[1:]] == ["a.jpg", "é\n.jpg"]
    assert [entry.name for entry in tmp_path.iterdir() if entry.is_file()] == ["scan.json.gz"]


def _damages(raw: bytes) -> list[bytes]:
    lines = gzip.decompress(raw).splitlines()
    wrong = [
        [b"{}", *lines[1:]],
        [lines[0], b"[1,2]"],
        [lines[0], b'["a",1,2,3,4,"zz"]'],
        [lines[0], b'["a",1,2,3,4,"00"]'],
        [lines[0], b'[5,1,2,3,4,"' + b"0" * 64 + b'"]'],
        [lines[0], b'["a",1.5,2,3,4,"' + b"0" * 64 + b'"]'],
        [lines[0], b'["a",1,2,3,-4,"' + b"0" * 64 + b'"]'],
        [lines[0], b"\xff\xfe"],
        [lines[0], b"[" * 60_000],
    ]
    flipped = bytearray(raw)
    flipped[-6] ^= 1
    return [b"", b"text", raw[:-1], raw[: len(raw) // 2], bytes(flipped)] + [
        gzip.compress(b"\n".join(text)) for text in wrong
    ]


def test_a_missing_or_damaged_file_is_an_empty_cache(hashed, tmp_path) -> None:
    """Bad gzip, a bad checksum, bad JSON, wrong shapes, a folder: nothing is known, no error."""
    _, _, stamp, key = hashed
    path = tmp_path / "scan.json.gz"
    assert len(StatCache.load(path)) == 0
    cache = StatCache()
    cache.remember("1.jpg", stamp, key, _settled(stamp))
    cache.save(path)
    for damaged in _damages(path.read_bytes()):
        path.write_bytes(damaged)
        assert len(StatCache.load(path)) == 0
    assert len(StatCache.load(tmp_path)) == 0


def test_a_full_disk_is_said_and_leaves_nothing(hashed, tmp_path) -> None:
    """Where the file cannot be written there is an error, and no unfinished file."""
    cache = StatCache()
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageFailure, match="cannot write"):
        cache.save(tmp_path / "file" / "scan.json.gz")
    (tmp_path / "taken").mkdir()
    with pytest.raises(StorageFailure):
        cache.save(tmp_path / "taken")
    assert not list(tmp_path.glob(".tmp-*"))
