"""Claims: a data set's name has one owner, and changes hands only when nothing is lost by it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import featcache
from featcache.features import claims
from featcache.images import find_images

X = {"backbone": "efficientnet_lite0", "size": 32}


def make_images(root: Path, first: int, count: int = 4) -> Path:
    """Images that differ from those of any other number."""
    for number in range(first, first + count):
        pixels = np.random.default_rng(number).integers(0, 256, (24, 24, 3), dtype=np.uint8)
        target = root / "ab"[number % 2] / f"{number:03d}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(target)
    return root


def owner(folder: Path) -> str:
    return json.loads((folder / "featcache.json").read_text())["root"]


def test_of_many_that_come_at_once_each_gets_its_own_name(tmp_path):
    """Eight roots called `photos` claim at one moment: eight folders, each with its own marker."""
    roots = [make_images(tmp_path / str(number) / "photos", number, 1) for number in range(8)]
    sets = [find_images(root) for root in roots]
    for turn in range(5):
        cache, found = tmp_path / f"cache{turn}", {}
        start = threading.Barrier(len(sets))

        def take(number, cache=cache, found=found, start=start):
            start.wait()
            found[number] = claims.claim(cache, sets[number], None)[0]

        threads = [threading.Thread(target=take, args=(number,)) for number in range(len(sets))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(set(found.values())) == len(sets)
        assert all(owner(found[number]) == str(roots[number]) for number in found)
        assert not list(cache.rglob(".tmp-*"))


_KILLED = """
import os, signal, sys, threading, time
from pathlib import Path
from featcache.features import claims
from featcache.images import find_images
images = find_images(sys.argv[1])
number = 0
while True:
    claims.claim(Path(sys.argv[2]) / str(number), images, None)
    if number == 0:
        threading.Timer(float(sys.argv[3]), os.kill, (os.getpid(), signal.SIGKILL)).start()
    number += 1
"""


def test_a_kill_leaves_no_marker_or_a_whole_one(tmp_path):
    """Claims are killed at random moments: every marker that is there can be read."""
    images = make_images(tmp_path / "photos", 0, 1)
    for delay in (0.05, 0.11):
        cache = tmp_path / f"cache{delay}"
        subprocess.run([sys.executable, "-c", _KILLED, images, cache, str(delay)], check=False)
        markers = list(cache.rglob("featcache.json"))
        assert markers
        assert all(owner(marker.parent) == str(images) for marker in markers)


def test_a_name_stays_with_a_root_that_is_gone_and_not_found_again(tmp_path):
    """A root that is not mounted keeps its name: other images get another one, and no row goes."""
    cache = tmp_path / "cache"
    first = make_images(tmp_path / "disk" / "photos", 0)
    featcache.extract(first, **X, cache=cache)
    first.parent.rename(tmp_path / "unmounted")
    second = make_images(tmp_path / "other" / "photos", 50)
    made = featcache.extract(second, **X, cache=cache)
    assert made.path.parent.parent.name == "other-photos"
    assert owner(cache / "photos") == str(first)
    (tmp_path / "unmounted").rename(first.parent)
    again = featcache.extract(first, **X, cache=cache)
    assert (again.run.extracted, len(again)) == (0, 4)


@pytest.mark.parametrize("change", ["none", "an image more", "a byte", "a name", "one missing"])
def test_a_root_that_has_moved_takes_its_name_along(tmp_path, change):
    """The name changes hands when the old root is gone and every path and hash is found; said."""
    cache = tmp_path / "cache"
    old, new = make_images(tmp_path / "old" / "photos", 0), tmp_path / "new" / "photos"
    featcache.extract(old, **X, cache=cache)
    shutil.copytree(old, new)  # other times, other inodes: the bytes must be read
    shutil.rmtree(old)
    changed = new / "a" / "000.png"
    if change == "an image more":
        make_images(new, 10, 1)
    elif change == "a byte":
        make_images(tmp_path / "x", 20, 1)
        shutil.copy(tmp_path / "x" / "a" / "020.png", changed)
    elif change == "a name":
        changed.rename(changed.with_name("new.png"))
    elif change == "one missing":
        changed.unlink()
    folder, remarks = claims.claim(cache, find_images(new), None)
    if change in ("none", "an image more"):
        assert (folder.name, owner(folder)) == ("photos", str(new))
        assert remarks == [f"'photos' was {old}, it is now {new}"]
    else:
        assert (folder.name, owner(cache / "photos")) == ("new-photos", str(old))


def test_a_name_that_is_given_changes_hands_and_says_so(tmp_path):
    """--name takes a name over, aloud; without it a root that is there keeps its own."""
    cache = tmp_path / "cache"
    first, second = make_images(tmp_path / "1" / "p", 0), make_images(tmp_path / "2" / "p", 50)
    claims.claim(cache, find_images(first), "mine")
    folder, remarks = claims.claim(cache, find_images(second), "mine")
    assert owner(folder) == str(second)
    assert remarks == [f"'mine' was {first}, it is now {second}"]


def test_a_damaged_marker_gives_no_name_away(tmp_path):
    """Whose name it was is unknown: it goes only to a root that has every image of it."""
    cache = tmp_path / "cache"
    first, second = make_images(tmp_path / "1" / "p", 0), make_images(tmp_path / "2" / "p", 50)
    featcache.extract(first, **X, cache=cache)
    (cache / "p" / "featcache.json").write_bytes(b"{")
    assert claims.claim(cache, find_images(second), None)[0].name == "2-p"
    folder, remarks = claims.claim(cache, find_images(first), None)
    assert (folder.name, owner(folder)) == ("p", str(first))
    assert "damaged marker" in remarks[0]


def test_a_claim_lost_while_extracting_keeps_the_rows(tmp_path, monkeypatch):
    """The name goes to another root before the rows are packed: exit code 2, the rows stay, and
    the same command finishes under another name and computes nothing.
    """
    cache = tmp_path / "cache"
    first, second = make_images(tmp_path / "1" / "p", 0), make_images(tmp_path / "2" / "p", 50)

    def take_over(progress):
        claims.claim(cache, find_images(second), "p")

    with pytest.raises(featcache.FeatcacheError, match=r"belongs to .*2/p by now") as caught:
        featcache.extract(first, **X, cache=cache, progress=take_over)
    assert caught.value.exit_code == 2
    assert not list(cache.rglob("features.h5"))
    again = featcache.extract(first, **X, cache=cache)
    assert again.path.parent.parent.name == "1-p"
    assert (again.run.extracted, len(again)) == (0, 4)


def test_a_marker_deleted_meanwhile_is_made_again(tmp_path):
    """`rm` beside an extraction takes the marker: the extraction goes on and claims it anew."""
    cache, images = tmp_path / "cache", make_images(tmp_path / "p", 0)

    def delete(progress):
        (cache / "p" / "featcache.json").unlink(missing_ok=True)

    made = featcache.extract(images, **X, cache=cache, progress=delete)
    assert (len(made), owner(cache / "p")) == (4, str(images))


def test_a_marker_that_is_a_pipe_hangs_nobody(tmp_path):
    """A pipe in the place of the marker, the weights' note or the stat cache is not waited for."""
    cache, images = tmp_path / "cache", make_images(tmp_path / "p", 0)
    made = featcache.extract(images, **X, cache=cache)
    for path in (cache / "p" / "scan.json.gz", made.path.parent / "weights.json"):
        path.unlink()
        os.mkfifo(path)
    assert featcache.extract(images, **X, cache=cache).run.extracted == 0
    (cache / "p" / "featcache.json").unlink()
    os.mkfifo(cache / "p" / "featcache.json")
    assert featcache.extract(images, **X, cache=cache).run.extracted == 0


def test_a_marker_names_no_path_that_cannot_be(tmp_path):
    """A root with a NUL in it is unreadable: the name goes to the images that lie there alone."""
    cache, images = tmp_path / "cache", make_images(tmp_path / "p", 0)
    featcache.extract(images, **X, cache=cache)
    (cache / "p" / "featcache.json").write_text(json.dumps({"root": "/a\0b"}))
    other = make_images(tmp_path / "2" / "p", 50)
    assert claims.claim(cache, find_images(other), None)[0].name == "2-p"
    assert claims.claim(cache, find_images(images), None)[0].name == "p"


def test_a_marker_that_leads_nowhere_is_nobodys_gift(tmp_path):
    """A dangling link in the place of the marker: the name is given away only to its own images."""
    cache, images = tmp_path / "cache", make_images(tmp_path / "p", 0)
    featcache.extract(images, **X, cache=cache)
    marker = cache / "p" / "featcache.json"
    marker.unlink()
    marker.symlink_to(tmp_path / "nowhere")
    other = make_images(tmp_path / "2" / "p", 50)
    assert claims.claim(cache, find_images(other), None)[0].name == "2-p"
    assert featcache.extract(images, **X, cache=cache).run.extracted == 0
    assert owner(cache / "p") == str(images)
    assert not (tmp_path / "nowhere").exists()
