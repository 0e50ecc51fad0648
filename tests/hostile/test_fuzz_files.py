"""Any file in the place of one of ours ends a command as documented, and leads it nowhere else."""

from __future__ import annotations

from collections import Counter

import pytest
from broken_files import Broken, broken_files
from crafting import overwrite
from fork_server import Done
from hostile_world import World
from hypothesis import given, seed, settings
from test_fuzz_commands import FUZZ, judged, told


def run_broken(world: World, broken: Broken) -> tuple[Done, str]:
    """How the command that reads a broken file ended, and what is wrong with that."""
    world.renew()
    overwrite(world.root / broken.place, broken.content)
    return judged(world, broken.argv, as_json="--json" in broken.argv)


def fuzz(world: World, count: int, *, deep: bool) -> None:
    codes: Counter[tuple[str, int]] = Counter()
    faults: list[str] = []
    resealed = 0

    @seed(13)
    @settings(max_examples=count, **FUZZ)
    @given(broken=broken_files(world.template, deep=deep))
    def one(broken: Broken) -> None:
        nonlocal resealed
        done, fault = run_broken(world, broken)
        codes[broken.format, done.code] += 1
        resealed += broken.resealed
        if fault:
            faults.append(f"{broken.format}, featcache {broken.argv}: {fault}")
            print(faults[-1], flush=True)

    one()
    print(f"\n{codes.total()} files, {resealed} with right checksums; exit codes:\n{told(codes)}")
    assert not faults, "\n".join(faults)
    assert resealed > codes.total() / 3


def test_broken_files_end_as_documented(world):
    """50 fuzzed files of every format, half of them with right checksums: no traceback."""
    fuzz(world, 50, deep=False)


@pytest.mark.slow
def test_many_broken_files_end_as_documented(deep_world):
    """3,000 fuzzed files."""
    fuzz(deep_world, 3000, deep=True)
