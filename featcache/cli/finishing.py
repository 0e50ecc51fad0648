"""Finishing: the command that goes on with an extraction, as far as its rows tell it"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from featcache.features.finding import Entry
    from featcache.features.store.snapshot import Snapshot
    from featcache.recipe import Recipe

#: Options of `featcache extract` that are left out where they have these values.
USUAL = {"layer": "", "pooling": "avg", "resize": "squash", "interpolation": "area",
         "bit_depth": "16", "precision": "float32", "dtype": "float32"}  # fmt: skip


def finishing_command(entry: Entry, snapshot: Snapshot, cache: str | Path | None) -> str:
    """The `featcache extract` that completes an entry; "" where its images are nobody knows where.

    Where labels or splits came from options, these must be added.
    """
    from featcache.errors import FeatcacheError
    from featcache.features.cache import images_root, weights_hint
    from featcache.recipe import Recipe

    root = images_root(entry.directory)
    if not root:
        return ""
    try:
        recipe = Recipe.from_json(entry.recipe())
    except FeatcacheError:
        return ""
    manifest = Path(root) / f"{entry.data_set}.csv"
    images = manifest if manifest.is_file() else Path(root)
    words = ["featcache", "extract", str(images)]
    options = {
        **_network(recipe, weights_hint(entry.directory)),
        **_views(recipe, snapshot),
        "name": None if entry.data_set == images.stem else entry.data_set,
        "cache": None if cache is None else str(cache),
    }
    for name, value in options.items():
        if value is not None and value != USUAL.get(name):
            words += [f"--{name.replace('_', '-')}", str(value)]
    return shlex.join(words)


def _network(recipe: Recipe, hint: str) -> dict[str, Any]:
    """The options of a recipe; those that are usual for its backbone are None."""
    from featcache.backbones.table import BACKBONES
    from featcache.extraction.extract import extract_options_of

    options = extract_options_of(recipe, hint)
    backbone, (height, width) = BACKBONES.get(recipe.backbone), options["size"]
    options["size"] = str(height) if height == width else f"{height}x{width}"
    if backbone and (height, width) == (backbone.size, backbone.size):
        options["size"] = None
    if hint in ("imagenet", "embedded"):
        options["weights"] = None
    if recipe.runtime:
        options["runtime"] = recipe.runtime
    return options


def _views(recipe: Recipe, snapshot: Snapshot) -> dict[str, Any]:
    """How many views there are so far, where there are any."""
    if not recipe.augment:
        return {}
    count = int(np.max(snapshot.keys_and_views()[1], initial=0))
    return {"views": count or None, "augment": recipe.augment, "seed": recipe.seed}
