"""The public verbs that begin with images: `extract` and `load`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypedDict, Unpack, overload

import joblib
import numpy as np

from featcache.backbones import BackboneSource, Network, Tap, recall_backbone
from featcache.backbones.user_models.user_network import USER, scale_of
from featcache.errors import FeatcacheError
from featcache.extraction.job import Job, Progress, RunSettings, Target, Views
from featcache.extraction.update import run_job
from featcache.features.cache import FeatureCache
from featcache.features.features import Features
from featcache.features.splits.partition import Carve
from featcache.images import find_images
from featcache.images.augment import Augmentation
from featcache.images.decoder import MAX_PIXELS
from featcache.recipe import (
    BitDepth,
    Decoding,
    Interpolation,
    Pooling,
    Precision,
    Recipe,
    Scaling,
    StoredType,
    parse_channels,
    parse_resize,
)
from featcache.runtimes import RUNTIMES, check_precision, choose_runtime


class Options(TypedDict, total=False):
    """The options of `extract`; their defaults are those of `prepare`."""

    weights: str | None
    scale: str | None
    trust_model: bool
    pooling: str
    size: int | tuple[int, int] | None
    resize: str
    interpolation: Interpolation
    bit_depth: BitDepth
    page: int
    channels: str | int | Sequence[int] | None
    pages: str
    precision: Precision
    dtype: StoredType
    runtime: str
    batch: int | None
    threads: int | None
    max_pixels: int
    views: int
    augment: str | None
    seed: int
    augment_all: bool
    cache: str | Path | None
    name: str | None
    test_from: str | None
    on_error: str
    retry_failed: bool
    rehash: bool
    follow_symlinks: bool
    labels: Sequence[str] | None
    splits: Sequence[str] | None
    groups: Sequence[str] | None


Images = str | Path | np.ndarray | Sequence[Any]


@overload
def extract(
    images: Images,
    *,
    backbone: str,
    layer: str = "",
    progress: Callable[[Progress], None] = ...,
    **options: Unpack[Options],
) -> Features: ...


@overload
def extract(
    images: Images,
    *,
    backbone: str | Sequence[str],
    layer: str | Sequence[str] = "",
    progress: Callable[[Progress], None] = ...,
    **options: Unpack[Options],
) -> Features | list[Features]: ...


def extract(
    images: Images,
    *,
    backbone: str | Sequence[str],
    layer: str | Sequence[str] = "",
    progress: Callable[[Progress], None] = lambda progress: None,
    **options: Unpack[Options],
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
    weights: "imagenet" (the default), a path, or "random[:SEED]".
    pooling: "avg" (default), "max", or "none" ("flatten") for the whole map.
    size: input side in pixels, or (height, width); the backbone's own by default.
    resize: "squash" (default), "crop", "pad", or "crop:0.875": a share of the largest box.
    interpolation: "area" (default), or "keras": the pixels of `image_dataset_from_directory`.
    bit_depth: how 16-bit images become 8-bit: by "16" bits (default), any number from 9, or
        "minmax".
    page, channels: the page of a file of several, from 0; three of its channels as RGB ("0,2,1"),
        or one as grey.
    pages: "first" (default): the page that `page` says; "each": a row of every page.
    dtype: "float32" (default) or "float16", in which vectors are stored.
    views: augmented views of each training image beside the plain one, a row each; with
        `augment` ("flip,rotate=40", see docs/augmentation.md), `seed`, and `augment_all` for the
        images of every split.
    labels, splits, groups: one string an image, in the order of `images`, "" = none.
    name, cache: the data set's name; the cache folder.
    test_from: "validation:0.2" makes part of a split the test split.
    rehash: read and hash every image again, also where its file's size and times are as before.
    on_error, retry_failed, max_pixels, follow_symlinks, precision, runtime, batch, threads: as the
        options of ``featcache extract``.

    Returns
    -------
    Features: a row an image (and view), sorted by path; `.run` says what this call did. A list of
    them, one for each layer of each backbone, where `layer` or `backbone` is not a single name.

    Raises
    ------
    FeatcacheError: a wrong argument or input; see `featcache.errors` for its kinds.
    KeyboardInterrupt: after Ctrl-C, when the finished rows have been saved.
    """
    job = prepare(images, backbone=backbone, layer=layer, **options)
    found = [replace(job.cache.load(each.path), run=each) for each in run_job(job, progress)]
    return found[0] if isinstance(backbone, str) and isinstance(layer, str) else found


def prepare(
    images: Images,
    *,
    backbone: str | Sequence[str],
    weights: str | None = None,
    scale: str | None = None,
    trust_model: bool = False,
    layer: str | Sequence[str] = "",
    pooling: str = "avg",
    size: int | tuple[int, int] | None = None,
    resize: str = "squash",
    interpolation: Interpolation = "area",
    bit_depth: BitDepth = "16",
    page: int = 0,
    channels: str | int | Sequence[int] | None = None,
    pages: str = "first",
    precision: Precision = "float32",
    dtype: StoredType = "float32",
    runtime: str = "auto",
    batch: int | None = None,
    threads: int | None = None,
    max_pixels: int = MAX_PIXELS,
    views: int = 0,
    augment: str | None = None,
    seed: int = 0,
    augment_all: bool = False,
    cache: str | Path | None = None,
    name: str | None = None,
    test_from: str | None = None,
    on_error: str = "skip",
    retry_failed: bool = False,
    rehash: bool = False,
    follow_symlinks: bool = False,
    labels: Sequence[str] | None = None,
    splits: Sequence[str] | None = None,
    groups: Sequence[str] | None = None,
) -> Job:
    """Check every argument, find the images and the networks: an extraction ready to run."""
    _one_of("--runtime", runtime, RUNTIMES)
    settings = RunSettings(
        batch=None if batch is None else _at_least("--batch", batch, 1),
        threads=_at_least("--threads", joblib.cpu_count() if threads is None else threads, 1),
        runtime=runtime,
        max_pixels=_at_least("--max-pixels", max_pixels, 1),
        on_error=_one_of("--on-error", on_error, ("skip", "fail")),
        retry_failed=retry_failed,
        rehash=rehash,
        carve=Carve.parse(test_from) if test_from else None,
    )
    wanted = _views(views, augment, seed, augment_all)
    geometry, share = parse_resize(resize)
    # Checks the choices before the images are listed and before TensorFlow is imported.
    draft = Recipe(
        backbone="",
        weights="",
        decoding=Decoding(
            (1, 1), geometry, interpolation, bit_depth, share, page, parse_channels(channels)
        ),
        scaling=Scaling(),
        precision=precision,
        runtime=_computing(runtime, precision),
        dtype=dtype,
        augment=wanted.augmentation.spec if wanted.augmentation else "",
        seed=wanted.seed,
    )
    if page and pages == "each":
        raise FeatcacheError(f"--page {page} is one page, --pages each are all: leave one out")
    taps = [_tap(each, pooling) for each in _several(layer)]
    found = find_images(
        images,
        name=name,
        labels=labels,
        splits=splits,
        groups=groups,
        follow_symlinks=follow_symlinks,
        pages=pages,
    )
    source = BackboneSource(weights, _size(size), scale, trust_model)
    opened = [
        pair
        for each in dict.fromkeys(_several(backbone))
        for pair in recall_backbone(each, taps, source)
    ]
    feature_cache = FeatureCache.open(cache)
    folder, remarks = feature_cache.claim(found, name)
    targets = [_target(draft, network, tap, folder) for network, tap in opened]
    of_networks = dict.fromkeys(remark for network, _ in opened for remark in network.remarks)
    return Job(
        images=found,
        targets=targets,
        cache=feature_cache,
        settings=settings,
        views=wanted,
        remarks=[*found.remarks, *remarks, *of_networks],
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
        "channels": decoding.channels,
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


def _views(count: int, augment: str | None, seed: int, of_all: bool) -> Views:
    """The augmented views that are asked for; one option without the other is a mistake."""
    if _at_least("--views", count, 0) == 0:
        if augment or of_all:
            raise FeatcacheError(
                "--augment without --views: say how many views each image shall have (--views 8)"
            )
        return Views()
    if not augment:
        raise FeatcacheError(
            f"--views {count} without --augment: say what shall vary, such as "
            f"--augment classic or --augment flip,rotate=20"
        )
    return Views(Augmentation.parse(augment), count, _at_least("--seed", seed, 0), of_all)


def _size(size: int | tuple[int, int] | None) -> tuple[int, int] | None:
    if size is None:
        return None
    height, width = (size, size) if isinstance(size, int) else size
    return (_at_least("--size", height, 1), _at_least("--size", width, 1))


def _computing(runtime: str, precision: str) -> str:
    """The runtime as the recipe has it: "" in float32, where all of them must agree."""
    if precision == "float32":
        return ""
    chosen = choose_runtime(runtime).name
    check_precision(chosen, precision)
    return chosen


def _at_least(option: str, number: int, smallest: int) -> int:
    if number < smallest:
        raise FeatcacheError(f"{option} {number}: expected a whole number of at least {smallest}")
    return number


def _one_of(option: str, value: str, choices: tuple[str, ...]) -> str:
    if value not in choices:
        raise FeatcacheError(f"{option} {value!r} is not one of {', '.join(choices)}")
    return value
