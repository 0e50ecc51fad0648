"""A head's file: the same bytes for the same head, and no flipped bit goes unnoticed."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from typer.testing import CliRunner

import featcache
from featcache.cli import app
from featcache.errors import DamagedFile, FeatcacheError
from featcache.files.small_files import ZEROS, sealed
from featcache.heads.head_file import read_head
from tests.made_features import make_features, make_images

#: Bits that are flipped in the default suite, of each region.
FLIPS = 60


@pytest.fixture(scope="module")
def head(tmp_path_factory) -> featcache.Head:
    """A head on 24 rows."""
    place = tmp_path_factory.mktemp("made")
    folder = make_features(make_images(place / "images"), place / "cache")
    return featcache.fit_head(featcache.load(folder), head="centroid")


def refused(path: Path, content: bytes, flips: Iterable[tuple[int, int]]) -> list[str]:
    """Flips that were not noticed, or refused without naming the file."""
    unnoticed = []
    for place, bit in flips:
        wrong = bytearray(content)
        wrong[place] ^= 1 << bit
        path.write_bytes(wrong)
        try:
            read_head(path)
            unnoticed.append(f"byte {place}, bit {bit}")
        except DamagedFile as error:
            if str(path) not in str(error):
                unnoticed.append(f"byte {place}, bit {bit}: {error}")
    return unnoticed


def regions(content: bytes) -> dict[str, range]:
    """The parts of a head's file."""
    (length,) = struct.unpack_from("<Q", content)
    digest = content.index(b'"digest"')
    return {
        "length": range(8),
        "format": range(8, digest),
        "digest": range(digest, digest + 80),
        "marks": range(digest + 80, digest + 140),
        "header": range(digest + 140, 8 + length),
        "arrays": range(8 + length, len(content)),
    }


@pytest.mark.parametrize("region", ["length", "format", "digest", "marks", "header", "arrays"])
def test_a_flipped_bit_is_refused_in_every_region(region, head, tmp_path):
    """Wherever a bit of a head was flipped, loading it is damage that names the file."""
    content = head.path.read_bytes()
    places = regions(content)[region]
    random = np.random.default_rng(7)
    flips = [(int(random.choice(places)), int(random.integers(8))) for _ in range(FLIPS)]
    assert refused(tmp_path / "x.head", content, flips) == []


@pytest.mark.slow
def test_every_flipped_bit_is_refused(head, tmp_path):
    """Flip each bit of a small head in turn: all of them are damage."""
    content = head.path.read_bytes()
    flips = ((place, bit) for place in range(len(content)) for bit in range(8))
    assert refused(tmp_path / "x.head", content, flips) == []


def test_a_damaged_head_has_exit_code_4(head, tmp_path):
    """The command line says which file is damaged, and ends with 4; a cut or a longer one too."""
    content, path = head.path.read_bytes(), tmp_path / "x.head"
    for wrong in (content[:-1], content + b"\0", content[:100], content[:-3] + b"abc"):
        path.write_bytes(wrong)
        done = CliRunner().invoke(app, ["predict", str(path), str(head.path.parent)])
        assert done.exit_code == 4
        assert str(path) in done.stderr


def test_the_same_head_has_the_same_bytes(head, tmp_path):
    """Saved again, and fitted and saved by two other processes, it is byte for byte the same."""
    content = head.path.read_bytes()
    assert head.save(tmp_path / "a.head").read_bytes() == content
    assert featcache.Head.load(head.path).save(tmp_path / "b.head").read_bytes() == content
    for number in range(2):
        out = tmp_path / f"{number}.head"
        code = (
            "import featcache, sys; "
            "featcache.fit_head(featcache.load(sys.argv[1]), head='centroid', out=sys.argv[2])"
        )
        subprocess.run([sys.executable, "-c", code, head.path.parent, out], check=True)
        assert out.read_bytes() == content


def test_a_head_of_version_1_is_read_and_said_to_have_no_digest(head, tmp_path):
    """What the last version wrote gives the same answers; `verify` says so."""
    path = tmp_path / "old.head"
    texts = {"format": "featcache-head", "version": "1", "head": json.dumps(head._record())}
    save_file(load_file(head.path), path, texts)
    old = featcache.Head.load(path)
    rows = np.eye(6, dtype=np.float32)
    assert np.array_equal(old.predict_proba(rows), head.predict_proba(rows))
    assert (old.is_digested, featcache.Head.load(head.path).is_digested) == (False, True)
    done = CliRunner().invoke(app, ["verify", str(path)])
    assert done.exit_code == 0
    assert "version 1, which has no digest" in done.stderr


def test_version_2_without_a_digest_is_damage_and_a_newer_one_is_not(head, tmp_path):
    """A digest cannot be taken away; a sound head of version 3 asks for a newer featcache."""
    arrays, record = load_file(head.path), json.dumps(head._record())
    path = tmp_path / "x.head"
    save_file(arrays, path, {"format": "featcache-head", "version": "2", "head": record})
    with pytest.raises(DamagedFile, match="lacks its digest"):
        featcache.Head.load(path)
    texts = {"format": "featcache-head", "version": "3", "head": record, "digest": ZEROS}
    save_file(arrays, path, texts)
    path.write_bytes(sealed(path.read_bytes()))
    with pytest.raises(FeatcacheError, match="upgrade featcache") as caught:
        featcache.Head.load(path)
    assert caught.value.exit_code == 2


def test_a_foreign_file_is_no_damaged_head(tmp_path):
    """Safetensors of others, text and nothing at all are told apart from damage: exit code 2."""
    path = tmp_path / "x.head"
    save_file({"weight": np.ones(3, np.float32)}, path)
    foreign = [path.read_bytes(), b"a text", b""]
    for content in foreign:
        path.write_bytes(content)
        with pytest.raises(FeatcacheError, match="not a featcache head") as caught:
            featcache.Head.load(path)
        assert caught.value.exit_code == 2
