"""Show what the README claims, through the public command line only.

    python scripts/evidence/extraction.py kill     twenty SIGKILLs; bytes of an undisturbed run
    python scripts/evidence/extraction.py memory   peak memory of extract at N and 14 N images
    python scripts/evidence/extraction.py fashion  Fashion-MNIST: 70,000 images to a test accuracy

Each prints one JSON object. WORK is a folder for images and caches; it may be used again.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_image

FEATCACHE = [sys.executable, "-m", "featcache"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["kill", "memory", "fashion"])
    parser.add_argument("--work", type=Path, default=Path("evidence"))
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--kills", type=int, default=20)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    record = {"kill": kill, "memory": memory, "fashion": fashion}[options.what](options)
    print(json.dumps(record, indent=2))


def kill(options: argparse.Namespace) -> dict[str, object]:
    """SIGKILL at random moments of an extraction, run it to the end, compare the files' bytes."""
    images = crops(options.work / f"crops-{options.images}", options.images)
    extract = ["extract", images, "--backbone", "efficientnet_lite0", "--size", "160"]
    undisturbed = featcache(*extract, "--cache", options.work / "undisturbed")
    cache = options.work / "killed"
    shutil.rmtree(cache, ignore_errors=True)
    arguments = [*FEATCACHE, *map(str, extract), "--cache", str(cache), "--json"]
    delays = random.Random(1)
    alive, ended = 0, 0
    for _ in range(options.kills):
        run = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            run.wait(timeout=delays.uniform(1, 5.5))
            ended += 1
        except subprocess.TimeoutExpired:
            run.send_signal(signal.SIGKILL)
            run.wait()
            alive += 1
    last = featcache(*extract, "--cache", cache)
    same = Path(last["features"]).read_bytes() == Path(undisturbed["features"]).read_bytes()
    return {
        "images": options.images,
        "killed": alive,
        "runs_that_had_ended": ended,
        "extracted_by_the_last_run": last["extracted"],
        "byte_identical": same,
        "verify_exit_code": subprocess.run(
            [*FEATCACHE, "verify", "--cache", str(cache)], stdout=subprocess.DEVNULL, check=False
        ).returncode,
    }


def memory(options: argparse.Namespace) -> dict[str, object]:
    """Peak resident memory of an extraction of N and of 14 N images."""
    record: dict[str, object] = {}
    for count in (options.images, 14 * options.images):
        images = crops(options.work / f"crops-{count}", count)
        cache = options.work / f"memory-{count}"
        shutil.rmtree(cache, ignore_errors=True)
        done, peak = measured(
            "extract", images, "--backbone", "mobilenet", "--weights", "random",
            "--size", "32", "--cache", cache,
        )  # fmt: skip
        record[str(count)] = {"extracted": done["extracted"], "peak_mb": round(peak / 1e6, 1)}
    return record


def fashion(options: argparse.Namespace) -> dict[str, object]:
    """Dataset, extract, extract again, fit-head, evaluate."""
    images, cache = options.work / "fashion_mnist", options.work / "cache"
    if not images.exists():
        featcache("dataset", "fashion_mnist", images)
    extract = ["extract", images, "--backbone", "efficientnet_lite0", "--size", "160"]
    first = featcache(*extract, "--cache", cache)
    began = time.monotonic()
    again = featcache(*extract, "--cache", cache)
    again_seconds = time.monotonic() - began
    fitted = featcache("fit-head", "fashion_mnist", "--cache", cache)
    judged = featcache("evaluate", fitted["head"], "fashion_mnist", "--cache", cache)
    names = ("rows", "extracted", "failed", "seconds", "images_per_second", "dim", "runtime")
    return {
        "first": {name: first[name] for name in names},
        "again": {"extracted": again["extracted"], "whole_command_seconds": again_seconds},
        "fit_head": {name: fitted[name] for name in ("accuracy", "seconds", "protocol")},
        "evaluate": {name: judged[name] for name in ("accuracy", "rows", "baseline", "log_loss")},
    }


def featcache(*arguments: object) -> dict:
    """A command's JSON; its progress goes to our stderr."""
    command = [*FEATCACHE, *map(str, arguments), "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)


def measured(*arguments: object) -> tuple[dict, int]:
    """A command's JSON and its peak resident memory in bytes, by a process that waits for it."""
    waiter = (
        "import resource, subprocess, sys; r = subprocess.run(sys.argv[1:]); "
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss); sys.exit(r.returncode)"
    )
    command = [sys.executable, "-c", waiter, *FEATCACHE, *map(str, arguments), "--json"]
    lines = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout.splitlines()
    unit = 1 if sys.platform == "darwin" else 1024
    return json.loads(lines[0]), int(lines[-1]) * unit


def crops(folder: Path, count: int) -> Path:
    """A folder of `count` different JPEG crops of two photographs, 96x96, in two classes."""
    if folder.exists():
        return folder
    draft = folder.with_name(f".{folder.name}")
    shutil.rmtree(draft, ignore_errors=True)
    sources = {"temple": load_sample_image("china.jpg"), "flower": load_sample_image("flower.jpg")}
    generator = np.random.default_rng(0)
    for number in range(count):
        name = ("temple", "flower")[number % 2]
        top, left = int(generator.integers(0, 330)), int(generator.integers(0, 540))
        target = draft / name / f"{number:06d}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        crop = sources[name][top : top + 96, left : left + 96].copy()
        crop[0, 0] = (number % 256, number // 256 % 256, number // 65536)
        Image.fromarray(crop).save(target, quality=95)
    return draft.rename(folder)


if __name__ == "__main__":
    main()
