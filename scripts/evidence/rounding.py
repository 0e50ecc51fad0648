"""Show what docs/backbones.md says of rounding: how exact networks are, and what is refused.

    python scripts/evidence/rounding.py table     every network: its rounding, each runtime's error
    python scripts/evidence/rounding.py mutants   computations that are wrong, and by how much

Each prints a table of the docs and then a JSON object. Random weights are used as Keras draws them
("drawn"), which magnifies rounding, and with BatchNorm statistics of photographs ("settled").
Environment variables change the rounding on one machine: TF_ENABLE_ONEDNN_OPTS=0,
ONEDNN_MAX_CPU_ISA=AVX2.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image
from shared import photographs

from featcache.backbones.construct import preprocess
from featcache.backbones.keras_import import import_keras
from featcache.backbones.layers import computing_in
from featcache.backbones.network import Network, open_network, with_scaling
from featcache.backbones.table import BACKBONES, find_backbone
from featcache.recipe import Decoding
from featcache.runtimes.probe import measure_error, probe_pixels
from featcache.runtimes.rounding import allowed_error, disturbed_rounding, measure_rounding
from featcache.runtimes.runtime import run_padded
from featcache.runtimes.throughput import open_runtime

LITE = "efficientnet_lite0"
#: (input side, weights); 0 is the smallest side that a network takes.
CASES = [(0, "drawn"), (96, "settled")]
#: These at 224, too: one of each family, as its own authors used it.
LARGE = {"mobilenet", "mobilenetv2", "vgg16", "resnet50", "inceptionv3", "densenet121",
         "efficientnetb0", "efficientnetv2b0", "convnexttiny", "nasnetmobile"}  # fmt: skip
#: Networks that keep and that magnify rounding.
MUTATED = [(LITE, 0, "real"), (LITE, 224, "real"), ("mobilenetv2", 96, "settled"),
           ("vgg16", 96, "settled"), ("resnet50", 96, "settled"), ("inceptionv3", 0, "drawn"),
           ("densenet201", 0, "drawn")]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["table", "mutants", "one"])
    parser.add_argument("--only", nargs="*", help="networks: these instead of all")
    parser.add_argument("--case", nargs=3, help="one network, side and kind of weights")
    options = parser.parse_args()
    if options.what == "one":
        name, side, weights = options.case
        print(json.dumps(measure(name, int(side), weights)))
        return
    with tempfile.TemporaryDirectory() as folder:
        run = {"table": table, "mutants": mutants}[options.what]
        print(json.dumps(run(options, photographs(Path(folder) / "photographs", 8)), indent=2))


def table(options: argparse.Namespace, _: Path) -> list[dict]:
    """A row for each network and case; each in a process of its own, which frees its memory."""
    names = options.only or list(BACKBONES)
    print("| network | side | weights | own rounding | disturbed | OpenVINO | TensorFlow | "
          "largest ratio | allowed |\n" + "|---" * 9 + "|")  # fmt: skip
    rows = []
    for name in names:
        cases = [(0, "real"), (96, "real"), (224, "real")] if name == LITE else CASES
        cases = cases + [(224, "settled")] * (name in LARGE)
        for side, weights in cases:
            words = ["one", "--case", name, str(side), weights]
            done = subprocess.run(
                [sys.executable, __file__, *words], capture_output=True, text=True
            )
            if done.returncode:
                print(
                    f"| {name} | {side} | {weights} | {done.stderr.splitlines()[-1]} |", flush=True
                )
                continue
            row = json.loads(done.stdout.splitlines()[-1])
            rows.append(row)
            errors = " | ".join(f"{row[key]:.1e}" for key in ("r", "disturbed", "openvino",
                                                              "tensorflow"))  # fmt: skip
            print(f"| {name} | {row['side']} | {weights} | {errors} | {row['ratio']:.2f} | "
                  f"{row['allowed']} |", flush=True)  # fmt: skip
    return rows


def measure(name: str, side: int, weights: str) -> dict:
    """The rounding of a network and the largest error of each runtime, at several batches.

    `ratio` is the largest of an error and the rounding on the same images: the probe, photographs.
    """
    network = opened(name, side, weights)
    images = [probe_pixels(Decoding(network.size)), pictures(network.size)]
    live = [network.live(pixels.astype(np.float32)) for pixels in images]
    known = [
        (network, pixels.astype(np.float32), each)
        for pixels, each in zip(images, live, strict=True)
    ]
    roundings = [measure_rounding(*each)[0] for each in known]
    row = {"network": name, "side": network.size[0], "weights": weights, "r": roundings[0]}
    row |= {"disturbed": disturbed_rounding(*known[0])[0], "ratio": 0.0}
    for runtime, batches in (("openvino", (1, 3, 8)), ("tensorflow", (3,))):
        errors = np.zeros(2)
        for batch in batches:
            made = open_runtime(runtime, network, batch=batch, pixel_type="uint8")
            found = [measure_error(run_padded(made, *each)[0], rows[0]) for *each, rows in
                     zip(images, live, strict=True)]  # fmt: skip
            errors = np.maximum(errors, found)
        row[runtime] = float(errors[0])
        row["ratio"] = max(row["ratio"], *(errors / roundings))
    row["allowed"] = allowed(roundings[0])
    return row


def mutants(options: argparse.Namespace, images: Path) -> list[dict]:
    """Wrong computations of networks: their error, and how many times what is allowed that is."""
    rows = []
    for name, side, weights in MUTATED:
        if options.only and name not in options.only:
            continue
        network = opened(name, side, weights)
        pixels = probe_pixels(Decoding(network.size)).astype(np.float32)
        live = network.live(pixels)[0]
        rounding = measure_rounding(network, pixels, [live])[0]
        for what, vectors, wanted in wrong(network, pixels, live, images):
            error = measure_error(vectors, wanted)
            row = {"network": name, "side": network.size[0], "weights": weights, "r": rounding}
            row |= {"mutant": what, "error": error, "times": error / allowed_error(rounding)}
            rows.append(row)
            print(f"| {name} | {row['side']} | {weights} | {rounding:.1e} | {what} | {error:.1e} | "
                  f"{row['times']:,.0f} x |", flush=True)  # fmt: skip
    return rows


def wrong(network: Network, pixels: np.ndarray, live: np.ndarray, images: Path):
    """(what is wrong, vectors, what they should be) of each mutant."""
    scaling = network.backbone.scaling
    called = called_with(network)
    yield "channels swapped", called(pixels[..., ::-1]), live
    off = replace(scaling, divisor=scaling.divisor * 255 / 256)
    yield (
        "divided by 256 for 255",
        np.asarray(with_scaling(network.base, off, network.size)(pixels, training=False)),
        live,
    )
    yield "one activation left out", mutated(network, pixels, without_activation), live
    yield "epsilon of BatchNorm 1e-3 for 1e-5 or so", mutated(network, pixels, other_epsilon), live
    yield "weights stored in float16", halved(network, pixels), live
    for precision in ("bfloat16", "float16"):
        with computing_in(precision, network.model):
            yield (
                f"computed in {precision}",
                np.asarray(network.model(pixels, training=False), np.float32),
                live,
            )
    one, other = (decoded(images, network.size, fast) for fast in (True, False))
    yield "another DCT", called(one), called(other)


def called_with(network: Network) -> Callable[[np.ndarray], np.ndarray]:
    return lambda pixels: network.live(np.ascontiguousarray(pixels))[0]


def mutated(network: Network, pixels: np.ndarray, change: Callable[[dict], bool]) -> np.ndarray:
    """The vectors of the network built with one change of its configuration."""
    config = network.base.get_config()
    layers = config["layers"]
    # In the middle of the network, where there is one to change.
    order = sorted(range(len(layers)), key=lambda place: abs(place - len(layers) // 2))
    if not any(change(layers[place]) for place in order):
        return np.full((len(pixels), 1), np.nan)
    base = type(network.base).from_config(config)
    base.set_weights(network.base.get_weights())
    return np.asarray(base(preprocess(network.backbone, pixels), training=False))


def without_activation(layer: dict) -> bool:
    own = layer["config"]
    if layer["class_name"] == "ReLU":
        layer["class_name"] = "Activation"
        layer["config"] = {"name": own["name"], "dtype": own["dtype"], "activation": "linear"}
    elif own.get("activation") not in (None, "linear"):
        own["activation"] = "linear"
    else:
        return False
    return True


def other_epsilon(layer: dict) -> bool:
    if layer["class_name"] not in ("BatchNormalization", "LayerNormalization"):
        return False
    own = layer["config"]
    own["epsilon"] = 1e-3 if own["epsilon"] < 1e-3 else 1e-5
    return True


def halved(network: Network, pixels: np.ndarray) -> np.ndarray:
    """As `save_model` of OpenVINO does by default."""
    before = network.base.get_weights()
    network.base.set_weights([value.astype(np.float16) for value in before])
    try:
        return network.live(pixels)[0]
    finally:
        network.base.set_weights(before)


def decoded(images: Path, size: tuple[int, int], fast: bool) -> np.ndarray:
    import cv2
    import simplejpeg

    found = [
        cv2.resize(simplejpeg.decode_jpeg(path.read_bytes(), fastdct=fast), size[::-1])
        for path in sorted(images.glob("*.jpg"))[:4]
    ]
    return np.stack(found).astype(np.float32)


def opened(name: str, side: int, weights: str) -> Network:
    """A network at a size, with real, drawn or settled weights."""
    backbone = find_backbone(name)
    side = max(side, backbone.smallest)
    chosen = None if weights == "real" else "random:3"
    network = open_network(backbone, weights=chosen, size=(side, side))
    if weights == "settled":
        settle(network)
    return network


def settle(network: Network) -> None:
    """BatchNorm statistics of photographs, and offsets that cut little off."""
    keras = import_keras()
    norms = [
        each for each in network.base.layers if isinstance(each, keras.layers.BatchNormalization)
    ]
    for layer in norms:
        layer.momentum = 0.0
        layer.beta.assign(np.full(layer.beta.shape, 2.0, np.float32))
    if norms:
        network.base(preprocess(network.backbone, pictures(network.size)), training=True)


def pictures(size: tuple[int, int]) -> np.ndarray:
    """Eight photographs, uint8 (8, H, W, 3)."""
    with tempfile.TemporaryDirectory() as folder:
        files = sorted(photographs(Path(folder) / "photographs", 8).glob("*.jpg"))
        return np.stack([np.asarray(Image.open(each).resize(size[::-1])) for each in files])


def allowed(rounding: float) -> str:
    try:
        return f"{allowed_error(rounding):.1e}"
    except ValueError:
        return "refused"


if __name__ == "__main__":
    main()
