"""Count what the store withstands, through the public command line.

    python scripts/evidence/hostile.py kills       SIGKILL at random moments of an extraction
    python scripts/evidence/hostile.py commands    SIGKILL of the other commands
    python scripts/evidence/hostile.py full        disks that are too small (Linux, as root: tmpfs)
    python scripts/evidence/hostile.py flips       one damaged byte at a time, in every kind of file
    python scripts/evidence/hostile.py together    two to six extractions at once into one cache

Each prints one JSON object, and exits 1 where something was lost. WORK is a folder for images and
caches; it may be used again. `--times` says how often: 50 by default.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shared import FEATCACHE, command, photographs

LITE = ("--backbone", "efficientnet_lite0", "--size", "32")
IMAGES = 300


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=list(COUNTS))
    parser.add_argument("--work", type=Path, default=Path("evidence"))
    parser.add_argument("--times", type=int, default=50)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    record = COUNTS[options.what](Ground(options.work.resolve()), options.times)
    print(json.dumps(record, indent=2))
    sys.exit(bool(record["lost"]))


class Ground:
    """Images in two classes, and a cache that nobody disturbed, to compare with."""

    def __init__(self, work: Path) -> None:
        self.work = work
        self.images = work / "photos"
        if not self.images.exists():
            flat = photographs(work / "flat", IMAGES)
            for number, path in enumerate(sorted(flat.iterdir())):
                target = self.images / ("even", "odd")[number % 2] / path.name
                target.parent.mkdir(parents=True, exist_ok=True)
                path.rename(target)
        self.undisturbed = work / "undisturbed"
        command("extract", self.images, *LITE, "--cache", self.undisturbed)
        command("fit-head", "photos", "--C", "0.1", "--cache", self.undisturbed)
        self.wanted = digests(self.undisturbed)
        (features,) = self.undisturbed.glob("photos/*/features.h5")
        self.entry = features.parent.relative_to(self.undisturbed)

    def new_cache(self, *, filled: bool = False) -> Path:
        """An empty cache, or a copy of the undisturbed one."""
        cache = self.work / "cache"
        shutil.rmtree(cache, ignore_errors=True)
        if filled:
            shutil.copytree(self.undisturbed, cache)
        return cache

    def extract(self, cache: Path) -> list[str]:
        return [*FEATCACHE, "extract", str(self.images), *LITE, "--cache", str(cache), "--json"]

    def trouble(self, cache: Path, *, is_removed: bool = False) -> str:
        """What differs from the undisturbed features, or is damaged, or was left behind."""
        if digests(cache) != ({} if is_removed else self.wanted):
            return "the features differ from those of an undisturbed run"
        if code := exit_code([*FEATCACHE, "verify", "--cache", str(cache)]):
            return f"verify exits with {code}"
        drafts = [path.name for path in cache.rglob(".tmp-*")]
        return f"drafts are left: {drafts}" if drafts else ""


def digests(cache: Path) -> dict[str, str]:
    """SHA-256 of every packed file, by its place in a cache."""
    return {
        str(path.relative_to(cache)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(cache.rglob("*.h5"))
    }


def exit_code(arguments: list[str], seconds: float | None = None) -> int:
    """A command's exit code; after some seconds it is killed: -9."""
    run = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        return run.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        run.send_signal(signal.SIGKILL)
        return run.wait()


def duration(arguments: list[str]) -> float:
    """Seconds that a command takes, which depend on the machine and on what else it does."""
    began = time.monotonic()
    exit_code(arguments)
    return time.monotonic() - began


def kills(ground: Ground, times: int) -> dict[str, object]:
    """Kill extractions into one cache until each has been, then finish: nothing may be missing."""
    delays, codes, lost = random.Random(1), Counter[int](), []
    whole = duration(ground.extract(ground.new_cache()))
    cache = ground.new_cache()
    for number in range(times):
        code = exit_code(ground.extract(cache), delays.uniform(0.1, 1) * whole)
        codes[code] += 1
        if code == 0 or number == times - 1:
            exit_code(ground.extract(cache))
            lost += [trouble] if (trouble := ground.trouble(cache)) else []
            cache = ground.new_cache()
    return {"runs": times, "killed": codes[-signal.SIGKILL], "codes": codes, "lost": lost}


def commands(ground: Ground, times: int) -> dict[str, object]:
    """Kill every other command at a random moment: the features stay whole, `rm` is all or none."""
    head = str(ground.work / "evidence.head")
    command("fit-head", "photos", "--C", "0.1", "--out", head, "--cache", ground.undisturbed)
    verbs = (
        ["fit-head", "photos"], ["verify"], ["gc"], ["repair", "photos"], ["split", "photos"],
        ["evaluate", head, "photos"], ["sweep", "photos"],
        ["predict", head, str(ground.images), "--out", str(ground.work / "p.csv")],
        ["rm", "photos", "--yes"],
    )  # fmt: skip
    delays, killed, lost = random.Random(2), Counter[str](), []
    whole: dict[str, float] = {}
    for number in range(times):
        verb = verbs[number % len(verbs)]
        cache = ground.new_cache(filled=True)
        arguments = [*FEATCACHE, *verb, "--cache", str(cache)]
        delay = delays.uniform(0.1, 1) * whole.get(verb[0], 3.0)
        killed[verb[0]] += exit_code(arguments, delay) == -signal.SIGKILL
        whole[verb[0]] = duration(arguments)
        if trouble := ground.trouble(cache, is_removed=verb[0] == "rm"):
            lost.append(f"{verb[0]}: {trouble}")
    return {"runs": times, "killed": killed.total(), "by_command": killed, "lost": lost}


def full(ground: Ground, times: int) -> dict[str, object]:
    """Extract onto disks of growing size: exit code 5, and the same command ends it with room."""
    need = sum(path.stat().st_size for path in ground.undisturbed.rglob("*.h5"))
    codes, lost = Counter[int](), []
    for number in range(times):
        with small_disk(ground.work / "disk", int(need * (number + 0.5) / times * 2)) as disk:
            code = exit_code(ground.extract(disk / "cache"))
            codes[code] += 1
            if code not in (0, 5):
                lost.append(f"disk {number}: exit code {code}")
            subprocess.run(["mount", "-o", "remount,size=1g", disk], check=True)
            exit_code(ground.extract(disk / "cache"))
            if trouble := ground.trouble(disk / "cache"):
                lost.append(f"disk {number}: {trouble}")
    return {"disks": times, "codes": codes, "lost": lost}


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[Path]:
    """A file system of so many bytes."""
    if os.geteuid() != 0:
        sys.exit("full: only root may mount a small disk")
    folder.mkdir(exist_ok=True)
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size // 1024 + 8}k", "tmpfs", folder], check=True
    )
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def flips(ground: Ground, times: int) -> dict[str, object]:
    """Damage a byte of each kind of file in turn: verify exits with 4 and names the file."""
    from typer.testing import CliRunner

    from featcache.cli import app

    random_, found, lost = random.Random(3), Counter[str](), []
    cache = ground.new_cache(filled=True)
    targets = sorted(path for end in ("*.h5", "*.head") for path in cache.rglob(end))
    for number in range(times):
        path = targets[number % len(targets)]
        sound = path.read_bytes()
        place = random_.randrange(len(sound))
        path.chmod(0o644)
        path.write_bytes(
            sound[:place] + bytes([sound[place] ^ 1 << number % 8]) + sound[place + 1 :]
        )
        done = CliRunner().invoke(app, ["verify", "--json", "--cache", str(cache)])
        if done.exit_code == 4 and path.name in done.stdout:
            found[path.suffix] += 1
        else:
            lost.append(f"{path.name}, byte {place}: verify exits with {done.exit_code}")
        path.write_bytes(sound)
    return {"flips": times, "found": found, "missed": len(lost), "lost": lost[:10]}


def together(ground: Ground, times: int) -> dict[str, object]:
    """Two to six extractions at once: all succeed or say why, and the features are the same."""
    codes, lost = Counter[int](), []
    for number in range(times):
        cache = ground.new_cache()
        count = 2 + number % 5
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        runs = [subprocess.Popen(ground.extract(cache), **quiet) for _ in range(count)]
        codes.update(run.wait() for run in runs)
        if trouble := ground.trouble(cache):
            lost.append(f"{count} at once: {trouble}")
    return {"rounds": times, "codes": codes, "lost": lost}


COUNTS = {
    "kills": kills, "commands": commands, "full": full, "flips": flips, "together": together,
}  # fmt: skip

if __name__ == "__main__":
    main()
