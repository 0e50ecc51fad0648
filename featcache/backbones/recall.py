"""Recall: what is known of a network from an earlier run, so that Keras need not be asked.

A note says what one source of weights gave for one tap: the digest of its values, the layer's
canonical name, the shape of a row. The note's name is made of everything that could change that;
a note that is missing or damaged costs the time of building the network.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import time
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from featcache.backbones.efficientnet_lite0 import embedded_file
from featcache.backbones.network import Built, Network, open_network
from featcache.backbones.table import Backbone
from featcache.backbones.weights import resolve_weights
from featcache.errors import FeatcacheError
from featcache.home import home, read_record, touch, write_record
from featcache.images import FileStamp
from featcache.recipe import PIPELINE

#: A file written so shortly before it was read may change once more without its times changing.
RACY_NS = 2_000_000_000

_TENSORFLOWS = ("tensorflow", "tensorflow-cpu", "tensorflow-macos", "tf-nightly")


@dataclass(frozen=True, slots=True)
class Tap:
    """What is asked of a backbone: as the arguments of `open_network`."""

    backbone: Backbone
    weights: str | None
    size: tuple[int, int]
    layer: str
    pooling: str

    def open(self) -> Network:
        return open_network(
            self.backbone,
            weights=self.weights,
            size=self.size,
            layer=self.layer,
            pooling=self.pooling,
        )


def recall_network(
    backbone: Backbone,
    *,
    weights: str | None,
    size: tuple[int, int],
    layer: str = "",
    pooling: str = "avg",
) -> Network:
    """As `open_network`, but without Keras where a note of an earlier run tells all it would."""
    tap = Tap(backbone, weights, size, layer, pooling)
    began = time.time_ns()
    files = _weights_files(tap)
    note = _note_path(tap, files)
    known = _recalled(tap, note) if note else None
    if known:
        return known
    network = tap.open()
    if note and all(_is_settled(stamp, began) for _, stamp in files):
        _keep(note, network)
    return network


def _recalled(tap: Tap, note: Path) -> Network | None:
    record = read_record(note)
    if record is None:
        return None
    touch(note)
    digest = str(record["digest"])
    return Network(
        backbone=tap.backbone,
        weights_digest=digest,
        weights_hint=resolve_weights(tap.backbone, tap.weights),
        layer=str(record["layer"]),
        pooling=tap.pooling,
        size=tap.size,
        row_shape=tuple(record["row_shape"]),
        build=lambda: _built_as_noted(tap, note, digest),
    )


def _built_as_noted(tap: Tap, note: Path, digest: str) -> Built:
    """The Keras models, whose weights must have the values that the note promised."""
    network = tap.open()
    if network.weights_digest != digest:
        note.unlink(missing_ok=True)
        raise FeatcacheError(
            f"the weights {network.weights_hint!r} are not those that were noted: they changed "
            "without their file's times changing. The note is deleted: run the same command again"
        )
    return network.built


def _keep(note: Path, network: Network) -> None:
    record = {
        "digest": network.weights_digest,
        "layer": network.layer,
        "row_shape": list(network.row_shape),
    }
    try:
        write_record(note, record)
    except OSError:
        # A home that cannot be written costs time at the next start, and nothing else.
        return


def _note_path(tap: Tap, files: list[tuple[str, FileStamp]]) -> Path | None:
    """Where the note would be; None where nothing could tell whether it still holds."""
    versions = _versions()
    weights = resolve_weights(tap.backbone, tap.weights)
    if versions is None or not (files or weights.startswith("random:")):
        return None
    parts: list[Any] = [
        PIPELINE,
        tap.backbone.name,
        weights,
        [(path, asdict(stamp)) for path, stamp in files],
        tap.size,
        tap.layer,
        tap.pooling,
        versions,
    ]
    name = hashlib.sha256(json.dumps(parts).encode("ascii")).hexdigest()
    return home() / "notes" / f"{name}.note"


def _weights_files(tap: Tap) -> list[tuple[str, FileStamp]]:
    """The files that hold the weights, as they are now; none for random weights."""
    weights = resolve_weights(tap.backbone, tap.weights)
    if weights.startswith("random:"):
        return []
    if weights == "embedded":
        paths = [embedded_file()]
    elif weights == "imagenet":
        paths = _downloaded(tap.backbone)
    else:
        paths = [Path(weights)]
    return [(str(path), FileStamp.of(path.stat())) for path in paths if path.is_file()]


def _downloaded(backbone: Backbone) -> list[Path]:
    """Keras's files of a backbone, told by their names (of a few too many, in doubt)."""
    folder = Path(os.environ.get("KERAS_HOME") or "~/.keras").expanduser() / "models"
    return [
        path
        for path in sorted(folder.glob("*.h5"))
        if backbone.name in re.sub(r"[\W_]+", "", path.name.lower())
    ]


def _is_settled(stamp: FileStamp, now_ns: int) -> bool:
    return max(stamp.mtime_ns, stamp.ctime_ns) < now_ns - RACY_NS


def _versions() -> list[str] | None:
    """Of what builds a network; random weights are other ones in other versions."""
    for name in _TENSORFLOWS:
        try:
            return [version("keras"), version(name), platform.machine()]
        except PackageNotFoundError:
            continue
    return None
