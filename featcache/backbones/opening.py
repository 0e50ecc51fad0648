"""Opening: from what a user calls a backbone to its networks and taps, out of notes where they are.

A note says what one source of weights gave for some taps: the digests of its values, the layers'
canonical names, the shapes of their rows. Keras then need not be asked. The note's name is made of
everything that could change that; one that is missing or damaged costs the time of building the
network.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from featcache.backbones.efficientnet_lite0 import embedded_file
from featcache.backbones.keras_import import keras_versions
from featcache.backbones.network import Asked, Built, Network, Tap, open_taps
from featcache.backbones.noted import noted_tap
from featcache.backbones.table import BACKBONES, Backbone, downloaded_files, find_backbone
from featcache.backbones.tuned import TunedBackbone
from featcache.backbones.tuned_record import check_weights
from featcache.backbones.user_models.user_network import (
    USER,
    UserModelSource,
    is_user_model,
    recall_user_taps,
    scale_of,
)
from featcache.backbones.weights import resolve_weights
from featcache.errors import FeatcacheError
from featcache.files.home import expanded, home, is_record, keep, note_path, recall
from featcache.files.small_files import FileStamp
from featcache.files.write import remove
from featcache.recipe import NETWORK_RULES, Recipe


@dataclass(frozen=True, slots=True)
class BackboneSource:
    """Where a backbone's parts come from.

    Attributes
    ----------
    weights: None (the usual ones), "imagenet", "embedded", "random[:SEED]" or a path.
    size: input (height, width) in pixels; None is the backbone's own.
    scale, trusted: of a user's own model; see `open_user_model`.
    """

    weights: str | None = None
    size: tuple[int, int] | None = None
    scale: str | None = None
    trusted: bool = False


def recall_backbone(
    name: str, asked: Sequence[Asked], source: BackboneSource
) -> list[tuple[Network, Tap]]:
    """The taps of a backbone, each once, in the order asked for, with as few networks as can be.

    `name` is one of the table, the path of a ``.keras`` file or SavedModel, or the folder of a
    backbone that `featcache finetune` made. Keras is imported only where no note of an earlier
    run tells what it would. Raises `FeatcacheError` for a name, layer, size or weights that
    cannot be.
    """
    tuned = TunedBackbone.find(name)
    if tuned is not None:
        return _recall_tuned(name, tuned, asked, source)
    if is_user_model(name) or name.endswith(".keras") or "/" in name:
        if source.weights:
            raise FeatcacheError(f"--weights {source.weights}: the weights of {name} are inside it")
        own = UserModelSource(Path(name), source.trusted, source.size, source.scale)
        return recall_user_taps(own, asked)
    if source.scale:
        raise FeatcacheError(
            f"--scale {source.scale} is for models of your own; {name} scales pixels as it was "
            f"trained to"
        )
    backbone = find_backbone(name)
    size = source.size or (backbone.size, backbone.size)
    return recall_taps(backbone, asked, weights=source.weights, size=size)


def _recall_tuned(
    name: str, tuned: TunedBackbone, asked: Sequence[Asked], source: BackboneSource
) -> list[tuple[Network, Tap]]:
    """The taps of a fine-tuned backbone, which is called by the name of its folder."""
    if source.weights:
        raise FeatcacheError(f"--weights {source.weights}: the weights of {name} are inside it")
    check_weights(tuned.weights or tuned.backbone)
    source = BackboneSource(tuned.weights, source.size or tuned.size, tuned.scale, source.trusted)
    title = expanded(name).resolve().name
    titled: dict[int, Network] = {}
    return [
        (titled.setdefault(id(network), replace(network, title=title)), tap)
        for network, tap in recall_backbone(tuned.backbone, asked, source)
    ]


def recall_recipe(recipe: Recipe, weights: str, *, trusted: bool = False) -> tuple[Network, Tap]:
    """The network of a recipe; `weights` is as the recipe's own hint says, or another place.

    Raises `FeatcacheError` where they are not the weights that the recipe was made with.
    """
    check_weights(weights)
    asked = [(recipe.layer, recipe.pooling)]
    size = recipe.decoding.size
    if recipe.backbone.startswith(USER):
        own = UserModelSource(Path(weights), trusted, size, scale_of(recipe.scaling))
        network, tap = recall_user_taps(own, asked)[0]
    elif recipe.backbone in BACKBONES:
        backbone = BACKBONES[recipe.backbone]
        network, tap = recall_taps(backbone, asked, weights=weights, size=size)[0]
    else:
        raise FeatcacheError(f"this featcache has no backbone {recipe.backbone!r}: upgrade it")
    if tap.weights != recipe.weights:
        raise FeatcacheError(
            f"the weights {weights!r} are not those the features were made with (digest "
            f"{tap.weights[:12]}, expected {recipe.weights[:12]}): give the right file with "
            f"--weights"
        )
    return network, tap


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
    known = recall(note, partial(_networks, question, note)) if note else None
    if known:
        return known
    found = question.open()
    if note and all(stamp.is_settled(began) for _, stamp in files):
        keep(note, _record(found))
    return found


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
        taps = tuple(noted_tap(tap) for tap in noted)
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
    """Keras has built weights of other values than the note promised."""
    remove(note, is_record, base=home())
    raise FeatcacheError(
        f"the weights {hint!r} are not those that were noted: they changed without their file's "
        "times changing. The note is deleted: run the same command again"
    )


def _distinct(found: list[tuple[Network, Tap]]) -> list[Network]:
    return list({id(network): network for network, _ in found}.values())


def _record(found: list[tuple[Network, Tap]]) -> dict[str, Any]:
    """What a note tells of networks and taps; see `_networks`."""
    networks = _distinct(found)
    return {
        "networks": [[asdict(tap) for tap in network.taps] for network in networks],
        "order": [
            [next(n for n, each in enumerate(networks) if each is network), network.taps.index(tap)]
            for network, tap in found
        ],
    }


def _note_path(question: _Question, files: list[tuple[str, FileStamp]]) -> Path | None:
    """Where the note would be; None where nothing could tell whether it still holds."""
    versions = keras_versions()
    weights = resolve_weights(question.backbone, question.weights)
    if versions is None or not (files or weights.startswith("random:")):
        return None
    return note_path(
        NETWORK_RULES,
        question.backbone.name,
        weights,
        [(path, asdict(stamp)) for path, stamp in files],
        question.size,
        question.asked,
        versions,
    )


def _weights_files(question: _Question) -> list[tuple[str, FileStamp]]:
    """The files that hold the weights, as they are now; none for random weights."""
    weights = resolve_weights(question.backbone, question.weights)
    if weights.startswith("random:"):
        return []
    if weights == "embedded":
        paths = [embedded_file()]
    elif weights == "imagenet":
        # Told by their names: a few too many, in doubt.
        files = downloaded_files().items()
        paths = [path for path, name in files if question.backbone.name in name]
    else:
        paths = [Path(weights)]
    return [(str(path), FileStamp.of(path.stat())) for path in paths if path.is_file()]
