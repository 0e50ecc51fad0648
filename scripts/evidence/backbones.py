"""Show what the docs say of networks, layers and views, through the public face only.

    python scripts/evidence/backbones.py taps       five taps of VGG16 in one pass, against one
    python scripts/evidence/backbones.py views      eight views of the digits, against one
    python scripts/evidence/backbones.py workflows  W2's mixed7 and W3's fc2 out of weights files
    python scripts/evidence/backbones.py depth      accuracy by depth of the tap, far from ImageNet
    python scripts/evidence/backbones.py networks   every network once: width, parity, speed

Each prints one JSON object; `depth` and `networks` also the table of the docs. WORK is a folder for
images and caches; it may be used again.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

from shared import command, photographs

import featcache

LITE = "efficientnet_lite0"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    runs = {run.__name__: run for run in (taps, views, workflows, depth, networks)}
    parser.add_argument("what", choices=list(runs))
    parser.add_argument("--work", type=Path, default=Path("evidence"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=64, help="of taps; of networks an eighth")
    parser.add_argument("--only", nargs="*", help="networks: these instead of all")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    print(json.dumps(runs[options.what](options), indent=2))


def taps(options: argparse.Namespace) -> dict[str, object]:
    """The same images through VGG16, tapped once and five times, alternating."""
    images = photographs(options.work / f"photographs-{options.images}", options.images)
    layers = [f"block{number}_pool" for number in range(1, 6)]
    seconds: dict[int, list[float]] = {1: [], 5: []}
    extract = ["extract", images, "--backbone", "vgg16", "--weights", "random"]
    for number in range(options.rounds + 1):  # the first round converts the networks
        for count, times in seconds.items():
            chosen = [word for layer in layers[-count:] for word in ("--layer", layer)]
            cache = options.work / "taps-cache"
            shutil.rmtree(cache, ignore_errors=True)
            record = command(*extract, *chosen, "--cache", cache)
            if number:
                times.append(record["seconds"])
    one, five = (statistics.median(times) for times in seconds.values())
    return {"one": seconds[1], "five": seconds[5], "ratio": round(five / one, 3)}


def views(options: argparse.Namespace) -> dict[str, object]:
    """A logistic head on the digits: plain rows, and eight augmented views beside each."""
    folder = options.work / "digits"
    if not folder.exists():
        command("dataset", "digits", folder)
    cache, record = options.work / "views-cache", {}
    spec = "rotate=10,shift=0.08,zoom=0.1,shear=5"
    common = ["extract", folder, "--backbone", LITE, "--size", "96", "--cache", cache]
    for count in (0, 8):
        more = ["--views", count, "--augment", spec] if count else []
        extracted = command(*common, *more)
        head = command("fit-head", extracted["features"], "--C", "0.01", "--cache", cache)
        record[f"{count} views"] = {
            "rows": extracted["rows"],
            "extract_seconds": extracted["seconds"],
            "accuracy": head["accuracy"],
            "protocol": head["protocol"],
            "fit_seconds": head["seconds"],
        }
    more = ["--views", 8, "--augment", spec, "--augment-all"]
    features = command(*common, *more)["features"]
    head = command("fit-head", features, "--C", "0.01", "--cache", cache)["head"]
    for name, option in {"plain": [], "averaged": ["--average-views"]}.items():
        judged = command("evaluate", head, features, "--cache", cache, *option)
        record[f"8 views, judged {name}"] = judged["accuracy"]
    return record


def workflows(options: argparse.Namespace) -> dict[str, object]:
    """W2: InceptionV3 from a local weights file, cut at mixed7; W3: VGG16's fc2."""
    images = photographs(options.work / "photographs-64", 64)
    record = {}
    for name, (network, top, more) in {
        "W2": ("InceptionV3", False, ["--size", "150", "--layer", "mixed7:none"]),
        "W3": ("VGG16", True, ["--layer", "fc2"]),
    }.items():
        weights = options.work / f"{network}.weights.h5"
        if not weights.exists():
            code = (
                f"import keras; keras.utils.set_random_seed(1); keras.applications.{network}("
                f"include_top={top}, weights=None).save_weights({str(weights)!r})"
            )
            subprocess.run([sys.executable, "-c", code], stderr=subprocess.PIPE, check=True)
        done = command(
            "extract", images, "--backbone", network.lower(), "--weights", weights, *more,
            "--dtype", "float16" if name == "W2" else "float32", "--check", "4",
            "--cache", options.work / "workflows-cache",
        )  # fmt: skip
        record[name] = {key: done[key] for key in ("rows", "dim", "probe_error", "checked", "taps")}
    return record


def depth(options: argparse.Namespace) -> dict[str, object]:
    """The accuracy of a logistic head on the taps of one pass, from shallow to deep."""
    layers = ["stride2", "stride4", "stride8", "stride16", "stride32", "output"]
    record: dict[str, dict[str, float]] = {}
    for name in ("digits", "fashion_mnist"):
        images = sliced(options.work, name)
        done = command(
            "extract", images, "--backbone", LITE, "--size", "96", "--name", f"depth-{name}",
            "--cache", options.work / "depth-cache",
            *[word for layer in layers for word in ("--layer", layer)],
        )  # fmt: skip
        for layer, features in done["taps"].items():
            head = command("fit-head", features, "--cache", options.work / "depth-cache")
            width = featcache.load(features).width
            record.setdefault(f"{layer} ({width})", {})[name] = head["accuracy"]
    print("| tap of efficientnet_lite0 at 96 (width) | digits | Fashion-MNIST |\n|---|---|---|")
    for tap, row in record.items():
        print(f"| {tap} | {row['digits']:.3f} | {row['fashion_mnist']:.3f} |")
    return record


def networks(options: argparse.Namespace) -> dict[str, object]:
    """Every network of the table at its own size on a few photographs, with random weights.

    BatchNorm statistics are those of photographs: untouched random weights of deep networks magnify
    rounding so much that Keras in float32 is not even near itself.
    """
    images = photographs(options.work / "photographs-8", 8)
    cache, weights, record = options.work / "networks-cache", options.work / "w.weights.h5", {}
    names = options.only or list(featcache.BACKBONES)
    print("| network | size | width | probe against live Keras | first run, s | runtime |")
    print("|---|---|---|---|---|---|")
    for name in names:
        shutil.rmtree(cache, ignore_errors=True)
        row = featcache.BACKBONES[name]
        chosen = []
        if name != LITE:
            settle = [SETTLED, row.constructor, str(row.size), str(images), str(weights)]
            subprocess.run([sys.executable, "-c", *settle], stderr=subprocess.PIPE, check=True)
            chosen = ["--weights", weights]
        started = time.monotonic()
        done = command("extract", images, "--backbone", name, *chosen, "--cache", cache)
        whole = time.monotonic() - started
        print(
            f"| {name} | {row.size} | {done['dim']} | {done['probe_error']:.1e} | {whole:.0f} | "
            f"{done['runtime']} |",
            flush=True,
        )
        record[name] = {"dim": done["dim"], "probe_error": done["probe_error"], "first": whole}
    return record


#: Random weights of a network of keras.applications whose normalisations fit photographs.
SETTLED = """
import sys, glob, keras, numpy as np
from PIL import Image
name, side, folder, out = sys.argv[1:]
side = int(side)
keras.utils.set_random_seed(0)
net = getattr(keras.applications, name)(
    include_top=False, weights=None, input_shape=(side, side, 3), pooling="avg")
norms = [layer for layer in net.layers if isinstance(layer, keras.layers.BatchNormalization)]
if norms:
    files = sorted(glob.glob(folder + "/*"))[:4]
    batch = np.stack([np.asarray(Image.open(f).resize((side, side))) for f in files])
    for layer in norms:
        layer.momentum = 0.0
        layer.beta.assign(np.full(layer.beta.shape, 2.0, np.float32))
    net(batch.astype("float32") / 127.5 - 1, training=True)
net.save_weights(out)
"""


def sliced(work: Path, name: str) -> Path:
    """The digits, or every eleventh image of Fashion-MNIST with its splits, as a manifest."""
    folder = work / name
    if not folder.exists():
        command("dataset", name, folder)
    if name == "digits":
        return folder
    manifest = work / f"{name}.csv"
    found = featcache.find_images(folder)
    lines = [
        f"{folder.absolute() / path},{label},{split}"
        for path, label, split in list(zip(found.names, found.labels, found.splits, strict=True))[
            ::11
        ]
    ]
    manifest.write_text("path,label,split\n" + "\n".join(lines) + "\n")
    return manifest


if __name__ == "__main__":
    main()
