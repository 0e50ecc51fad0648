"""Any file in the place of one of ours ends a command as documented, and leads it nowhere else."""

from __future__ import annotations

import pytest
from broken_files import DEEP, FORMATS, Broken, broken_files
from crafting import overwrite
from fork_server import Done
from hostile_world import World
from test_fuzz_commands import Tally, each, judged


def run_broken(world: World, broken: Broken) -> tuple[Done, str]:
    """How the command that reads a broken file ended, and what is wrong with that."""
    world.renew()
    overwrite(world.root / broken.place, broken.content)
    return judged(world, broken.argv, as_json="--json" in broken.argv)


class FileFuzz:
    """Runs commands on broken files in a world."""

    def __init__(self, world: World) -> None:
        self.world, self.tally, self.resealed = world, Tally(), 0

    def run(self, broken: Broken) -> None:
        done, fault = run_broken(self.world, broken)
        self.resealed += broken.resealed
        fault = fault and f"{broken.format}, featcache {broken.argv}: {fault}"
        self.tally.add(broken.format, done, fault)

    def tell(self) -> None:
        self.tally.tell(f"files, {self.resealed} with right checksums")
        assert self.resealed > self.tally.codes.total() / 3


@pytest.mark.parametrize(
    "form", [form for form in FORMATS if form.name not in DEEP], ids=lambda form: form.name
)
def test_broken_files_end_as_documented(world, form):
    """A file of every format, broken at random and behind right checksums: no traceback."""
    fuzz = FileFuzz(world)
    for sums in ((True,), (False,)):
        each(broken_files(world.template, (form,), sums), 2, fuzz.run)
    fuzz.tell()


@pytest.mark.slow
def test_many_broken_files_end_as_documented(deep_world):
    """3,000 fuzzed files."""
    fuzz = FileFuzz(deep_world)
    each(broken_files(deep_world.template), 3000, fuzz.run)
    fuzz.tell()
