"""Opening: from what a user calls a backbone to its networks and taps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from featcache.backbones.network import Asked, Network, Tap
from featcache.backbones.opening import recall_taps
from featcache.backbones.table import BACKBONES, find_backbone
from featcache.backbones.tuned import TunedBackbone
from featcache.backbones.tuned_record import check_weights
from featcache.backbones.user_models.own_model import is_user_model
from featcache.backbones.user_models.user_network import (
    USER,
    UserModelSource,
    recall_user_taps,
    scale_of,
)
from featcache.errors import FeatcacheError
from featcache.files.home import expanded
from featcache.recipe import Recipe


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
