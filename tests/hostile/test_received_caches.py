"""A cache from a stranger, with links, pipes and foreign files at every name: nothing follows them.

Its headers, markers and tags are valid. Where its links lead there is the same again, and old: all
that a careless command looks at before it writes or deletes.
"""

from __future__ import annotations

import os
import random
import shutil
from collections import Counter
from itertools import cycle, product
from pathlib import Path

import pytest
from hostile_world import LITE, OLD, World, differences, fault_of, look

#: Names below `work/cache` and `home`; ENTRY is the folder of a recipe, KEY that of a graph.
PLACES = (
    "work/cache/photos", "work/cache/photos/ENTRY", "work/cache/photos/ENTRY/parts",
    "work/cache/photos/ENTRY/quarantine", "work/cache/photos/ENTRY/features.h5",
    "work/cache/photos/ENTRY/parts/p-0123456789abcdef.h5",
    "work/cache/photos/ENTRY/parts/left-0123456789abcdef.h5",
    "work/cache/photos/ENTRY/parts/.tmp-1-draft", "work/cache/photos/ENTRY/.tmp-1-draft",
    "work/cache/photos/ENTRY/quarantine/features.h5", "work/cache/photos/ENTRY/lock",
    "work/cache/photos/ENTRY/weights.json", "work/cache/photos/ENTRY/runs.jsonl",
    "work/cache/photos/ENTRY/logreg.head", "work/cache/photos/featcache.json",
    "work/cache/photos/scan.json.gz", "work/cache/photos/.tmp-marker-1",
    "home/notes", "home/graphs", "home/graphs/KEY", "home/graphs/KEY/proof", "home/notes/old.note",
    "home/graphs/.tmp-1",
)  # fmt: skip
KINDS = (
    "absolute link", "relative link", "dangling link", "loop", "pipe", "foreign file",
    "foreign folder",
)  # fmt: skip
VERBS = (
    ("ls",), ("info", "photos"), ("verify",), ("gc",), ("repair", "photos"),
    ("rm", "photos", "--yes"), ("extract", "photos", *LITE), ("fit-head", "photos", "--C", "0.1"),
)  # fmt: skip
FOREIGN = "thesis.txt"


def receive(world: World) -> Path:
    """A new tree with a stranger's cache and home; gives what its links lead to: our canary."""
    world.renew()
    entry = world.root / "work" / "cache" / world.entry
    for name in ("parts/p-0123456789abcdef.h5", "parts/left-0123456789abcdef.h5",
                 "quarantine/features.h5", ".tmp-1-draft", "parts/.tmp-1-draft"):  # fmt: skip
        (entry / name).parent.mkdir(exist_ok=True)
        shutil.copy2(entry / "features.h5", entry / name)
    for folder in [path for path in world.root.rglob("*") if path.is_dir()]:
        if {"cache", "home"} & set(folder.relative_to(world.root).parts[:2]):
            (folder / FOREIGN).write_text("three years of work")
            (folder / "CACHEDIR.TAG").write_text("Signature: 8a477f597d28d172789f06886806bc55\n")
    elsewhere = world.root / "canary" / "elsewhere"
    for name in ("work/cache", "home"):
        shutil.copytree(world.root / name, elsewhere / name)
    for path in [*elsewhere.rglob("*"), *(world.root / "home").rglob("*")]:
        os.utime(path, (OLD, OLD))
    world.untouched = look(world.root / "canary")
    return elsewhere


def put(world: World, elsewhere: Path, place: str, kind: str) -> None:
    """Something hostile in the place of one of our names."""
    key = next((world.template / "home" / "graphs").iterdir()).name
    place = place.replace("photos/ENTRY", world.entry).replace("KEY", key)
    path, twin = world.root / place, elsewhere / place
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    if not twin.exists():
        twin = world.root / "canary" / "documents" / "letter.txt"
    if kind == "absolute link":
        path.symlink_to(twin)
    elif kind == "relative link":
        path.symlink_to(os.path.relpath(twin, path.parent))
    elif kind == "dangling link":
        path.symlink_to(world.root / "canary" / "new")
    elif kind == "loop":
        path.symlink_to(path.name)
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "foreign file":
        path.write_text("three years of work")
    else:
        path.mkdir()
        (path / FOREIGN).write_text("three years of work")
    os.utime(path, (OLD, OLD), follow_symlinks=False)


def foreign_files(world: World) -> set[Path]:
    """Those that nobody made for us, wherever no link leads to them."""
    return {path for name in ("work/cache", "home") for path in (world.root / name).rglob(FOREIGN)}


def walk(world: World, cases: list[tuple[str, str, tuple[str, ...]]]) -> Counter[int]:
    """Run each verb over each hostile cache; gives how often each exit code came."""
    codes: Counter[int] = Counter()
    faults = []
    for place, kind, verb in cases:
        put(world, receive(world), place, kind)
        before = foreign_files(world)
        done = world.run(*verb, "--json")
        codes[done.code] += 1
        changed = differences(world.untouched, look(world.root / "canary"))
        gone = [str(path) for path in sorted(before - foreign_files(world))]
        if fault := fault_of(done, as_json=True) or str(changed or gone or ""):
            faults.append(f"{verb[0]}, {kind} at {place}: {fault}")
    assert not faults, f"{len(faults)} of {len(cases)}:\n" + "\n".join(faults)
    return codes


EVERYTHING = list(product(PLACES, KINDS, VERBS))


def test_received_caches_lead_nowhere(world):
    """Something at every name, of every kind, under every verb: no byte outside changes."""
    places = random.Random(13).sample(PLACES, len(PLACES))
    walk(world, list(zip(places, cycle(KINDS), cycle(VERBS), strict=False)))


@pytest.mark.slow
def test_every_received_cache_leads_nowhere(world):
    """Every kind of thing at every name, under every verb."""
    print(walk(world, EVERYTHING))
