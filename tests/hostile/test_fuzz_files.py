"""Any file in the place of one of ours ends a command as documented, and leads it nowhere else."""

from __future__ import annotations

from collections import Counter

import pytest
from broken_files import Broken, broken_files
from crafting import overwrite
from fork_server import Done
from hostile_world import World, differences, fault_of, look
from hypothesis import given, seed, settings
from test_fuzz_commands import FUZZ, LONG


def run_broken(world: World, broken: Broken) -> tuple[Done, str]:
    """How the command that reads a broken file ended, and what is wrong with that."""
    world.renew()
    overwrite(world.root / broken.place, broken.content)
    done = world.run(*broken.argv)
    fault = fault_of(done, as_json="--json" in broken.argv, may_be_late=broken.argv[0] in LONG)
    changed = differences(world.untouched, look(world.root / "canary"))
    return done, fault or (f"changes what is not ours: {changed}" if changed else "")


def fuzz(world: World, count: int, *, deep: bool) -> None:
    codes: Counter[tuple[str, int]] = Counter()
    resealed = 0

    @seed(13)
    @settings(max_examples=count, **FUZZ)
    @given(broken=broken_files(world.template, deep=deep))
    def one(broken: Broken) -> None:
        nonlocal resealed
        done, fault = run_broken(world, broken)
        codes[broken.format, done.code] += 1
        resealed += broken.resealed
        assert not fault, f"{broken.format}, featcache {broken.argv}: {fault}"

    one()
    print(f"\n{codes.total()} files, {resealed} with right checksums; exit codes: {codes}")
    assert resealed > codes.total() / 3


def test_broken_files_end_as_documented(world):
    """50 fuzzed files of every format, half of them with right checksums: no traceback."""
    fuzz(world, 50, deep=False)


@pytest.mark.slow
def test_many_broken_files_end_as_documented(deep_world):
    """3,000 fuzzed files."""
    fuzz(deep_world, 3000, deep=True)
