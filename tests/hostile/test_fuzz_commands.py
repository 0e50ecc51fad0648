"""Any command line ends as documented, and changes nothing that is not ours."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TypeVar

import pytest
from command_lines import COMMANDS, DEEP, Line, command_lines
from fork_server import Done
from hostile_world import World, differences, fault_of, look
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

T = TypeVar("T")

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


def each(examples: st.SearchStrategy[T], count: int, do: Callable[[T], None]) -> None:
    """Do something with every example: the same ones in every run."""

    @seed(13)
    @settings(max_examples=count, **FUZZ)
    @given(examples)
    def one(example: T) -> None:
        do(example)

    one()


class Tally:
    """How the commands ended, by what they were; every fault is told at once."""

    def __init__(self) -> None:
        self.codes: Counter[tuple[str, int]] = Counter()
        self.faults: list[str] = []

    def add(self, name: str, done: Done, fault: str) -> None:
        self.codes[name, done.code] += 1
        if fault:
            self.faults.append(fault)
            print(fault, flush=True)

    def tell(self, what: str) -> None:
        print(f"\n{self.codes.total()} {what}; exit codes:\n{told(self.codes)}")
        assert not self.faults, "\n".join(self.faults)


class LineFuzz:
    """Runs command lines in a world."""

    def __init__(self, world: World) -> None:
        self.world, self.tally, self.parsed = world, Tally(), 0

    def run(self, line: Line) -> None:
        done, fault = run_line(self.world, line)
        self.parsed += is_parsed(done)
        self.tally.add(line.argv[0], done, fault and f"featcache {line.argv}: {fault}")

    def tell(self) -> None:
        self.tally.tell(f"command lines, {self.parsed} past parsing")
        assert self.parsed > self.tally.codes.total() / 3


def test_command_lines_end_as_documented(world):
    """Two fuzzed lines of every command: no traceback, a documented exit code, one JSON object."""
    fuzz = LineFuzz(world)
    for name in COMMANDS:
        each(command_lines(deep=False, names=[name]), 2, fuzz.run)
    fuzz.tell()


@pytest.mark.slow
def test_many_command_lines_end_as_documented(deep_world):
    """3,000 fuzzed command lines, with those that train."""
    fuzz = LineFuzz(deep_world)
    each(command_lines(deep=True), 3000, fuzz.run)
    fuzz.tell()
