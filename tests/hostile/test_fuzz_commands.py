"""Any command line ends as documented, and changes nothing that is not ours."""

from __future__ import annotations

from collections import Counter

import pytest
from command_lines import DEEP, Line, command_lines
from fork_server import Done
from hostile_world import World, differences, fault_of, look
from hypothesis import HealthCheck, Phase, given, seed, settings

#: They may be at work for long: after SIGTERM they end with 130.
LONG = DEEP | {"backbones", "dataset", "fit-head", "sweep"}
#: Seconds that those get before SIGTERM.
AT_WORK = 20
#: Every fault is told, none is made smaller: a run of thousands is worth more than the first.
FUZZ = {
    "deadline": None, "database": None, "phases": [Phase.generate],
    "suppress_health_check": list(HealthCheck),
}  # fmt: skip


def run_line(world: World, line: Line) -> tuple[Done, str]:
    """How a command line ended in a new tree, and what is wrong with that."""
    world.renew()
    return judged(world, line.argv, as_json=line.as_json)


def judged(world: World, argv: tuple[str, ...], *, as_json: bool) -> tuple[Done, str]:
    is_long = argv[0] in LONG
    done = world.run(*argv, timeout=AT_WORK if is_long else 60)
    fault = fault_of(done, as_json=as_json, may_be_late=is_long)
    changed = differences(world.untouched, look(world.root / "canary"))
    return done, fault or (f"changes what is not ours: {changed}" if changed else "")


def is_parsed(done: Done) -> bool:
    return not done.stderr.startswith(b"Usage:")


def told(codes: Counter[tuple[str, int]]) -> str:
    """Exit codes by command, one line a command."""
    names = sorted({name for name, _ in codes})
    return "\n".join(
        f"{name:<10} "
        + ", ".join(f"{c}: {n}" for (of, c), n in sorted(codes.items()) if of == name)
        for name in names
    )


def fuzz(world: World, count: int, *, deep: bool) -> None:
    codes: Counter[tuple[str, int]] = Counter()
    faults: list[str] = []
    parsed = 0

    @seed(13)
    @settings(max_examples=count, **FUZZ)
    @given(line=command_lines(deep=deep))
    def one(line: Line) -> None:
        nonlocal parsed
        done, fault = run_line(world, line)
        codes[line.argv[0], done.code] += 1
        parsed += is_parsed(done)
        if fault:
            faults.append(f"featcache {line.argv}: {fault}")
            print(faults[-1], flush=True)

    one()
    print(f"\n{codes.total()} command lines, {parsed} past parsing; exit codes:\n{told(codes)}")
    assert not faults, "\n".join(faults)
    assert parsed > codes.total() / 3


def test_command_lines_end_as_documented(world):
    """50 fuzzed command lines: no traceback, a documented exit code, one JSON object."""
    fuzz(world, 50, deep=False)


@pytest.mark.slow
def test_many_command_lines_end_as_documented(deep_world):
    """3,000 fuzzed command lines, with those that train."""
    fuzz(deep_world, 3000, deep=True)
