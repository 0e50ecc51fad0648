"""What the scripts of evidence share: featcache's commands, and photographs to run them on."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_image

FEATCACHE = [sys.executable, "-m", "featcache"]


def photographs(folder: Path, count: int) -> Path:
    """Different JPEG crops of 500x375 out of scikit-learn's two photographs."""
    if folder.exists():
        return folder
    folder.mkdir()
    sources = [
        Image.fromarray(load_sample_image(name)).resize((960, 640))
        for name in ("china.jpg", "flower.jpg")
    ]
    for number in range(count):
        left, top = np.random.default_rng(number).integers(0, (460, 265))
        crop = sources[number % 2].crop((left, top, left + 500, top + 375))
        crop.save(folder / f"{number:04d}.jpg", quality=90)
    return folder


def command(*arguments: object) -> dict:
    """A featcache command's JSON; its errors end the script."""
    done = subprocess.run(
        [*FEATCACHE, *map(str, arguments), "--json"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"featcache {' '.join(map(str, arguments))} failed:\n{done.stderr}")
    return json.loads(done.stdout)
