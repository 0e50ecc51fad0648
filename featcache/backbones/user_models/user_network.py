"""A user's own model as a network like any other: told by its path, trusted, digested, opened.

    digest_user_model(path)                              no TensorFlow, no Keras: for warm starts
    open_user_model(path, trusted=True, ...) -> UserModel

Its taps are recalled without Keras where they are known: the model has a digest of its own, so a
note about it holds as long as the bytes do.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from featcache.backbones.keras_import import keras_versions
from featcache.backbones.layers import pooled
from featcache.backbones.network import (
    OUTPUT,
    PREDICTIONS,
    Asked,
    Built,
    Network,
    Tap,
    assemble,
    row_shape,
)
from featcache.backbones.noted import noted_sides, noted_tap
from featcache.backbones.table import Backbone
from featcache.backbones.user_models.keras_file import open_keras_file
from featcache.backbones.user_models.saved_model import open_saved_model
from featcache.backbones.user_models.user_model import SCALES, UserModel, settle_scale
from featcache.errors import FeatcacheError
from featcache.files.home import expanded, keep, note_path, recall
from featcache.files.small_files import digest_of_file
from featcache.recipe import NETWORK_RULES, Scaling

_GRAPH = "saved_model.pb"

#: What of a SavedModel's folder TensorFlow computes with. Left out: fingerprint.pb, a checksum of
#: these; keras_metadata.pb and tfhub_module.pb, which we do not read; assets.extra, which nothing
#: reads.
_PARTS = ("variables", "assets")

#: What the name of a backbone starts with where the SHA-256 of a model's file follows.
USER = "sha256:"


def is_user_model(name: str) -> bool:
    """Whether `name` is the path of a ``.keras`` file or of a SavedModel's folder that is there."""
    path = expanded(name)
    return (path.suffix == ".keras" and path.is_file()) or (path / _GRAPH).is_file()


def digest_user_model(path: Path) -> str:
    """SHA-256 of a ``.keras`` file, or of a SavedModel's files with their names, in hex.

    Raises `FeatcacheError` where there is no such model, or it cannot be read.
    """
    path = expanded(path)
    _check_path(path)
    try:
        if path.is_file():
            return digest_of_file(path)
        digest = hashlib.sha256()
        for name, file in sorted(_saved_files(path)):
            digest.update(f"{digest_of_file(file)} {name}\n".encode())
        return digest.hexdigest()
    except OSError as error:
        raise FeatcacheError(f"{path} cannot be read: {error}") from error


def open_user_model(
    path: Path, *, trusted: bool, size: tuple[int, int] | None = None, scale: str | None = None
) -> UserModel:
    """Open a ``.keras`` file or a SavedModel's folder as a backbone. Imports Keras.

    `size` is (height, width) in pixels, needed where the model takes any; `scale` is one of
    `SCALES`, needed where the model does not scale pixels itself.

    Raises `FeatcacheError` for a model that is not trusted, is damaged, or does not go from one
    batch of RGB images to features.
    """
    path = expanded(path)
    check_trust(path, trusted=trusted)
    if scale is not None:
        settle_scale(path, scale, "")
    digest = digest_user_model(path)
    opened = open_keras_file if path.is_file() else open_saved_model
    return opened(path, digest, size=size, scale=scale)


def check_trust(path: Path, *, trusted: bool) -> None:
    """Raise `FeatcacheError` where there is no such model, or the user does not trust it."""
    path = expanded(path)
    _check_path(path)
    if not trusted:
        kind = "A .keras file" if path.is_file() else "A SavedModel"
        raise FeatcacheError(
            f"{path} was not opened: it is a program, and has to be trusted. {kind} from a "
            "stranger can read, change and send off your files when it is run. If you made it, or "
            "trust who did, say --trust-model (in Python: trust_model=True). Weights-only files "
            "(.weights.h5, .h5, .safetensors, by --weights) need no trust"
        )


def _check_path(path: Path) -> None:
    """Raise `FeatcacheError` where nothing is there that could be opened."""
    if is_user_model(str(path)):
        return
    if not path.exists():
        raise FeatcacheError(f"{path}: there is no such file or folder")
    if path.is_file():
        raise FeatcacheError(
            f"{path} is not a model that featcache reads: expected is a .keras file, or the folder "
            f"of a SavedModel (unpack archives first). A weights file goes with --weights"
        )
    inside = [*path.glob(f"*/{_GRAPH}"), *path.glob(f"*/*/{_GRAPH}")]
    hint = f": did you mean {sorted(inside)[0].parent}?" if inside else ""
    raise FeatcacheError(f"{path} is not a SavedModel: it has no {_GRAPH}{hint}")


def _saved_files(path: Path) -> list[tuple[str, Path]]:
    files = [path / _GRAPH]
    for part in _PARTS:
        files += [file for file in (path / part).rglob("*") if file.is_file()]
    return [(file.relative_to(path).as_posix(), file) for file in files]


@dataclass(frozen=True, slots=True)
class UserModelSource:
    """A user's model as it is asked for; see `open_user_model`."""

    path: Path
    trusted: bool
    size: tuple[int, int] | None = None
    scale: str | None = None


def recall_user_taps(own: UserModelSource, asked: Sequence[Asked]) -> list[tuple[Network, Tap]]:
    """The taps of a user's own model, each once, in the order asked for, all of one network.

    Without Keras where a note of an earlier run tells what it would. Raises `FeatcacheError` as
    `open_user_model` does.
    """
    check_trust(own.path, trusted=own.trusted)
    digest = digest_user_model(own.path)
    note = note_path(
        NETWORK_RULES, "own", digest, own.size, own.scale, list(asked), keras_versions()
    )
    network = recall(note, partial(_network, own, asked, digest))
    if network is None:
        network = open_user_taps(own, asked)
        keep(note, _record(network))
    return [(network, tap) for tap in network.taps]


def open_user_taps(own: UserModelSource, asked: Sequence[Asked]) -> Network:
    """The network of a user's own model with the taps asked for. Imports Keras."""
    model = open_user_model(own.path, trusted=own.trusted, size=own.size, scale=own.scale)
    found: dict[Asked, Any] = {}
    for layer, pooling in asked:
        name, output = model.tap(_named(model, layer))
        found.setdefault((name, pooling), pooled(output, pooling))
    taps = tuple(
        Tap(name, pooling, row_shape(output, name), model.digest)
        for (name, pooling), output in found.items()
    )
    backbone = _backbone(model.digest, model.size, model.scaling)
    built = assemble(model.network.input, list(found.values()), backbone, model.size)
    return Network(backbone, _hint(own), model.size, taps, lambda: built, model.remarks)


def _named(model: UserModel, layer: str) -> str:
    """A layer's name, but for the two that mean the model's own output in every network."""
    return "" if layer in (OUTPUT, PREDICTIONS) and layer not in model.outputs else layer


def scale_of(scaling: Scaling) -> str:
    """The name, for `UserModelSource.scale`, of the scaling that a recipe holds."""
    return next(name for name, known in SCALES.items() if known == scaling)


def _network(
    own: UserModelSource, asked: Sequence[Asked], digest: str, record: dict[str, Any]
) -> Network:
    """The network that a note tells of."""
    scaling = Scaling.of(record["scaling"])
    height, width = noted_sides(record["size"])
    size = (height, width)

    def build() -> Built:
        return open_user_taps(own, asked).built

    return Network(
        backbone=_backbone(digest, size, scaling),
        weights_hint=_hint(own),
        size=size,
        taps=tuple(noted_tap(tap) for tap in record["taps"]),
        build=build,
        remarks=tuple(map(str, record["remarks"])),
    )


def _record(network: Network) -> dict[str, Any]:
    """What a note tells of a network; see `_network`."""
    return {
        "scaling": asdict(network.backbone.scaling),
        "size": network.size,
        "taps": [asdict(tap) for tap in network.taps],
        "remarks": network.remarks,
    }


def _backbone(digest: str, size: tuple[int, int], scaling: Scaling) -> Backbone:
    """The row that the table would have for it."""
    return Backbone(
        name=f"{USER}{digest}",
        source="own",
        size=max(size),
        width=0,
        scaling=scaling,
        constructor="",
        module="",
        smallest=1,
    )


def _hint(own: UserModelSource) -> str:
    return str(expanded(own.path).absolute())
