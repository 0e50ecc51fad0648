"""Measure extraction against the loop people write by hand, side by side in one run.

    python scripts/benchmarks/extraction.py                          every network, three rounds
    python scripts/benchmarks/extraction.py --networks mobilenetv2 --rounds 5 --out figures.json
    python scripts/benchmarks/extraction.py --markdown figures.json  its tables, nothing is measured

Each round runs the hand-written Keras loop, then featcache in each setting, on the same JPEG files
and the same weights, each in a process of its own; ratios are taken within a round and given as
median (smallest .. largest). Rates leave start-up out on both sides: the loop is warmed up by one
batch, featcache's own figure begins with the first read. Vectors are compared in the norm
max|a - b| / max|b| of a row. featcache is used through its command line only, in a home of its own:
a first run of each setting converts the network and is told apart from the later ones.

The bound is R / (1 + t R / cores): R is the kept graph fed from memory, t one image decoded by one
core (`bound.py`, no featcache in it), both measured in each round.
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
from performance_tables import markdown, screen
from PIL import Image

BOUND = Path(__file__).with_name("bound.py")

#: name: (module in keras.applications, class, input side, images, images in a batch of featcache)
NETWORKS = {
    "mobilenetv2": ("mobilenet_v2", "MobileNetV2", 224, 900, 4),
    "resnet50": ("resnet", "ResNet50", 224, 160, 4),
    "inceptionv3": ("inception_v3", "InceptionV3", 150, 500, 8),
    "vgg16": ("vgg16", "VGG16", 224, 64, 4),
}
#: The first one's graph is also run alone; bfloat16 is another way to compile the same graph.
SETTINGS = {
    "float32 keras": ["--interpolation", "keras"],
    "float32 default": [],
    "bfloat16 keras": ["--interpolation", "keras", "--precision", "bfloat16"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, help="of each network, instead of its own number")
    parser.add_argument("--width", type=int, default=500, help="of the JPEG files")
    parser.add_argument("--height", type=int, default=375)
    parser.add_argument("--out", type=Path, help="also write the figures as JSON")
    parser.add_argument("--markdown", type=Path, help="print the tables of a JSON and stop")
    parser.add_argument("--loop", nargs=4, help=argparse.SUPPRESS)  # one loop, in its own process
    options = parser.parse_args()
    if options.loop:
        print(json.dumps(hand_written_loop(*options.loop)))
        return
    if options.markdown:
        print(markdown(json.loads(options.markdown.read_text())))
        return
    with tempfile.TemporaryDirectory() as folder:
        os.environ["FEATCACHE_HOME"] = str(Path(folder) / "home")
        record = measure(Path(folder), options)
    print(screen(record))
    if options.out:
        options.out.write_text(json.dumps(record, indent=2) + "\n")


def measure(folder: Path, options: argparse.Namespace) -> dict:
    """The record: a place for each network, the starts, and the rate of matrix products."""
    networks, matrix = {}, []
    for network in options.networks:
        networks[network], rates = compare(network, folder, options)
        matrix += rates
    return {
        "cores": os.cpu_count(),
        "matrix": spread(matrix),
        "networks": networks,
        "starts": starts(folder, options),
    }


def compare(network: str, folder: Path, options: argparse.Namespace) -> tuple[dict, list[float]]:
    """All rounds of one network, and the matrix rate of each round."""
    side, count = NETWORKS[network][2], options.images or NETWORKS[network][3]
    images = photographs(folder / f"images-{count}", count, (options.width, options.height))
    weights = save_weights(network, folder / f"{network}.weights.h5")
    firsts, graph = first_runs(network, images, weights, folder)
    rounds = [one_round(network, images, weights, graph) for _ in range(options.rounds)]
    loops = [each["loop"] for each in rounds]
    result = {
        "side": side,
        "images": count,
        "multiply_adds": loops[0]["multiply_adds"],
        "loop": spread([loop["rate"] for loop in loops]),
        "decode_ms": spread([1000 * each["decode"] for each in rounds]),
        "settings": {
            setting: summary(setting, rounds, firsts[setting]) for setting in rounds[0]["settings"]
        },
    }
    return result, [each["matrix"] for each in rounds]


def summary(setting: str, rounds: list[dict], first: dict) -> dict:
    """What the rounds say about one setting; ratios and shares are taken within a round."""
    runs = [each["settings"][setting] for each in rounds]
    result = {
        "rate": spread([run["rate"] for run in runs]),
        "ratio": spread([run["rate"] / each["loop"]["rate"] for run, each in zip_(runs, rounds)]),
        "error": max(run["error"] for run in runs),
        "peak_mb": max(run["peak_mb"] for run in runs),
        "start_seconds": spread([run["whole"] - run["seconds"] for run in runs]),
        "first_peak_mb": first["peak_mb"],
        "first_start": first["whole"] - first["seconds"],
        "runtime": runs[0]["runtime"],
    }
    if setting in rounds[0]["networks"]:
        alone = [each["networks"][setting] for each in rounds]
        work = [2 * each["loop"]["multiply_adds"] / each["matrix"] for each in rounds]
        bounds = [rate / (1 + each["decode"] * rate / os.cpu_count())
                  for rate, each in zip_(alone, rounds)]  # fmt: skip
        result["network"] = spread(alone)
        result["bound"] = spread([run["rate"] / bound for run, bound in zip_(runs, bounds)])
        result["matrix"] = spread([run["rate"] * share for run, share in zip_(runs, work)])
    return result


def first_runs(
    network: str, images: Path, weights: Path, folder: Path
) -> tuple[dict[str, dict], Path | None]:
    """A few images in each setting, which convert the network; the graph that the first one keeps.

    None where no graph is kept: TensorFlow runs the network there.
    """
    few = folder / f"few-{network}"
    few.mkdir()
    for path in sorted(images.glob("*.jpg"))[:64]:
        shutil.copy(path, few)
    before = set(graphs(folder))
    runs, graph = {}, None
    for setting in settings():
        runs[setting] = featcache_run(network, few, weights, SETTINGS[setting])
        graph = graph or next((path for path in graphs(folder) if path not in before), None)
    return runs, graph


def graphs(folder: Path) -> list[Path]:
    return sorted((folder / "home").glob("graphs/*/graph.xml"))


def settings() -> list[str]:
    """Those that this machine has."""
    return [name for name in SETTINGS if "bfloat16" not in name or has_bfloat16()]


def one_round(network: str, images: Path, weights: Path, graph: Path | None) -> dict:
    """The loop once, then every setting of featcache once, then what bounds them."""
    side, batch = NETWORKS[network][2], NETWORKS[network][4]
    vectors = images.parent / "loop.npy"
    loop = script(__file__, "--loop", network, images, weights, vectors)
    want = np.load(vectors)
    alone = {
        name: script(BOUND, "network", graph, side, batch, name.split()[0])["rate"]
        for name in settings()
        if "keras" in name and graph
    }
    return {
        "loop": loop,
        "settings": {
            name: featcache_run(network, images, weights, SETTINGS[name], want)
            for name in settings()
        },
        "networks": alone,
        "decode": script(BOUND, "decode", images, side)["seconds"],
        "matrix": script(BOUND, "matrix")["operations"],
    }


def script(*arguments: object) -> dict:
    """The JSON object that a script prints, run in a process of its own."""
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr.decode()}")
    return json.loads(done.stdout)


def featcache_run(
    network: str, images: Path, weights: Path, extra: list[str], want: np.ndarray | None = None
) -> dict:
    """One extraction into an empty cache, with its error against the loop's vectors."""
    import h5py

    cache = weights.parent / "cache"
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
        "error": 0.0 if want is None else row_error(got, want),
        "peak_mb": peak / 1e6,
        "runtime": record["runtime"],
    }


def row_error(got: np.ndarray, want: np.ndarray) -> float:
    return float((np.abs(got - want).max(axis=1) / np.abs(want).max(axis=1)).max())


def hand_written_loop(network: str, images: str, weights: str, out: str) -> dict:
    """What people write: image_dataset_from_directory -> preprocess -> predict -> save."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras
    import tensorflow as tf

    module, constructor, side = NETWORKS[network][:3]
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
    return {"rate": len(features) / seconds, "multiply_adds": multiply_adds(base)}


def multiply_adds(model: object) -> int:
    """Of the convolutions and dense layers, for one image; all else is a percent or less."""
    total = 0
    for layer in model.layers:  # type: ignore[attr-defined]
        kernel = getattr(layer, "kernel", None)
        if kernel is None:
            continue
        # A depthwise kernel is (h, w, channels, multiplier), another one (h, w, in, out).
        places = int(np.prod(layer.output.shape[1:-1]))
        total += places * int(np.prod(kernel.shape))
    return total


def starts(folder: Path, options: argparse.Namespace) -> dict:
    """Whole-process times: help, import, a run with nothing new, and a start with one new image."""
    count = options.images or 2000
    images = photographs(folder / "starts-images", count, (options.width, options.height))
    nothing, one = f"nothing new, {count:,} images", f"one new image of {count:,}"
    extract = ["extract", images, "--backbone", "efficientnet_lite0", "--size", 64, "--cache",
               folder / "starts"]  # fmt: skip
    featcache(*extract)
    times: dict[str, list[float]] = {nothing: [], one: []}
    for number in range(options.rounds):
        # Three seconds: files younger than two are hashed again, by git's racy rule.
        time.sleep(3)
        times[nothing].append(timed(lambda: featcache(*extract)))
        draw(images / f"new{number}.jpg", 10_000 + number, (options.width, options.height))
        times[one].append(timed(lambda: featcache(*extract)))
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
    from featcache.runtimes.choice import available_precisions, has_openvino

    return has_openvino() and "bfloat16" in available_precisions()


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
        constructor, side = NETWORKS[network][1:3]
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


def zip_(first: list, second: list) -> zip:
    return zip(first, second, strict=True)


def spread(values: list[float]) -> dict[str, float]:
    return {
        "median": statistics.median(values),
        "min": min(values),
        "max": max(values),
    }


if __name__ == "__main__":
    main()
