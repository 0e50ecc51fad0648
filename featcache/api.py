"""The public verbs that begin with images: `extract` and `load`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypedDict, Unpack

import joblib
import numpy as np

from featcache.backbones import BACKBONES, Backbone, find_backbone, recall_network
from featcache.cache import FeatureCache
from featcache.decode import MAX_PIXELS
from featcache.errors import FeatcacheError
from featcache.extraction import Job, Progress, Settings, run
from featcache.features import Features
from featcache.images import ImageSet, find_images
from featcache.recipe import (
    BitDepth,
    Decoding,
    Interpolation,
    Pooling,
    Precision,
    Recipe,
    Resize,
    StoredType,
)
from featcache.runtimes import RUNTIMES, check_precision, choose_runtime, default_batch
from featcache.splits import Carve


class Options(TypedDict, total=False):
    """The options of `extract`; their defaults are those of `prepare`."""

    weights: str | None
    layer: str
    pooling: str
    size: int | tuple[int, int] | None
    resize: Resize
    interpolation: Interpolation
    bit_depth: BitDepth
    precision: Precision
    dtype: StoredType
    runtime: str
    batch: int | None
    threads: int | None
    max_pixels: int
    cache: str | Path | None
    name: str | None
    test_from: str | None
    on_error: str
    retry_failed: bool
    follow_symlinks: bool
    labels: Sequence[str] | None
    splits: Sequence[str] | None
    groups: Sequence[str] | None


def extract(
    images: str | Path | np.ndarray | Sequence[Any],
    *,
    backbone: str,
    progress: Callable[[Progress], None] = lambda progress: None,
    **options: Unpack[Options],
) -> Features:
    """Run a frozen backbone once over images and keep its features; later calls only add.

    Parameters
    ----------
    images: a folder, a CSV manifest, one file, a list of files, or uint8 arrays (N, H, W[, C]).
    backbone: a name out of `featcache.BACKBONES`, such as "vgg16" or "efficientnet_lite0".
    progress: called after every batch.
    weights: "imagenet" (the default), a path, or "random[:SEED]".
    layer: the layer to tap; its own output without the classifier by default.
    pooling: "avg" (default), "max", or "none" ("flatten") for the whole map.
    size: input side in pixels, or (height, width); the backbone's own by default.
    resize: "squash" (default), "crop" or "pad".
    interpolation: "area" (default), or "keras": the pixels of `image_dataset_from_directory`.
    bit_depth: how 16-bit images become 8-bit: "16" (default), "12" or "minmax".
    dtype: "float32" (default) or "float16", in which vectors are stored.
    labels, splits, groups: one string an image, in the order of `images`, "" = none.
    name, cache: the data set's name; the cache folder.
    test_from: "validation:0.2" makes part of a split the test split.
    on_error, retry_failed, max_pixels, follow_symlinks, runtime, batch, threads: as the options of
        ``featcache extract``.

    Returns
    -------
    Features: a row an image, sorted by path; `.run` says what this call did.

    Raises
    ------
    FeatcacheError: a wrong argument or input; see `featcache.errors` for its kinds.
    KeyboardInterrupt: after Ctrl-C, when the finished rows have been saved.
    """
    job = prepare(images, backbone=backbone, **options)
    report = run(job, progress)
    return replace(job.cache.load(report.path), run=report)


def load(features: str | Path, *, cache: str | Path | None = None) -> Features:
    """The cached features that `features` means: a path, "photos", "photos/vgg16", a beginning.

    Vectors are memory-mapped, not read. Raises `FeatcacheError` where there are none or several,
    `DamagedFile` where the file is damaged. Never imports TensorFlow.
    """
    return FeatureCache.open(cache).load(features)


def prepare(
    images: str | Path | np.ndarray | Sequence[Any],
    *,
    backbone: str,
    weights: str | None = None,
    layer: str = "",
    pooling: str = "avg",
    size: int | tuple[int, int] | None = None,
    resize: Resize = "squash",
    interpolation: Interpolation = "area",
    bit_depth: BitDepth = "16",
    precision: Precision = "float32",
    dtype: StoredType = "float32",
    runtime: str = "auto",
    batch: int | None = None,
    threads: int | None = None,
    max_pixels: int = MAX_PIXELS,
    cache: str | Path | None = None,
    name: str | None = None,
    test_from: str | None = None,
    on_error: str = "skip",
    retry_failed: bool = False,
    follow_symlinks: bool = False,
    labels: Sequence[str] | None = None,
    splits: Sequence[str] | None = None,
    groups: Sequence[str] | None = None,
) -> Job:
    """Check every argument, find the images and build the network: an extraction ready to run."""
    _one_of("--runtime", runtime, RUNTIMES)
    base = find_backbone(backbone)
    decoding = Decoding(_size(size, base), resize, interpolation, bit_depth)
    if batch is None:
        batch = default_batch(runtime, decoding.size)
    settings = Settings(
        batch=_positive("--batch", batch),
        threads=_positive("--threads", joblib.cpu_count() if threads is None else threads),
        runtime=runtime,
        max_pixels=_positive("--max-pixels", max_pixels),
        on_error=_one_of("--on-error", on_error, ("skip", "fail")),
        retry_failed=retry_failed,
        carve=Carve.parse(test_from) if test_from else None,
    )
    # Checks the choices before the images are listed and before TensorFlow is imported.
    draft = Recipe(
        backbone=base.name,
        weights="",
        layer=layer,
        pooling=_pooling(pooling),
        decoding=decoding,
        scaling=base.scaling,
        precision=precision,
        runtime=_computing(runtime, precision),
        dtype=dtype,
    )
    found = find_images(
        images,
        name=name,
        labels=labels,
        splits=splits,
        groups=groups,
        follow_symlinks=follow_symlinks,
    )
    return open_job(found, draft, settings, weights=weights, cache=cache, name=name)


def open_job(
    images: ImageSet,
    draft: Recipe,
    settings: Settings,
    *,
    weights: str | None,
    cache: str | Path | None,
    name: str | None,
) -> Job:
    """Build the network, which completes the recipe, and claim the data set's folder."""
    network = recall_network(
        BACKBONES[draft.backbone],
        weights=weights,
        size=draft.decoding.size,
        layer=draft.layer,
        pooling=draft.pooling,
    )
    recipe = replace(draft, weights=network.weights_digest, layer=network.layer)
    feature_cache = FeatureCache.open(cache)
    folder, remarks = feature_cache.claim(images, name)
    return Job(
        images=images,
        recipe=recipe,
        network=network,
        cache=feature_cache,
        directory=folder / recipe.slug,
        settings=settings,
        remarks=[*images.remarks, *remarks],
    )


def _size(size: int | tuple[int, int] | None, backbone: Backbone) -> tuple[int, int]:
    if size is None:
        return (backbone.size, backbone.size)
    height, width = (size, size) if isinstance(size, int) else size
    return (_positive("--size", height), _positive("--size", width))


def _computing(runtime: str, precision: str) -> str:
    """The runtime as the recipe has it: "" in float32, where all of them must agree."""
    if precision == "float32":
        return ""
    chosen = choose_runtime(runtime).name
    check_precision(chosen, precision)
    return chosen


def _pooling(pooling: str) -> Pooling:
    """`flatten` is another name for `none`: the map is stored once, `vectors` flattens it."""
    return "none" if pooling == "flatten" else pooling  # type: ignore[return-value]


def _positive(option: str, number: int) -> int:
    if number < 1:
        raise FeatcacheError(f"{option} {number}: expected a whole number of at least 1")
    return number


def _one_of(option: str, value: str, choices: tuple[str, ...]) -> str:
    if value not in choices:
        raise FeatcacheError(f"{option} {value!r} is not one of {', '.join(choices)}")
    return value
