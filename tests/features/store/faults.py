"""Faults: a command is disturbed at its n-th operation on the disk, and what is left is judged.

After every fault: each acknowledged row is there and right, no row is wrong, the same command then
completes, and `features.h5` has the bytes of an undisturbed run.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from model_disk import ModelDisk
from store_samples import RECIPE, STAMP, block, identity, keys, vectors, views

from featcache.errors import DamagedFile, FeatcacheError, StorageFailure
from featcache.features.store.recipe_store import RecipeStore

FOLDER = Path("/cache/photos/tiny-12345678")
UNIVERSE = range(12)
_COUNTED = (
    "create",
    "allocate",
    "write",
    "fsync",
    "close",
    "replace",
    "unlink",
    "unlink_abandoned",
    "rmdir",
    "mkdir",
    "sync_folder",
    "lock",
)
ERRORS = {
    "ENOSPC": (errno.ENOSPC, {"create", "allocate", "write", "mkdir", "lock", "fsync"}),
    "EIO": (errno.EIO, set(_COUNTED)),
    "EROFS": (errno.EROFS, set(_COUNTED) - {"close", "fsync"}),
    "EACCES": (
        errno.EACCES,
        {
            "create",
            "mkdir",
            "lock",
            "replace",
            "unlink",
            "unlink_abandoned",
            "rmdir",
            "sync_folder",
        },
    ),
}
KINDS = ("kill", "power", "short", *ERRORS)


class Killed(BaseException):
    """The process is gone: nothing catches this, and no operation works any more."""


class Violation(AssertionError):
    """A promise was broken."""


class FaultDisk:
    """A disk whose operation number `at` (from 0) goes wrong; `-1` never does.

    A killed process does nothing more. A full or read-only disk stays so; an input/output error
    comes once. A failed write may have written half, and a failed fsync loses what waited for it.
    """

    def __init__(self, disk: Any, *, at: int, kind: str) -> None:
        self.disk, self.at, self.kind = disk, at, kind
        self.done = 0
        self.is_dead = False

    @property
    def was_reached(self) -> bool:
        return 0 <= self.at < self.done

    def __getattr__(self, name: str) -> Any:
        operation = getattr(self.disk, name)
        if self.is_dead:
            return _dead
        if name not in _COUNTED:
            return operation

        def counted(*arguments: Any) -> Any:
            number, self.done = self.done, self.done + 1
            if self._fails(number, name):
                return self._fail(name, operation, arguments)
            return operation(*arguments)

        return counted

    def _fails(self, number: int, name: str) -> bool:
        if self.at < 0 or number < self.at:
            return False
        if self.kind in {"ENOSPC", "EROFS"}:
            return name in ERRORS[self.kind][1]
        return number == self.at

    def _fail(self, name: str, operation: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        if self.kind in {"kill", "power"}:
            self.is_dead = True
            raise Killed
        if self.kind == "short":
            if name != "write":
                return operation(*arguments)
            descriptor, content, offset = arguments
            return operation(descriptor, content[: (len(content) + 1) // 2], offset)
        code, names = ERRORS[self.kind]
        if name not in names:
            return operation(*arguments)
        if name == "write":
            descriptor, content, offset = arguments
            operation(descriptor, content[: len(content) // 2], offset)
        if name == "fsync":
            self.disk.open_files[arguments[0]].forget()
        if name == "close":  # the system takes the descriptor even so
            operation(*arguments)
        raise OSError(code, os.strerror(code))


def _dead(*_: Any) -> None:
    raise Killed


@dataclass(frozen=True)
class Scenario:
    """A disk to begin with, the rows acknowledged on it, and a command to disturb.

    `command(disk, acknowledged)` adds to the set what it has promised to keep.
    """

    name: str
    disk: ModelDisk
    acknowledged: frozenset[int]
    command: Callable[[Any, set[int]], None]


def extract(disk: Any, acknowledged: set[int], *, images: list[int], step: int = 2) -> None:
    """What an extraction does: commit what is missing, then pack; repair first what is damaged."""
    store = RecipeStore(FOLDER, RECIPE, disk)
    found = store.snapshot().find(keys(images), views(images))
    missing = [image for image, position in zip(images, found, strict=True) if position < 0]
    for first in range(0, len(missing), step):
        piece = missing[first : first + step]
        store.commit(block(piece), STAMP)
        acknowledged.update(piece)
    store.pack(identity(images), STAMP)
    acknowledged.update(images)


def sweep(
    scenario: Scenario,
    *,
    kinds: tuple[str, ...],
    seeds: int,
    every: int = 1,
    expected: bytes | None = None,
) -> int:
    """Disturb a scenario at every operation in every way; returns how many cases were judged.

    Raises `Violation` where a promise is broken.
    """
    expected = expected or undisturbed(scenario)
    judged = 0
    for kind in kinds:
        for at in range(0, 10_000, every):
            faulty, acknowledged = disturbed(scenario.disk.copied(), scenario, kind=kind, at=at)
            if not faulty.was_reached:
                break
            for disk in after(faulty, at=at, seeds=seeds):
                judge(disk, acknowledged)
                finish(disk, scenario, set(acknowledged), expected=expected)
                judged += 1
    return judged


def double(scenario: Scenario, *, dice: np.random.Generator, cases: int) -> None:
    """Disturb the command, then disturb it again while it recovers."""
    expected = undisturbed(scenario)
    reach = operations(scenario)
    for _ in range(cases):
        disk, acknowledged = scenario.disk.copied(), set(scenario.acknowledged)
        for _ in range(2):
            kind = str(dice.choice(["kill", "power", "ENOSPC", "EIO"]))
            at = int(dice.integers(reach))
            faulty, acknowledged = disturbed(
                disk, scenario, kind=kind, at=at, acknowledged=acknowledged
            )
            disk = next(after(faulty, at=int(dice.integers(1 << 30)), seeds=1))
            judge(disk, acknowledged)
        finish(disk, scenario, acknowledged, expected=expected)


def disturbed(
    disk: ModelDisk,
    scenario: Scenario,
    *,
    kind: str,
    at: int,
    acknowledged: set[int] | frozenset[int] | None = None,
) -> tuple[FaultDisk, set[int]]:
    """Run the command with one fault; the disk it leaves, and what it acknowledged."""
    faulty = FaultDisk(disk, at=at, kind=kind)
    promised = set(scenario.acknowledged if acknowledged is None else acknowledged)
    try:
        scenario.command(faulty, promised)
    except Killed:
        pass  # the very fault
    except FeatcacheError as error:
        if kind not in ERRORS or not isinstance(error, StorageFailure):
            raise Violation(f"the command failed: {error}") from error
    return faulty, promised


def after(faulty: FaultDisk, *, at: int, seeds: int) -> Iterator[ModelDisk]:
    """The disks that may be found afterwards: as it was seen, or as a power cut leaves it."""
    if faulty.kind != "power":
        yield faulty.disk.copied()
    if faulty.kind != "kill":
        for seed in range(seeds if faulty.kind == "power" else 1):
            yield faulty.disk.crashed(1000 * at + seed)


def undisturbed(scenario: Scenario) -> bytes:
    """`features.h5` after the command ran in peace."""
    disk = scenario.disk.copied()
    scenario.command(disk, set())
    return disk.content(FOLDER / "features.h5")


def operations(scenario: Scenario) -> int:
    """How many operations the command makes in peace."""
    counting = FaultDisk(scenario.disk.copied(), at=-1, kind="kill")
    scenario.command(counting, set())
    return counting.done


def judge(disk: ModelDisk, acknowledged: set[int]) -> None:
    """Each acknowledged row is there, and no row is wrong."""
    snapshot = RecipeStore(FOLDER, RECIPE, disk).snapshot()
    images = np.array(UNIVERSE)
    positions = snapshot.find(keys(UNIVERSE), views(UNIVERSE))
    lost = acknowledged - set(images[positions >= 0].tolist())
    if lost:
        raise Violation(f"rows {sorted(lost)} were acknowledged and are gone")
    for image in images[positions >= 0].tolist():
        try:
            row = snapshot.read(positions[image : image + 1])
        except DamagedFile as error:
            if image in acknowledged:
                raise Violation(f"row {image} was acknowledged and is damaged") from error
            continue
        if not np.array_equal(row, vectors([image])):
            raise Violation(f"row {image} is wrong")


def finish(disk: ModelDisk, scenario: Scenario, acknowledged: set[int], *, expected: bytes) -> None:
    """The same command completes, and leaves what it would have left."""
    try:
        scenario.command(disk, acknowledged)
    except FeatcacheError as error:
        raise Violation(f"the same command does not complete: {error}") from error
    judge(disk, acknowledged)
    if disk.content(FOLDER / "features.h5") != expected:
        raise Violation("features.h5 is not the file of an undisturbed run")
    problems = RecipeStore(FOLDER, RECIPE, disk).verify()
    if problems:
        raise Violation(f"verify finds {problems}")
