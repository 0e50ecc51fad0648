"""Crafted files: checksums that are right over content that is not. They are refused, cheaply."""

from __future__ import annotations

import hashlib
import io
import json
import os
import resource

import h5py
import numpy as np
import pytest
from crafting import BLOCK, MAGIC, header_of, overwrite, signed, with_header, with_metadata
from store_samples import RECIPE, STAMP, block, identity, packed, store

from featcache.errors import DamagedFile, FeatcacheError
from featcache.features.store.packed_file import open_packed


@pytest.fixture
def path(tmp_path):
    """A `features.h5` of six rows."""
    return packed(tmp_path)


def _array(name: str, **changes):
    def change(header):
        header["arrays"][name].update(changes)

    return change


def _same_place(name: str, other: str):
    return lambda header: _array(name, offset=header["arrays"][other]["offset"])(header)


def _top(**changes):
    return lambda header: header.update(changes)


def _without(name: str):
    return lambda header: header["arrays"].pop(name)


HEADERS = {
    "offset outside": _array("key", offset=1 << 40),
    "offset in the header": _array("key", offset=0),
    "offset negative": _array("key", offset=-64),
    "offset 2^63": _array("key", offset=1 << 63),
    "offset is text": _array("key", offset="64"),
    "offset is a float": _array("key", offset=4096.0),
    "offset is true": _array("key", offset=True),
    "overlap": _same_place("key", "path"),
    "rows not last": _array("features", offset=4096),
    "shape overflows": _array("features", shape=[1 << 33, 1 << 33]),
    "400 GB": _array("features", shape=[6, 16_000_000_000]),
    "400 GB declared": _top(file_size=400_000_000_000),
    "shape negative": _array("features", shape=[-6, -5]),
    "no width": _array("features", shape=[6, 0]),
    "three dimensions": _array("features", shape=[6, 5, 1]),
    "no dimension": _array("features", shape=[]),
    "other row count": _array("view", shape=[5]),
    "object type": _array("key", dtype="|O"),
    "void type": _array("key", dtype="|V8"),
    "structured type": _array("key", dtype=[["a", "<f4"]]),
    "text of no width": _array("path", dtype="|S0"),
    "text of odd width": _array("path", dtype="|S1x"),
    "big endian": _array("features", dtype=">f4"),
    "double": _array("features", dtype="<f8"),
    "wrong type": _array("view", dtype="<u4"),
    "array missing": _without("row_crc32"),
    "features missing": _without("features"),
    "arrays is a list": _top(arrays=[]),
    "array is a number": lambda header: header["arrays"].update(key=3),
    "kind unknown": _top(kind="weights"),
    "kind is a list": _top(kind=["features"]),
    "checksum is a number": _top(metadata_sha256=7),
}


@pytest.mark.parametrize("change", HEADERS.values(), ids=HEADERS.keys())
def test_a_crafted_header_is_damage(path, change):
    """Whatever the header claims, it is refused by its own words, and nothing is allocated."""
    content = path.read_bytes()
    header = header_of(content)
    change(header)
    overwrite(path, with_header(content, header))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DamagedFile):
        open_packed(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB
    assert len(store(path.parents[3]).snapshot()) == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_same_place("view", "row_crc32"), "overlap"),
        (lambda header: _array("key", offset=header["file_size"] - 64)(header), "outside"),
        (_array("features", shape=[6, 4]), "rows are not the last"),
        (_array("features", shape=[1 << 33, 1 << 33]), r"has 6 of row|outside"),
        (_array("key", dtype="|O"), "is not allowed"),
    ],
)
def test_a_crafted_header_is_refused_for_its_own_reason(path, change, message):
    """The reason that is told is the one that was crafted."""
    content = path.read_bytes()
    header = header_of(content)
    change(header)
    overwrite(path, with_header(content, header))
    with pytest.raises(DamagedFile, match=message):
        open_packed(path)


TEXTS = {
    "not UTF-8": b'{"kind":"\xff\xfe"}',
    "a key twice": b'{"kind":"part","kind":"features"}',
    "NaN": b'{"file_size":NaN}',
    "deep": b"[" * 3900,
    "deep objects": b'{"a":' * 780,
    "a list": b"[1]",
    "a number of many digits": b'{"file_size":' + b"9" * 3900 + b"}",
    "nothing": b"",
}


@pytest.mark.parametrize("body", TEXTS.values(), ids=TEXTS.keys())
def test_a_header_that_is_no_plain_json_is_damage(path, body):
    """JSON tricks are refused by a sentence."""
    overwrite(path, signed(body) + path.read_bytes()[BLOCK:])
    with pytest.raises(DamagedFile, match=r"header|damaged"):
        open_packed(path)


def test_padding_must_be_zero(path):
    """Nothing hides behind the header."""
    content = bytearray(path.read_bytes())
    content[BLOCK - 1] = 1
    overwrite(path, bytes(content))
    with pytest.raises(DamagedFile, match="header"):
        open_packed(path)


def test_another_version_is_refused_and_left_alone(tmp_path, path):
    """A file of format 2 is refused with both versions named; repair and pack keep away from it."""
    content = path.read_bytes()
    newer = signed(b'{"new":"words"}', magic=MAGIC.replace(b"1", b"2")) + content[BLOCK:]
    overwrite(path, newer)
    made = store(tmp_path)
    made.commit(block(range(6)), STAMP)
    pattern = r"version 2, and this featcache reads version 1: upgrade"
    for refused in (
        lambda: open_packed(path),
        made.snapshot,
        made.repair,
        lambda: made.pack(identity(range(6)), STAMP),
    ):
        with pytest.raises(FeatcacheError, match=pattern) as caught:
            refused()
        assert caught.value.exit_code == 2
    assert path.read_bytes() == newer
    (problem,) = made.verify()
    assert "version 2" in problem.reason


def test_a_damaged_version_digit_is_damage(path):
    """A flipped bit in the version is not mistaken for a file of the future."""
    content = path.read_bytes()
    overwrite(path, content.replace(b"featcache-h5 1", b"featcache-h5 3", 1))
    with pytest.raises(DamagedFile, match="checksum"):
        open_packed(path)


def test_the_recipe_must_hash_to_its_key(path):
    """A file whose recipe was swapped is refused, even with all checksums made right."""
    other = RECIPE.replace("tiny", "huge").encode()
    content = with_metadata(path.read_bytes(), lambda each: each.replace(RECIPE.encode(), other))
    overwrite(path, content)
    with pytest.raises(DamagedFile, match="does not hash to its key"):
        open_packed(path)


@pytest.mark.parametrize(
    "text",
    ['{"a":1,"a":2 }', '{"numpy":NaN}', '{"numpy" "2"}', "[]", '{"mixed":5}', '{"mixed":[5]}'],
)
def test_provenance_is_strict_json(path, text):
    """A crafted provenance is refused like a crafted header."""
    old = STAMP.provenance.encode()
    new = text.ljust(len(old)).encode()[: len(old)]
    overwrite(path, with_metadata(path.read_bytes(), lambda each: each.replace(old, new)))
    with pytest.raises(DamagedFile, match="makes no sense"):
        open_packed(path)


def test_a_key_that_is_no_hash_is_damage(path):
    """Keys are checked to be hex before they are compared with anything."""
    content = path.read_bytes()
    start = header_of(content)["arrays"]["key"]["offset"] - BLOCK
    crafted = with_metadata(content, lambda each: each[:start] + b"Z" + each[start + 1 :])
    overwrite(path, crafted)
    with pytest.raises(DamagedFile, match="key"):
        open_packed(path)


def test_texts_that_are_no_utf8_are_damage(path):
    """A class name of other bytes is refused."""
    crafted = with_metadata(path.read_bytes(), lambda each: each.replace(b"cat\0", b"c\xfft\0"))
    overwrite(path, crafted)
    with pytest.raises(DamagedFile, match="UTF-8"):
        open_packed(path)


def _hdf5_with(make, tail: bytes) -> bytes:
    """HDF5 metadata of somebody else's making, with `tail` as its last bytes."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", userblock_size=BLOCK, libver="earliest") as file:
        file.attrs["recipe"] = np.bytes_(RECIPE)
        file.attrs["provenance"] = np.bytes_(STAMP.provenance)
        make(file)
    return buffer.getvalue()[BLOCK:] + tail


def _external_storage(file):
    file.create_dataset("features", (6, 5), "<f4", external=[("/etc/passwd", 0, 120)])


def _external_link(file):
    file["features"] = h5py.ExternalLink("/etc/passwd", "/x")


def _soft_cycle(file):
    file["features"] = h5py.SoftLink("/features")


def _virtual(file):
    layout = h5py.VirtualLayout((6, 5), "<f4")
    layout[:] = h5py.VirtualSource("/etc/passwd", "x", (6, 5))
    file.create_virtual_dataset("features", layout)


def _chunked(file):
    file.create_dataset("features", data=np.zeros((6, 5), "<f4"), chunks=(1, 5), compression="gzip")


def _moved(file):
    file.create_dataset("features", data=np.zeros((6, 5), "<f4"))


@pytest.mark.parametrize(
    "make", [_external_storage, _external_link, _soft_cycle, _virtual, _chunked, _moved]
)
def test_verify_sees_what_h5py_would_show_instead(path, make):
    """A header over HDF5 that shows other rows passes our reader, which never asks it; verify
    tells, and what lies outside of the file is never read.
    """
    content = path.read_bytes()
    header = header_of(content)
    old = {name: dict(each) for name, each in header["arrays"].items()}
    metadata = _hdf5_with(make, content[BLOCK : old["features"]["offset"]])
    shift = len(metadata) - (old["features"]["offset"] - BLOCK)
    for each in header["arrays"].values():
        each["offset"] += shift
    header["file_size"] += shift
    header["metadata_sha256"] = hashlib.sha256(metadata).hexdigest()
    overwrite(path, with_header(content[:BLOCK] + metadata + content[-120:], header))
    assert open_packed(path).bad_rows().tolist() == []
    (problem,) = store(path.parents[3]).verify()
    assert "/features" in problem.reason
    assert store(path.parents[3]).repair().kept == 6
    assert store(path.parents[3]).verify() == []


def test_a_sparse_file_of_400_gb_costs_nothing(tmp_path):
    """A file that declares and has 400 GB is refused by its first bytes."""
    path = tmp_path / "features.h5"
    path.write_bytes(signed(json.dumps({"file_size": 400 << 30}).encode()))
    os.truncate(path, 400 << 30)
    with pytest.raises(DamagedFile):
        open_packed(path)
