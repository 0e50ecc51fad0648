"""Failures committed before any network ran do not stand in the way of later rows."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

import featcache
from featcache.cli import app
from featcache.errors import ImageFailure


def test_a_folder_of_junk_can_be_healed(photos, tmp_path, cache):
    """After a run in which every image failed, good images are extracted as in a fresh cache."""
    root = tmp_path / "set"
    root.mkdir()
    for number in range(3):
        (root / f"junk{number}.jpg").write_bytes(b"\xff\xd8\xff begins as a JPEG %d" % number)
    options = {"backbone": "efficientnet_lite0", "size": 32}
    with pytest.raises(ImageFailure):
        featcache.extract(root, cache=cache, **options)
    (photos / "temple" / "00.jpg").rename(root / "good.jpg")
    healed = featcache.extract(root, cache=cache, **options)
    assert (len(healed), len(healed.failures)) == (1, 3)
    fresh = featcache.extract(root, cache=tmp_path / "fresh", **options)
    assert healed.path.read_bytes() == fresh.path.read_bytes()


LITE = ["--backbone", "efficientnet_lite0"]


@pytest.mark.parametrize("verb", [["extract"], ["extract", "--dry-run"], ["classify"]])
@pytest.mark.parametrize("names", [["a.jpg"], ["a.jpg", "x/b.png", "x/gone.png"]])
def test_no_network_is_opened_where_there_is_no_image(verb, names, tmp_path, monkeypatch):
    """Files that do not begin as images are told at once: no network is built or noted."""
    home, root = tmp_path / "home", tmp_path / "set"
    monkeypatch.setenv("FEATCACHE_HOME", str(home))
    (root / "x").mkdir(parents=True)
    for name in names:
        (root / name).symlink_to("nowhere") if "gone" in name else (root / name).write_text(name)
    images = str(root / names[0]) if len(names) == 1 else str(root)
    cache = [] if verb == ["classify"] else ["--cache", str(tmp_path / "cache")]
    done = CliRunner().invoke(app, [verb[0], images, *verb[1:], *LITE, *cache])
    assert done.exit_code == 3
    assert f"not one of {len(names)} images could be used" in done.stderr
    assert "a.jpg: its first bytes" in done.stderr
    assert not home.exists()
    assert not (tmp_path / "cache").exists()
