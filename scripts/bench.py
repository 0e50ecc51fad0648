"""Measure extraction against the loop people write by hand, side by side in one run.

    python scripts/bench.py                         every network, three rounds
    python scripts/bench.py --networks mobilenetv2 --rounds 5 --out figures.json

Each round runs the hand-written Keras loop, then featcache in each setting, on the same JPEG files
and the same weights, each in a process of its own; ratios are taken within a round and given as
median (smallest .. largest). Rates leave start-up out on both sides: the loop is warmed up by one
batch, featcache's own figure begins with the first read. Vectors are compared in the norm
max|a - b| / max|b| of a row. featcache is used through its command line only.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

#: name: (module in keras.applications, class, input side, images)
NETWORKS = {
    "mobilenetv2": ("mobilenet_v2", "MobileNetV2", 224, 1500),
    "resnet50": ("resnet", "ResNet50", 224, 300),
    "inceptionv3": ("inception_v3", "InceptionV3", 150, 800),
    "vgg16": ("vgg16", "VGG16", 224, 128),
}
SETTINGS = {
    "float32 keras": ["--interpolation", "keras"],
    "float32 default": [],
    "bfloat16 keras": ["--interpolation", "keras", "--precision", "bfloat16"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--width", type=int, default=500, help="of the JPEG files")
    parser.add_argument("--height", type=int, default=375)
    parser.add_argument("--out", type=Path, help="also write the figures as JSON")
    parser.add_argument("--loop", nargs=4, help=argparse.SUPPRESS)  # one loop, in its own process
    options = parser.parse_args()
    if options.loop:
        print(json.dumps(hand_written_loop(*options.loop)))
        return
    with tempfile.TemporaryDirectory() as folder:
        record = {"networks": {}, "starts": starts(Path(folder), options)}
        for network in options.networks:
            record["networks"][network] = compare(network, Path(folder), options)
    print_record(record)
    if options.out:
        options.out.write_text(json.dumps(record, indent=2) + "\n")


def compare(network: str, folder: Path, options: argparse.Namespace) -> dict:
    """All rounds of one network: rates, ratios, errors and memory."""
    side, count = NETWORKS[network][2:]
    images = photographs(folder / f"images-{count}", count, (options.width, options.height))
    weights = save_weights(network, folder / f"{network}.weights.h5")
    rounds = [one_round(network, images, weights, folder) for _ in range(options.rounds)]
    loop = [each["loop"]["rate"] for each in rounds]
    result = {"side": side, "images": count, "loop": spread(loop), "settings": {}}
    for setting in rounds[0]["settings"]:
        runs = [each["settings"][setting] for each in rounds]
        rates = [run["rate"] for run in runs]
        result["settings"][setting] = {
            "rate": spread(rates),
            "ratio": spread([rate / base for rate, base in zip(rates, loop, strict=True)]),
            "error": max(run["error"] for run in runs),
            "peak_mb": max(run["peak_mb"] for run in runs),
            "start_seconds": spread([run["whole"] - run["seconds"] for run in runs]),
            "runtime": runs[0]["runtime"],
        }
    return result


def one_round(network: str, images: Path, weights: Path, folder: Path) -> dict:
    """The loop once, then every setting of featcache once, on the same files."""
    vectors = folder / "loop.npy"
    command = [sys.executable, __file__, "--loop", network, str(images), str(weights), str(vectors)]
    loop = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    want = np.load(vectors)
    return {
        "loop": loop,
        "settings": {
            name: featcache_run(network, images, weights, folder, extra, want)
            for name, extra in SETTINGS.items()
            if "bfloat16" not in name or has_bfloat16()
        },
    }


def featcache_run(
    network: str, images: Path, weights: Path, folder: Path, extra: list[str], want: np.ndarray
) -> dict:
    """One extraction into an empty cache, with its error against the loop's vectors."""
    import h5py

    cache = folder / "cache"
    shutil.rmtree(cache, ignore_errors=True)
    started = time.monotonic()
    record, peak = featcache(
        "extract", images, "--backbone", network, "--weights", weights, "--cache", cache,
        "--size", NETWORKS[network][2], *extra,
    )  # fmt: skip
    whole = time.monotonic() - started
    with h5py.File(record["features"]) as file:
        got = file["features"][:]
    return {
        "rate": record["images_per_second"],
        "seconds": record["seconds"],
        "whole": whole,
        "error": float((np.abs(got - want).max(axis=1) / np.abs(want).max(axis=1)).max()),
        "peak_mb": peak / 1e6,
        "runtime": record["runtime"],
    }


def hand_written_loop(network: str, images: str, weights: str, out: str) -> dict:
    """What people write: image_dataset_from_directory -> preprocess -> predict -> save."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras
    import tensorflow as tf

    module, constructor, side, _ = NETWORKS[network]
    family = getattr(keras.applications, module)
    base = getattr(keras.applications, constructor)(
        include_top=False, weights=None, pooling="avg", input_shape=(side, side, 3)
    )
    base.load_weights(weights)
    data = keras.utils.image_dataset_from_directory(
        images, labels=None, shuffle=False, image_size=(side, side), batch_size=32, verbose=False
    )
    data = data.map(family.preprocess_input, num_parallel_calls=tf.data.AUTOTUNE).prefetch(2)
    base.predict(np.zeros((32, side, side, 3), np.float32), verbose=0)
    started = time.monotonic()
    features = base.predict(data, verbose=0)
    np.save(out, features)
    seconds = time.monotonic() - started
    return {"rate": len(features) / seconds, "seconds": seconds}


def starts(folder: Path, options: argparse.Namespace) -> dict:
    """Whole-process times: help, import, a run with nothing new, and a start with one new image."""
    images = photographs(folder / "images-2000", 2000, (options.width, options.height))
    extract = ["extract", images, "--backbone", "efficientnet_lite0", "--size", 64, "--cache",
               folder / "starts"]  # fmt: skip
    featcache(*extract)
    times: dict[str, list[float]] = {"nothing new, 2,000 images": [], "one new image of 2,000": []}
    for number in range(options.rounds):
        # Three seconds: files younger than two are hashed again, by git's racy rule.
        time.sleep(3)
        times["nothing new, 2,000 images"].append(timed(lambda: featcache(*extract)))
        draw(images / f"new{number}.jpg", 10_000 + number, (options.width, options.height))
        times["one new image of 2,000"].append(timed(lambda: featcache(*extract)))
    for name, code in {
        "featcache --help": [sys.executable, "-m", "featcache", "--help"],
        "import featcache": [sys.executable, "-c", "import featcache"],
        "python itself": [sys.executable, "-c", "pass"],
    }.items():
        run = lambda code=code: subprocess.run(code, stdout=subprocess.DEVNULL, check=True)  # noqa: E731
        times[name] = [timed(run) for _ in range(max(5, options.rounds))]
    return {name: spread(values) for name, values in times.items()}


def featcache(*arguments: object) -> tuple[dict, int]:
    """A command's JSON, and the peak resident memory in bytes of its process."""
    waiter = (
        "import resource, subprocess, sys; r = subprocess.run(sys.argv[1:]); "
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss); sys.exit(r.returncode)"
    )
    command = [sys.executable, "-c", waiter, sys.executable, "-m", "featcache"]
    command += [*map(str, arguments), "--json"]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr.decode()}")
    lines = done.stdout.splitlines()
    return json.loads(lines[0]), int(lines[-1]) * (1 if sys.platform == "darwin" else 1024)


def has_bfloat16() -> bool:
    """Whether OpenVINO reports bfloat16 for this processor."""
    try:
        import openvino
    except ImportError:
        return False
    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def photographs(folder: Path, count: int, size: tuple[int, int]) -> Path:
    """A folder of different JPEG photographs: crops of those that packages ship."""
    if not folder.exists():
        folder.mkdir()
        for number in range(count):
            draw(folder / f"{number:05d}.jpg", number, size)
    return folder


def draw(path: Path, number: int, size: tuple[int, int]) -> None:
    """One crop, chosen by its number, of scikit-learn's two photographs, enlarged a little."""
    from sklearn.datasets import load_sample_image

    if not SOURCES:
        for name in ("china.jpg", "flower.jpg"):
            SOURCES.append(Image.fromarray(load_sample_image(name)).resize((960, 640)))
    generator = np.random.default_rng(number)
    left, top = generator.integers(0, 960 - size[0]), generator.integers(0, 640 - size[1])
    crop = SOURCES[number % 2].crop((left, top, left + size[0], top + size[1]))
    crop.save(path, quality=90)


SOURCES: list[Image.Image] = []


def save_weights(network: str, path: Path) -> Path:
    """Random weights, the same for the loop and for featcache."""
    if not path.exists():
        _, constructor, side, _ = NETWORKS[network]
        code = (
            "import sys, keras; keras.utils.set_random_seed(0); "
            f"keras.applications.{constructor}(include_top=False, weights=None, pooling='avg', "
            f"input_shape=({side}, {side}, 3)).save_weights(sys.argv[1])"
        )
        subprocess.run([sys.executable, "-c", code, str(path)], stderr=subprocess.PIPE, check=True)
    return path


def timed(action: object) -> float:
    started = time.monotonic()
    action()  # type: ignore[operator]
    return time.monotonic() - started


def spread(values: list[float]) -> dict[str, float]:
    return {
        "median": round(statistics.median(values), 3),
        "min": round(min(values), 3),
        "max": round(max(values), 3),
    }


def text(values: dict[str, float]) -> str:
    return f"{values['median']:g} ({values['min']:g} .. {values['max']:g})"


def print_record(record: dict) -> None:
    for name, network in record["networks"].items():
        print(f"\n{name} at {network['side']} pixels, {network['images']} images")
        print(f"  {'hand-written loop':<18} {text(network['loop'])} images/s")
        for setting, row in network["settings"].items():
            print(
                f"  {setting:<18} {text(row['rate'])} images/s, ratio {text(row['ratio'])}, "
                f"error {row['error']:.1e}, peak {row['peak_mb']:.0f} MB, {row['runtime']}"
            )
    print("\nwhole processes, seconds")
    for name, values in record["starts"].items():
        print(f"  {name:<28} {text(values)}")


if __name__ == "__main__":
    main()
