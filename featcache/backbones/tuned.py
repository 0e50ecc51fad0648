"""Tuned: a backbone that was fine-tuned, as a folder: its weights, and what they are weights of.

OUT/finetuned.json          which backbone, at which size
OUT/backbone.weights.h5     its weights; OUT/backbone.keras of a model of the user's own
OUT/finetuned.head          the head on its vectors
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from featcache.backbones import tuned_record
from featcache.backbones.layers import canonical_layers
from featcache.backbones.network import Network, whole_network
from featcache.backbones.tuned_record import MODEL, RECORD, WEIGHTS, read_tuned_record
from featcache.backbones.user_models.user_network import open_user_model, scale_of
from featcache.errors import DamagedFile, FeatcacheError
from featcache.files.home import expanded
from featcache.files.write import whole_file


@dataclass(frozen=True, slots=True)
class TunedBackbone:
    """A fine-tuned backbone.

    Attributes
    ----------
    backbone: its name in the table, or the path of its ``.keras`` file.
    weights: of its weights, None where they are in that file.
    size: input (height, width) in pixels that it was tuned at.
    scale: of a user's own model.
    """

    backbone: str
    weights: str | None
    size: tuple[int, int]
    scale: str | None

    @classmethod
    def find(cls, name: str) -> TunedBackbone | None:
        """The tuned backbone that a folder holds; None where it holds none.

        Raises `FeatcacheError` where its record is damaged or newer than this featcache.
        """
        folder = expanded(name)
        record = read_tuned_record(folder)
        if record is None:
            return None
        try:
            size = (int(record["size"][0]), int(record["size"][1]))
            backbone, scale = str(record["backbone"]), record["scale"]
            if not (scale is None or isinstance(scale, str)):
                raise TypeError(f"the scale is {scale!r:.80}")
        except (ValueError, KeyError, TypeError, IndexError, OverflowError) as error:
            raise DamagedFile(
                f"{folder / RECORD}: not the record of a fine-tuning: {error!r}"
            ) from error
        # Only these names: a record of unknown origin cannot point anywhere else.
        if (folder / MODEL).is_file():
            return cls(str(folder / MODEL), None, size, scale)
        return cls(backbone, str(folder / WEIGHTS), size, None)


def weights_in(folder: Path, hint: str) -> str:
    """Where the weights once at `hint` are now: in a folder of a tuned backbone, if it has them.

    The folder may have been moved, or another one made where it was.
    """
    here = folder.absolute() / Path(hint).name
    is_tuned = here.name in (WEIGHTS, MODEL) and (folder / RECORD).is_file()
    return str(here) if is_tuned and here.is_file() else hint


def check_writable(network: Network) -> None:
    """Raise `FeatcacheError` where the network could learn, but not be written again."""
    path = Path(network.weights_hint)
    if network.backbone.source == "own" and path.is_dir():
        raise FeatcacheError(
            f"--backbone {path}: a SavedModel cannot be fine-tuned: it holds functions, not layers "
            f"that could be written again with other weights. Fine-tune the Keras model that it "
            f"was made of, as a .keras file, or fit a head on its features with "
            f"`featcache fit-head`"
        )


def export_tuned(network: Network, folder: Path) -> Path:
    """Write the whole network, with the layers of `network.base` as they are now, into a folder.

    Layers above the tap, which were not trained, are written as they were. Raises
    `StorageFailure` where the disk refuses.
    """
    own = network.backbone.source == "own"
    whole = _own_network(network) if own else whole_network(network)
    layers = canonical_layers(whole)
    for name, layer in canonical_layers(network.base).items():
        if layer.weights:
            layers[name].set_weights(layer.get_weights())
    target = folder / (MODEL if own else WEIGHTS)
    with whole_file(target, base=folder) as draft:
        (whole.save if own else whole.save_weights)(draft)
    return target


def write_backbone_record(
    network: Network, folder: Path, about: dict[str, Any], files: Iterable[str] = ()
) -> Path:
    """Write what makes the folder a backbone, with what is to be known `about` it.

    `files` are the names of those that are whole by now; see `tuned_record`.
    """
    own = network.backbone.source == "own"
    values = {
        "backbone": network.backbone.name,
        "size": list(network.size),
        "scale": scale_of(network.backbone.scaling) if own else None,
    }
    return tuned_record.write_tuned_record(folder, {**about, **values}, files)


def _own_network(network: Network) -> Any:
    """The user's model, opened again: it was trusted when the network was."""
    return open_user_model(
        Path(network.weights_hint),
        trusted=True,
        size=network.size,
        scale=scale_of(network.backbone.scaling),
    ).network
