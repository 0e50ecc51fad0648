"""Show what the docs say of fine-tuning, through the command line and beside plain Keras.

    python scripts/evidence/finetune.py cut      VGG16's block 5: from the cut, the whole of it, and
                                                 the whole of it by `model.fit`
    python scripts/evidence/finetune.py fashion  a slice of Fashion-MNIST: frozen, and fine-tuned
    python scripts/evidence/finetune.py resume   killed after an epoch and resumed, and undisturbed

Each prints one JSON object. WORK is a folder for images and caches; it may be used again.
`fashion` needs WORK/fashion_mnist (`featcache dataset fashion_mnist WORK/fashion_mnist`).
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import signal
import statistics
import subprocess
import time
from pathlib import Path

import h5py
import numpy as np
from shared import FEATCACHE, command, photographs

LITE = "efficientnet_lite0"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    runs = {run.__name__: run for run in (cut, fashion, resume)}
    parser.add_argument("what", choices=list(runs))
    parser.add_argument("--work", type=Path, default=Path("evidence"))
    parser.add_argument("--images", type=int, default=128, help="of cut and resume")
    parser.add_argument("--train", type=int, default=4000, help="fashion: images that train")
    parser.add_argument("--test", type=int, default=2000, help="fashion: images that judge")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--size", type=int, default=96, help="of fashion")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    print(json.dumps(runs[options.what](options), indent=2))


def cut(options: argparse.Namespace) -> dict[str, object]:
    """Seconds an epoch and loss curves of the same batches, both ways; and by hand."""
    images = two_classes(options)
    runs = {}
    for way in ("yes", "no"):
        out = options.work / f"cut-{way}"
        shutil.rmtree(out, ignore_errors=True)
        runs[way] = command(
            "finetune", images, "--backbone", "vgg16", "--weights", "random",
            "--unfreeze-from", "block5_conv1", "--from-cut", way, "--epochs", options.epochs,
            "--batch-size", 32, "--out", out, "--cache", options.work / "finetune-cache",
        )  # fmt: skip
    # The first epoch also traces the graphs.
    seconds = {way: run["epoch_seconds"] for way, run in runs.items()}
    seconds["by hand"] = by_hand(options)
    medians = {way: statistics.median(times[1:]) for way, times in seconds.items()}
    losses = {way: np.array(run["history"]["loss"]) for way, run in runs.items()}
    return {
        "images": options.images,
        "cut": runs["yes"]["cut"],
        "epoch_seconds": seconds,
        "faster than the whole": round(medians["no"] / medians["yes"], 2),
        "faster than by hand": round(medians["by hand"] / medians["yes"], 2),
        "loss": {way: each.tolist() for way, each in losses.items()},
        "loss_differs_by": float(np.abs(losses["yes"] - losses["no"]).max()),
    }


def by_hand(options: argparse.Namespace) -> list[float]:
    """Seconds an epoch of `model.fit` on the whole network, as a notebook does it."""
    import keras

    base = keras.applications.VGG16(weights=None, include_top=False, pooling="avg")
    for layer in base.layers:
        layer.trainable = layer.name.startswith("block5")
    inputs = keras.Input((224, 224, 3))
    model = keras.Model(inputs, keras.layers.Dense(2, activation="softmax")(base(inputs)))
    model.compile(keras.optimizers.RMSprop(1e-5), "sparse_categorical_crossentropy")
    random_pixels = np.random.default_rng(0).uniform(-100, 100, (options.images, 224, 224, 3))
    pixels, codes = random_pixels.astype(np.float32), np.arange(options.images) % 2
    seconds = []
    for _ in range(options.epochs):
        began = time.perf_counter()
        model.fit(pixels, codes, batch_size=32, verbose=0)
        seconds.append(round(time.perf_counter() - began, 3))
    return seconds


def fashion(options: argparse.Namespace) -> dict[str, object]:
    """Accuracy on images that neither the head nor the network has seen, before and after."""
    manifest = fashion_slice(options)
    out = options.work / "fashion-tuned"
    shutil.rmtree(out, ignore_errors=True)
    record = command(
        "finetune", manifest, "--backbone", LITE, "--size", options.size, "--epochs",
        options.epochs, "--learning-rate", "1e-4", "--optimizer", "adam", "--patience", 3,
        "--unfreeze-from", "stride16", "--out", out, "--plots", out / "plots",
        "--cache", options.work / "finetune-cache",
    )  # fmt: skip
    return {
        "train": options.train,
        "frozen": {name: record["frozen"][name] for name in ("accuracy", "interval", "rows")},
        "fine-tuned": {name: record[name] for name in ("accuracy", "interval", "rows")},
        "difference": record["comparison"]["difference"],
        "difference_interval": record["comparison"]["interval"],
        "cut": record["cut"],
        "epoch_seconds": record["epoch_seconds"],
        "best_epoch": record["best_epoch"],
        "start": record["start"],
        "seconds": record["seconds"],
    }


def resume(options: argparse.Namespace) -> dict[str, object]:
    """The weights of a run that was killed twice and went on, and of one that was not."""
    images = two_classes(options)
    folders = {name: options.work / f"resume-{name}" for name in ("calm", "killed")}
    for folder in folders.values():
        shutil.rmtree(folder, ignore_errors=True)
    common = [
        "finetune", images, "--backbone", LITE, "--size", 96, "--epochs", options.epochs,
        "--augment", "classic", "--cache", options.work / "finetune-cache", "--out",
    ]  # fmt: skip
    calm = command(*common, folders["calm"])
    kills = [killed_after_an_epoch([*common, folders["killed"]], folders["killed"]) for _ in "12"]
    again = command(*common, folders["killed"])
    return {
        "kills": kills,
        "loss": {"calm": calm["history"]["loss"], "killed": again["history"]["loss"]},
        "weights_differ_by": weights_difference(*folders.values()),
    }


def killed_after_an_epoch(arguments: list[object], folder: Path) -> str:
    """Start the command, and kill it some time after its checkpoint was last written."""
    checkpoint = folder / "checkpoint.safetensors"
    before = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
    process = subprocess.Popen(
        [*FEATCACHE, *map(str, arguments)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while process.poll() is None:
        if checkpoint.exists() and checkpoint.stat().st_mtime_ns != before:
            time.sleep(random.random())
            process.send_signal(signal.SIGKILL)
            process.wait()
            return "killed with an epoch saved"
        time.sleep(0.05)
    return f"ended by itself: {process.returncode}"


def weights_difference(first: Path, second: Path) -> float:
    """The largest difference of two backbones' weights."""
    worst = 0.0
    with (
        h5py.File(first / "backbone.weights.h5") as one,
        h5py.File(second / "backbone.weights.h5") as two,
    ):

        def compare(name: str, node: object) -> None:
            nonlocal worst
            if isinstance(node, h5py.Dataset) and node.dtype.kind == "f":
                worst = max(worst, float(np.abs(node[()] - two[name][()]).max(initial=0.0)))

        one.visititems(compare)
    return worst


def two_classes(options: argparse.Namespace) -> Path:
    """Crops of two photographs, a folder each."""
    folder = options.work / f"two-classes-{options.images}"
    if not folder.exists():
        flat = photographs(options.work / f"photographs-{options.images}", options.images)
        for number, path in enumerate(sorted(flat.iterdir())):
            target = folder / ("china", "flower")[number % 2]
            target.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target / path.name)
    return folder


def fashion_slice(options: argparse.Namespace) -> Path:
    """A manifest of some of Fashion-MNIST's images, as many of each class as of any other."""
    root = options.work / "fashion_mnist"
    manifest = options.work / f"fashion-{options.train}-{options.test}.csv"
    lines = ["path,label,split"]
    for split, count in (("train", options.train), ("test", options.test)):
        for folder in sorted((root / split).iterdir()):
            chosen = sorted(folder.iterdir())[: count // 10]
            lines += [f"{path.relative_to(options.work)},{folder.name},{split}" for path in chosen]
    manifest.write_text("\n".join(lines) + "\n")
    return manifest


if __name__ == "__main__":
    main()
