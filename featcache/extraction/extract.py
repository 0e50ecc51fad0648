"""extract: the public verb that makes features of images, and what it prepares."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack, overload

import joblib
import numpy as np

from featcache.backbones.network import Network, Tap
from featcache.backbones.opening import BackboneSource, recall_backbone
from featcache.backbones.user_models.user_network import USER, scale_of
from featcache.errors import FeatcacheError, at_least
from featcache.extraction.job import Job, Progress, RunSettings, Target, Views
from featcache.extraction.keeping import Keeping
from featcache.extraction.options import ExtractionOptions
from featcache.extraction.update import run_job
from featcache.features.cache import FeatureCache
from featcache.features.features import Features
from featcache.features.splits.partition import Carve
from featcache.images import find_images
from featcache.images.augment import Augmentation
from featcache.images.first_look import require_an_image
from featcache.options import complete, takes
from featcache.recipe import Decoding, Pooling, Recipe, Scaling, parse_channels, parse_resize
from featcache.runtimes.choice import check_precision, choose_runtime

Images = str | Path | np.ndarray | Sequence[Any]


@overload
def extract(
    images: Images,
    *,
    backbone: str,
    layer: str = "",
    progress: Callable[[Progress], None] = ...,
    **options: Unpack[ExtractionOptions],
) -> Features: ...


@overload
def extract(
    images: Images,
    *,
    backbone: str | Sequence[str],
    layer: str | Sequence[str] = "",
    progress: Callable[[Progress], None] = ...,
    **options: Unpack[ExtractionOptions],
) -> Features | list[Features]: ...


@takes(ExtractionOptions)
def extract(
    images: Images,
    *,
    backbone: str | Sequence[str],
    layer: str | Sequence[str] = "",
    progress: Callable[[Progress], None] = lambda progress: None,
    **options: Unpack[ExtractionOptions],
) -> Features | list[Features]:
    """Run a frozen backbone once over images and keep its features; later calls only add.

    Parameters
    ----------
    images: a folder, a CSV manifest, one file, a list of files, or uint8 arrays (N, H, W[, C]).
    backbone: a name out of `featcache.BACKBONES`, such as "vgg16", or the path of a ``.keras``
        file or SavedModel of your own (`trust_model`, `scale`); several share the decoding.
    layer: the layer to tap, "NAME" or "NAME:POOLING"; its own output without the classifier by
        default. Several come out of one forward pass. `featcache layers` lists them.
    progress: called after every batch.
    options: those of `ExtractionOptions`.

    Returns
    -------
    Features: a row an image (and view), sorted by path, or in the order of what was given as a list
    (`.given`: which of them); `.run` says what this call did. A list of Features, one for each
    layer of each backbone, where `layer` or `backbone` is not a single name.

    Raises
    ------
    FeatcacheError: a wrong argument or input; see `featcache.errors` for its kinds.
    KeyboardInterrupt: after Ctrl-C, when the finished rows have been saved.
    """
    job = prepare(images, backbone=backbone, layer=layer, **options)
    found = [
        replace(job.cache.load(each.path).in_order_of(job.given), run=each)
        for each in run_job(job, progress)
    ]
    return found[0] if isinstance(backbone, str) and isinstance(layer, str) else found


@takes(ExtractionOptions)
def prepare(
    images: Images,
    *,
    backbone: str | Sequence[str],
    layer: str | Sequence[str] = "",
    **given: Unpack[ExtractionOptions],
) -> Job:
    """Check every argument, find the images and the networks: an extraction ready to run."""
    options = complete(ExtractionOptions, given)
    # Checks the choices before the images are listed and before TensorFlow is imported.
    settings, views = _settings(options), _views(options)
    draft = _draft(options, views)
    size, weights = _size(options["size"]), options["weights"]
    source = BackboneSource(weights, size, options["scale"], options["trust_model"])
    taps = [_tap(each, options["pooling"]) for each in _several(layer)]
    found = find_images(
        images,
        name=options["name"],
        labels=options["labels"],
        splits=options["splits"],
        groups=options["groups"],
        follow_symlinks=options["follow_symlinks"],
        folders=options["folders"] or ("split/class" if options["splits_from_folders"] else None),
        ignore=options["ignore"] or (),
        pages=options["pages"],
    )
    require_an_image(found)
    opened = [
        pair
        for each in dict.fromkeys(_several(backbone))
        for pair in recall_backbone(each, taps, source)
    ]
    feature_cache = FeatureCache.open(options["cache"])
    images_by_name, _ = found.distinct()

    def targets_in(folder: Path) -> list[Target]:
        return [_target(draft, network, tap, folder) for network, tap in opened]

    keeping = Keeping(images_by_name, feature_cache.directory, forget=options["forget"])
    keeping.check_name(options["name"], targets_in)
    folder, remarks = feature_cache.claim(images_by_name, options["name"])
    targets = targets_in(folder)
    of_networks = dict.fromkeys(remark for network, _ in opened for remark in network.remarks)
    return Job(
        images=images_by_name,
        given=found.names,
        targets=targets,
        cache=feature_cache,
        settings=settings,
        views=views,
        remarks=[*found.remarks, *remarks, *keeping.check(targets), *of_networks],
    )


def _settings(options: ExtractionOptions) -> RunSettings:
    """What changes no vector."""
    carve = options["test_from"]
    return RunSettings(
        batch=options["batch"],
        threads=options["threads"] or joblib.cpu_count(),
        runtime=options["runtime"],
        max_pixels=options["max_pixels"],
        on_error=options["on_error"],
        retry_failed=options["retry_failed"],
        rehash=options["rehash"],
        carve=Carve.parse(carve) if carve else None,
    )


def _draft(options: ExtractionOptions, views: Views) -> Recipe:
    """The recipe, as far as it is known without a network."""
    resize, share = parse_resize(options["resize"])
    page = options["page"]
    if page and options["pages"] == "each":
        raise FeatcacheError(f"--page {page} is one page, --pages each are all: leave one out")
    decoding = Decoding(
        (1, 1),
        resize,
        options["interpolation"],
        options["bit_depth"],
        share,
        page=int(page),
        channels=parse_channels(options["channels"]),
    )
    return Recipe(
        backbone="",
        weights="",
        decoding=decoding,
        scaling=Scaling(),
        precision=options["precision"],
        runtime=_computing(options["runtime"], options["precision"]),
        dtype=options["dtype"],
        augment=views.augmentation.spec if views.augmentation else "",
        seed=views.seed,
    )


def extract_options_of(recipe: Recipe, weights_hint: str) -> dict[str, Any]:
    """The options that give `extract` the plain rows of a recipe; the hint is beside features."""
    decoding = recipe.decoding
    options: dict[str, Any] = {
        "backbone": recipe.backbone,
        "weights": weights_hint,
        "layer": recipe.layer,
        "pooling": recipe.pooling,
        "size": decoding.size,
        "resize": decoding.resize if decoding.crop == 1.0 else f"crop:{decoding.crop!r}",
        "interpolation": decoding.interpolation,
        "bit_depth": decoding.bit_depth,
        "page": decoding.page,
        "channels": decoding.channels or None,
        "precision": recipe.precision,
        "dtype": recipe.dtype,
    }
    if recipe.backbone.startswith(USER):
        options |= {"backbone": weights_hint, "weights": None, "scale": scale_of(recipe.scaling)}
    return options


def _target(draft: Recipe, network: Network, tap: Tap, folder: Path) -> Target:
    """The network and the tap complete the recipe, which names the directory."""
    recipe = replace(
        draft,
        backbone=network.backbone.name,
        weights=tap.weights,
        layer=tap.layer,
        pooling=tap.pooling,
        decoding=replace(draft.decoding, size=network.size),
        scaling=network.backbone.scaling,
    )
    return Target(recipe, network, tap, FeatureCache.place(folder, recipe, network.name))


def _several(names: str | Sequence[str]) -> list[str]:
    """One name or several, each once, in order."""
    return [names] if isinstance(names, str) else list(dict.fromkeys(names)) or [""]


def _tap(layer: str, pooling: str) -> tuple[str, Pooling]:
    """NAME or NAME:POOLING; `flatten` is another name for `none`: the map is stored once."""
    name, colon, own = layer.rpartition(":")
    name, pooling = (name, own) if colon else (layer, pooling)
    return name, "none" if pooling == "flatten" else pooling  # type: ignore[return-value]


def _views(options: ExtractionOptions) -> Views:
    """The augmented views that are asked for; one option without the other is a mistake."""
    count, augment, of_all = options["views"], options["augment"], options["augment_all"]
    if count == 0:
        if augment or of_all:
            raise FeatcacheError(
                "--augment without --views: say how many views each image is to have (--views 8)"
            )
        return Views()
    if not augment:
        raise FeatcacheError(
            f"--views {count} without --augment: say what is to vary, such as "
            f"--augment classic or --augment flip,rotate=20"
        )
    return Views(Augmentation.parse(augment), count, options["seed"], of_all)


def _size(size: int | tuple[int, int] | None) -> tuple[int, int] | None:
    if size is None:
        return None
    height, width = size if isinstance(size, tuple | list) else (size, size)
    return at_least("--size", height, 1), at_least("--size", width, 1)


def _computing(runtime: str, precision: str) -> str:
    """The runtime as the recipe has it: "" in float32, where all of them must agree."""
    if precision == "float32":
        return ""
    chosen = choose_runtime(runtime).name
    check_precision(chosen, precision)
    return chosen
