"""What it costs that every row is compared with its checksum before it is used.

    python scripts/benchmarks/checks.py [--rows 60000] [--width 1280] [--rounds 5] [--head logreg]

Makes features of random numbers in ten classes, then fits the head in turn with rows that are not
yet known to be sound and with rows that are (the file gets another time, so that they are not).
Prints one JSON object: seconds, and processor seconds of all threads, of both in each round; the
seconds of checking all rows alone; and what that is for each row, to compare with the seconds that
an extraction takes for each image.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import tempfile
import time
from pathlib import Path

import numpy as np

import featcache
from featcache.features.store.recipe_store import RecipeStore
from featcache.features.store.records import Block, Identity, Stamp
from featcache.recipe import Decoding, Recipe, Scaling

CLASSES = [f"class {code}" for code in range(10)]
PART = 5000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=60_000)
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--head", default="logreg")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = make_features(Path(folder), options.rows, options.width)
        print(json.dumps(measure(path, options.head, options.rounds), indent=1))


def make_features(folder: Path, rows: int, width: int) -> Path:
    """A `features.h5` of random rows; every fifth tests."""
    recipe = Recipe(backbone="efficientnet_lite0", weights="0" * 64,
                    decoding=Decoding((224, 224)), scaling=Scaling())  # fmt: skip
    store = RecipeStore(folder / "cache" / "made" / f"made-{recipe.key[:8]}", recipe.to_json())
    stamp = Stamp('{"numpy": "2"}', np.ones((8, width), np.float32))
    names = [f"{row:08d}.png" for row in range(rows)]
    keys = np.array([hashlib.sha256(name.encode()).hexdigest().encode() for name in names], "S64")
    codes = np.arange(rows, dtype=np.int32) % len(CLASSES)
    random, views = np.random.default_rng(0), np.zeros(rows, np.int32)
    for start in range(0, rows, PART):
        some = slice(start, min(start + PART, rows))
        vectors = random.standard_normal((some.stop - start, width), dtype=np.float32)
        vectors[np.arange(len(vectors)), codes[some]] += 2
        sizes = np.full((len(vectors), 2), 224, np.int32)
        store.commit(Block(vectors, keys[some], views[some], names[some], sizes, []), stamp)
    splits, none = (np.arange(rows) % 5 == 0).astype(np.int32), np.full(rows, -1, np.int32)
    identity = Identity(names, keys, views, codes, CLASSES, splits, ["train", "test"], none, [], [])
    return store.pack(identity, stamp).path


def measure(path: Path, head: str, rounds: int) -> dict[str, object]:
    """Rounds of the same fit, with and without checks, in turn."""
    options = {"C": 0.01} if head == "logreg" else {}
    fit(path, head, options)  # loads libraries and the file
    record: dict[str, list[tuple[float, float]]] = {"checked": [], "known": []}
    alone = []
    for _ in range(rounds):
        os.utime(path)
        record["checked"].append(timed(lambda: fit(path, head, options)))
        record["known"].append(timed(lambda: fit(path, head, options)))
        os.utime(path)
        alone.append(timed(featcache.load(path).check))
    rows = len(featcache.load(path))
    # Processor seconds: on a busy machine the others' work is not in them.
    cost = float(np.median([used for _, used in alone]))
    fitted = float(np.median([used for _, used in record["known"]]))
    return {
        **record,
        "check alone": alone,
        "check as a share of the fit": cost / fitted,
        "microseconds of checking a row": 1e6 * cost / rows,
    }


def fit(path: Path, head: str, options: dict[str, float]) -> None:
    featcache.fit_head(featcache.load(path), head=head, **options)


def timed(work) -> tuple[float, float]:
    """Seconds, and processor seconds of all threads."""
    began, used = time.perf_counter(), time.process_time()
    work()
    return round(time.perf_counter() - began, 4), round(time.process_time() - used, 4)


if __name__ == "__main__":
    main()
