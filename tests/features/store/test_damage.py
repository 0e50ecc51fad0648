"""Damage: whatever happens to the bytes of a file, no wrong row ever comes back."""

from __future__ import annotations

import os
from pathlib import Path

import h5py
import numpy as np
import pytest
from crafting import overwrite, with_metadata
from store_samples import STAMP, block, identity, keys, packed, store, vectors, views

from featcache.errors import DamagedFile, FeatcacheError, StorageFailure
from featcache.features.store.disk import Disk
from featcache.features.store.packed_file import open_packed
from featcache.features.store.stored_file import load

IMAGES = range(3)


@pytest.fixture
def part(tmp_path) -> Path:
    """The one part of a place, open to be written to."""
    path = store(tmp_path).commit(block(IMAGES), STAMP)
    path.chmod(0o644)
    return path


def _answers(folder: Path) -> tuple[list[int], list[int]]:
    """Which rows come back right, and which are named as damaged; anything else fails."""
    snapshot = store(folder).snapshot()
    positions = snapshot.find(keys(IMAGES), views(IMAGES))
    right, named = [], []
    for image, position in zip(IMAGES, positions, strict=True):
        if position < 0:
            continue
        try:
            row = snapshot.read(position[None])
        except DamagedFile:
            named.append(image)
            continue
        np.testing.assert_array_equal(row, vectors([image]))
        right.append(image)
    return right, named


def test_every_flipped_byte_is_noticed(tmp_path, part):
    """Flip a bit in each byte in turn: the file is refused, or exactly one row is named."""
    content = part.read_bytes()
    features = len(content) - vectors(IMAGES).nbytes
    descriptor = os.open(part, os.O_RDWR)
    for offset, byte in enumerate(content):
        flipped = bytes([byte ^ 1 << offset % 8])
        os.pwrite(descriptor, flipped, offset)
        if offset < features:
            with pytest.raises(FeatcacheError):
                load(Disk(), part)
        if offset < features and offset % 256 == 0:
            assert _answers(tmp_path) == ([], [])
        if offset >= features:
            right, named = _answers(tmp_path)
            row = (offset - features) // vectors([0]).nbytes
            assert named == [row], offset
            assert len(right) == 2
        os.pwrite(descriptor, bytes([byte]), offset)
    os.close(descriptor)
    assert _answers(tmp_path) == ([0, 1, 2], [])


def test_every_truncation_is_noticed(tmp_path, part):
    """Cut the file to every shorter length: it is refused."""
    for length in reversed(range(part.stat().st_size)):
        os.truncate(part, length)
        with pytest.raises(FeatcacheError):
            load(Disk(), part)
        if length % 512 == 0:
            assert _answers(tmp_path) == ([], [])


def test_bytes_behind_the_end_are_noticed(tmp_path, part):
    """A file that grew is not the file that was written."""
    overwrite(part, part.read_bytes() + b"\0")
    assert "bytes" in store(tmp_path).snapshot().problems[0].reason


@pytest.mark.parametrize("seed", range(4))
def test_zeroed_sectors_are_noticed(tmp_path, part, seed):
    """Zero one to four sectors: refused, or the rows that changed are named."""
    content = part.read_bytes()
    random = np.random.default_rng(seed)
    for _ in range(25):
        damaged = bytearray(content)
        for sector in random.integers(0, len(content) // 512 + 1, random.integers(1, 5)):
            end = min(len(content), 512 * (int(sector) + 1))
            damaged[512 * int(sector) : end] = bytes(end - 512 * int(sector))
        part.write_bytes(damaged)
        right, named = _answers(tmp_path)
        assert len(right) + len(named) in {0, 3}
        assert named or right == [] or bytes(damaged) == content


def _plain_hdf5(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["features"] = np.zeros((3, 5), np.float32)


def _keras_weights(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_group("layers/dense/vars")["0"] = np.zeros((2, 2))


def _text(path: Path) -> None:
    path.write_text("features\n")


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _own_words_only(path: Path) -> None:
    path.write_bytes(b"featcache-h5 1\n")


FOREIGN = [_plain_hdf5, _keras_weights, _text, _empty]


@pytest.mark.parametrize("make", [*FOREIGN, _own_words_only])
def test_a_foreign_file_is_refused(tmp_path, make):
    """What is not ours is refused with a sentence, ignored in a place, and put aside by repair."""
    made = store(tmp_path)
    made.commit(block([1]), STAMP)
    path = made.packed_path.parent / "parts" / "p-0000000000000000.h5"
    make(path)
    with pytest.raises(FeatcacheError, match=path.name) as caught:
        open_packed(path)
    if make in FOREIGN:
        assert "not a featcache file" in str(caught.value)
        assert caught.value.exit_code == 2
    assert [problem.path for problem in made.snapshot().problems] == [path]
    assert len(made.snapshot()) == 1
    assert len(made.repair().moved) == 1
    assert made.verify() == []


def test_what_is_no_file_at_all_is_refused(tmp_path):
    """A missing file, a folder and a pipe are refused, and nothing waits for the pipe."""
    os.mkfifo(tmp_path / "pipe.h5")
    for path in (tmp_path / "missing.h5", tmp_path, tmp_path / "pipe.h5"):
        with pytest.raises(FeatcacheError, match=path.name):
            open_packed(path)


def test_a_part_is_not_a_packed_file(tmp_path, part):
    """`open_packed` says so when it is given a part."""
    with pytest.raises(FeatcacheError, match=r"open features\.h5 instead"):
        open_packed(part)


def test_a_damaged_packed_file_says_what_to_do(tmp_path):
    """`open_packed` names the file and the command that repairs it."""
    path = packed(tmp_path)
    content = bytearray(path.read_bytes())
    content[5000] ^= 1
    overwrite(path, bytes(content))
    with pytest.raises(DamagedFile, match=r"features\.h5: .*featcache repair") as caught:
        open_packed(path)
    assert caught.value.exit_code == 4


def test_bad_rows_are_counted(tmp_path):
    """`bad_rows` gives exactly the rows that changed."""
    path = packed(tmp_path)
    content = bytearray(path.read_bytes())
    content[-1] ^= 128
    content[-3 * 20] ^= 1
    overwrite(path, bytes(content))
    assert open_packed(path).bad_rows().tolist() == [3, 5]


def test_pack_stops_at_a_bad_row(tmp_path):
    """A row that rotted in its part is never copied: pack names it and changes nothing."""
    made = store(tmp_path)
    part = made.commit(block(IMAGES), STAMP)
    content = bytearray(part.read_bytes())
    content[-1] ^= 1
    overwrite(part, bytes(content))
    with pytest.raises(DamagedFile, match=r"row 2.*featcache repair"):
        made.pack(identity(IMAGES), STAMP)
    assert [each.name for each in part.parent.iterdir()] == [part.name]
    assert not made.packed_path.exists()


def test_a_damaged_packed_file_is_kept_for_looking_at(tmp_path):
    """Where every row was computed again, a damaged `features.h5` is moved aside, not deleted."""
    path = packed(tmp_path)
    right = path.read_bytes()
    overwrite(path, right[:-1])
    made = store(tmp_path)
    made.commit(block(range(6)), STAMP)
    made.pack(identity(range(6)), STAMP)
    assert path.read_bytes() == right
    assert (path.parent / "quarantine" / "features.h5").read_bytes() == right[:-1]


def test_a_disk_that_cannot_be_read_is_no_damage(tmp_path, part):
    """An input/output error while reading is a storage failure that names the file."""

    class Unreadable:
        def __getattr__(self, name):
            return getattr(Disk(), name)

        def read(self, descriptor, size, offset):
            raise OSError(5, "Input/output error")

    made = store(tmp_path)
    broken = type(made)(made.packed_path.parent, '{"backbone":"tiny","pipeline":1}', Unreadable())
    with pytest.raises(StorageFailure, match=part.name):
        broken.snapshot()


def test_code_without_a_name_is_damage(tmp_path):
    """A label code beyond the classes, in a file whose checksums are right, is refused."""
    path = packed(tmp_path)
    codes = np.array([0, 1, 2, 0, 1, 2], "<i4").tobytes()
    wrong = np.array([0, 1, 2, 0, 1, 9], "<i4").tobytes()
    overwrite(path, with_metadata(path.read_bytes(), lambda each: each.replace(codes, wrong)))
    with pytest.raises(DamagedFile, match="label codes"):
        open_packed(path)
