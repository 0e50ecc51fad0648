"""Recall: what is known of a network from an earlier run, so that Keras need not be asked.

A note says what one source of weights gave for some taps: the digests of its values, the layers'
canonical names, the shapes of their rows. The note's name is made of everything that could change
that; a note that is missing or damaged costs the time of building the network.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from featcache.backbones.efficientnet_lite0 import embedded_file
from featcache.backbones.keras_import import keras_versions
from featcache.backbones.network import Asked, Built, Network, Tap, open_taps
from featcache.backbones.table import Backbone
from featcache.backbones.weights_ import resolve_weights
from featcache.errors import FeatcacheError
from featcache.files.home import home, is_record, read_record, write_record
from featcache.files.small_files import FileStamp
from featcache.files.write import remove, touch
from featcache.recipe import PIPELINE

#: A file written so shortly before it was read may change once more without its times changing.
RACY_NS = 2_000_000_000


@dataclass(frozen=True, slots=True)
class _Question:
    """What is asked of a backbone: as the arguments of `open_taps`."""

    backbone: Backbone
    asked: tuple[Asked, ...]
    weights: str | None
    size: tuple[int, int]

    def open(self) -> list[tuple[Network, Tap]]:
        return open_taps(self.backbone, self.asked, weights=self.weights, size=self.size)


def recall_taps(
    backbone: Backbone, asked: Sequence[Asked], *, weights: str | None, size: tuple[int, int]
) -> list[tuple[Network, Tap]]:
    """As `open_taps`, but without Keras where a note of an earlier run tells all it would."""
    question = _Question(backbone, tuple(asked), weights, size)
    began = time.time_ns()
    files = _weights_files(question)
    note = _note_path(question, files)
    known = _recalled(question, note) if note else None
    if known:
        return known
    found = question.open()
    if note and all(_is_settled(stamp, began) for _, stamp in files):
        _keep(note, found)
    return found


def _recalled(question: _Question, note: Path) -> list[tuple[Network, Tap]] | None:
    record = read_record(note)
    if record is None:
        return None
    touch(note, home())
    try:
        return _networks(question, note, record)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError):
        return None  # not as `_keep` writes it: found out anew


def _networks(question: _Question, note: Path, record: dict[str, Any]) -> list[tuple[Network, Tap]]:
    """The networks and taps that a note tells of."""
    opened: dict[int, Network] = {}

    def build(number: int, taps: tuple[Tap, ...]) -> Built:
        if not opened:
            opened.update(enumerate(_distinct(question.open())))
        if number not in opened or opened[number].taps != taps:
            _refuse(note, resolve_weights(question.backbone, question.weights))
        return opened[number].built

    networks = []
    for number, noted in enumerate(record["networks"]):
        taps = tuple(Tap(**{**tap, "row_shape": tuple(tap["row_shape"])}) for tap in noted)
        networks.append(
            Network(
                backbone=question.backbone,
                weights_hint=resolve_weights(question.backbone, question.weights),
                size=question.size,
                taps=taps,
                build=partial(build, number, taps),
            )
        )
    return [(networks[number], networks[number].taps[tap]) for number, tap in record["order"]]


def _refuse(note: Path, hint: str) -> NoReturn:
    """The weights that Keras has built have not the values that the note promised."""
    remove(note, is_record, base=home())
    raise FeatcacheError(
        f"the weights {hint!r} are not those that were noted: they changed without their file's "
        "times changing. The note is deleted: run the same command again"
    )


def _distinct(found: list[tuple[Network, Tap]]) -> list[Network]:
    return list({id(network): network for network, _ in found}.values())


def _keep(note: Path, found: list[tuple[Network, Tap]]) -> None:
    networks = _distinct(found)
    record = {
        "networks": [[asdict(tap) for tap in network.taps] for network in networks],
        "order": [
            [next(n for n, each in enumerate(networks) if each is network), network.taps.index(tap)]
            for network, tap in found
        ],
    }
    # A home that cannot be written costs time at the next start, and nothing else.
    with suppress(FeatcacheError):
        write_record(note, record)


def _note_path(question: _Question, files: list[tuple[str, FileStamp]]) -> Path | None:
    """Where the note would be; None where nothing could tell whether it still holds."""
    versions = keras_versions()
    weights = resolve_weights(question.backbone, question.weights)
    if versions is None or not (files or weights.startswith("random:")):
        return None
    parts: list[Any] = [
        PIPELINE,
        question.backbone.name,
        weights,
        [(path, asdict(stamp)) for path, stamp in files],
        question.size,
        question.asked,
        versions,
    ]
    name = hashlib.sha256(json.dumps(parts).encode("ascii")).hexdigest()
    return home() / "notes" / f"{name}.note"


def _weights_files(question: _Question) -> list[tuple[str, FileStamp]]:
    """The files that hold the weights, as they are now; none for random weights."""
    weights = resolve_weights(question.backbone, question.weights)
    if weights.startswith("random:"):
        return []
    if weights == "embedded":
        paths = [embedded_file()]
    elif weights == "imagenet":
        paths = _downloaded(question.backbone)
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
