"""Many at once: writers, packers and readers, some of them killed, and nothing is lost."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import h5py
import numpy as np
import psutil
import pytest
from store_samples import RECIPE, STAMP, block, identity, keys, name, packed, store, vectors, views

from featcache.features.store.disk import Disk
from featcache.features.store.packed_file import open_packed
from featcache.features.store.recipe_store import RecipeStore
from featcache.features.store.stored_file import load

# A writer commits images of its own, tells each on stdout once it is acknowledged, and packs.
_WRITER = """
import sys
from pathlib import Path
from store_samples import STAMP, block, identity, keys, store, views
folder, first, last = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
made = store(folder)
while True:
    for image in range(first, last, 2):
        made.commit(block([image, image + 1]), STAMP)
        print(image, image + 1, flush=True)
        if image % 6 == first % 6:
            found = made.snapshot().find(keys(range(64)), views(range(64)))
            made.pack(identity([each for each in range(64) if found[each] >= 0]), STAMP)
"""


IMAGE_OF = {name(image): image for image in range(64)}


def _everything_is_right(folder: Path, images: list[int]) -> None:
    if not images:
        return
    snapshot = store(folder).snapshot()
    positions = snapshot.find(keys(images), views(images))
    assert (positions >= 0).all()
    np.testing.assert_array_equal(snapshot.read(positions), vectors(images))


def _start(folder: Path, first: int, last: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", _WRITER, str(folder), str(first), str(last)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
    )


def _kill_and_restart(folder: Path, seconds: float) -> int:
    """Run three writers for a while, killing one of them again and again; returns the kills."""
    dice = random.Random(1)
    spans = [(0, 20), (20, 40), (40, 60)]
    writers = [_start(folder, *span) for span in spans]
    acknowledged: set[int] = set()
    kills, end = 0, time.monotonic() + seconds
    try:
        # On a busy machine a writer may hardly begin before it is killed: then it takes longer.
        while time.monotonic() < end + (60 if len(acknowledged) <= 10 else 0):
            time.sleep(dice.uniform(0.8, 1.6))
            number = dice.randrange(len(spans))
            acknowledged |= _killed(writers[number])
            kills += 1
            _everything_is_right(folder, sorted(acknowledged))
            writers[number] = _start(folder, *spans[number])
    finally:
        for writer in writers:
            writer.kill()
            writer.communicate()
    _everything_is_right(folder, sorted(acknowledged))
    assert len(acknowledged) > 10
    return kills


def _killed(writer: subprocess.Popen[str]) -> set[int]:
    """Kill a writer in whatever it is doing; what it had acknowledged by then."""
    assert writer.poll() is None, "a writer ended by itself"
    writer.send_signal(signal.SIGKILL)
    words = writer.communicate()[0].split("\n")
    return {int(word) for line in words[:-1] for word in line.split()}


def test_processes_killed_at_random_lose_nothing(tmp_path):
    """Writers that commit and pack are killed with SIGKILL: each acknowledged row stays right."""
    assert _kill_and_restart(tmp_path, 6.0) >= 3
    images = list(range(60))
    made = store(tmp_path)
    made.commit(block(images), STAMP)
    expected = packed(tmp_path / "plain", images).read_bytes()
    assert made.pack(identity(images), STAMP).path.read_bytes() == expected


@pytest.mark.slow
def test_processes_killed_for_minutes_lose_nothing(tmp_path):
    """The same for two minutes."""
    assert _kill_and_restart(tmp_path, 120.0) >= 50


def test_a_reader_never_waits_and_never_misses_a_row(tmp_path):
    """While packs replace the file all the time, every look finds every row, and reads it right."""
    images = list(range(12))
    packed(tmp_path, images)
    store(tmp_path).commit(block([20, 21]), STAMP)
    is_over = threading.Event()
    failures: list[BaseException] = []

    def pack_for_ever() -> None:
        made, turn = store(tmp_path), 0
        try:
            while not is_over.is_set():
                turn += 1
                made.pack(identity([*images[turn % 5 :], 20 + turn % 2]), STAMP)
        except BaseException as error:
            failures.append(error)

    packer = threading.Thread(target=pack_for_ever)
    packer.start()
    end = time.monotonic() + 3
    looks = 0
    try:
        while time.monotonic() < end and not failures:
            _everything_is_right(tmp_path, [*images, 20, 21])
            looks += 1
    finally:
        is_over.set()
        packer.join()
    assert failures == []
    assert looks > 5


def test_a_snapshot_outlives_the_files_it_saw(tmp_path):
    """Parts that a pack dropped since are read from where their rows are now."""
    made = store(tmp_path)
    for image in range(4):
        made.commit(block([image]), STAMP)
    snapshot = made.snapshot()
    made.pack(identity(range(4)), STAMP)
    positions = snapshot.find(keys(range(4)), views(range(4)))
    np.testing.assert_array_equal(snapshot.read(positions), vectors(range(4)))
    snapshot = made.snapshot()
    made.pack(identity([3, 2, 0, 1]), STAMP)
    positions = snapshot.find(keys(range(4)), views(range(4)))
    np.testing.assert_array_equal(snapshot.read(positions), vectors(range(4)))


def test_a_file_under_an_old_name_is_not_mistaken(tmp_path):
    """Columns of a file that was replaced are not read from the file that took its name."""
    path = packed(tmp_path, range(4))
    old = load(Disk(), path)
    store(tmp_path).pack(identity([3, 2, 1, 0]), STAMP)
    with pytest.raises(FileNotFoundError, match="another file"):
        old.column("key")


def test_an_open_file_stays_what_it_was(tmp_path):
    """Whoever has the old `features.h5` open, by h5py or by map, keeps reading the old rows."""
    path = packed(tmp_path, range(4))
    old = open_packed(path)
    with h5py.File(path) as file:
        store(tmp_path).pack(identity([3, 1]), STAMP)
        np.testing.assert_array_equal(file["features"][:], vectors(range(4)))
    np.testing.assert_array_equal(old.vectors, vectors(range(4)))
    np.testing.assert_array_equal(open_packed(path).vectors, vectors([3, 1]))


def test_two_writers_of_the_same_rows_agree(tmp_path):
    """The same block committed twice at once is one part."""
    made = [store(tmp_path), store(tmp_path)]
    threads = [threading.Thread(target=each.commit, args=(block([1]), STAMP)) for each in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(list(tmp_path.rglob("p-*.h5"))) == 1
    assert len(made[0].snapshot()) == 1


def test_a_thousand_parts_need_few_descriptors(tmp_path):
    """A snapshot holds no file open but the packed one, however many parts there are."""
    made = store(tmp_path)
    for image in range(30):
        made.commit(block([image]), STAMP)
    before = psutil.Process().num_fds()
    snapshot = made.snapshot()
    assert psutil.Process().num_fds() <= before
    assert len(snapshot) == 30


class _Interfering:
    """A disk on which something else happens just before the n-th look."""

    def __init__(self, at: int, event) -> None:
        self.at, self.event, self.looks = at, event, 0

    def __getattr__(self, operation: str):
        if operation in {"open", "names", "map"}:
            self.looks += 1
            if self.looks == self.at:
                self.event()
        return getattr(Disk(), operation)


@pytest.mark.parametrize(("extra", "order"), [([], [1]), ([4], [4, 3, 1])])
def test_a_pack_at_any_moment_of_a_look_hides_nothing(tmp_path, extra, order):
    """Another process packs between any two reads of a snapshot: every row is found and right."""
    for at in range(1, 200):
        folder = tmp_path / str(at)
        packed(folder, range(4))
        made = store(folder)
        images = [0, 1, 2, 3, *extra]
        for image in extra:
            made.commit(block([image]), STAMP)

        def pack(made=made) -> None:
            made.pack(identity(order), STAMP)

        disk = _Interfering(at, pack)
        looking = RecipeStore(made.packed_path.parent, RECIPE, disk)
        snapshot = looking.snapshot()
        positions = snapshot.find(keys(images), views(images))
        np.testing.assert_array_equal(snapshot.read(positions), vectors(images))
        np.testing.assert_array_equal(
            snapshot.packed.vectors,
            vectors(IMAGE_OF[path.decode()] for path in snapshot.packed.paths),
        )
        if disk.looks < at:
            return
    pytest.fail("a look never ended")
