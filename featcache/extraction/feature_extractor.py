"""FeatureExtractor: images in the world of scikit-learn, answered from the cache.

Its data set is given images from anywhere, a few at a time. What is new is saved as a part; only
now and then are the parts packed, so that an image costs the same however many there were before.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack

import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin

from featcache.errors import BadImage, FeatcacheError, ImageFailure
from featcache.extraction.extract import prepare
from featcache.extraction.job import Job, Target
from featcache.extraction.known import merged
from featcache.extraction.options import NetworkOptions
from featcache.extraction.update import Added, add
from featcache.features.cache import FeatureCache, note_weights
from featcache.features.claims import ANYWHERE, claim_for_any, confirm
from featcache.features.store.records import Identity, Stamp
from featcache.features.store.snapshot import Snapshot, found_in
from featcache.files.folders import lock, make_folder, opened_folder, scratch_folder
from featcache.files.home import expanded
from featcache.files.write import writing
from featcache.images import ImageSet, find_images
from featcache.options import complete, takes

#: Parts that lie beside `features.h5` at most: each is opened whenever rows are looked for.
PARTS = 64


@takes(NetworkOptions, values=False)
class FeatureExtractor(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """A scikit-learn transformer from images to the vectors of a frozen backbone, cached.

    ``make_pipeline(FeatureExtractor("vgg16"), LogisticRegression())`` in a grid search runs the
    network once an image: every later fit, fold and parameter is answered from the cache, rows
    that `featcache.extract` made under the same settings too.

    Parameters
    ----------
    backbone, layer: as in `featcache.extract`; one of each.
    options: those of `NetworkOptions`.
    cache: the cache folder; None: ``$FEATCACHE_DIR``, else ``./cache``.
    cache_name: the data set that new rows are added to; they are named by their SHA-256.

    Attributes
    ----------
    n_images_extracted_: images that the last `transform` ran the network for.
    """

    def __init__(
        self,
        backbone: str = "efficientnet_lite0",
        *,
        layer: str = "",
        cache: str | Path | None = None,
        cache_name: str = "sklearn",
        **options: Unpack[NetworkOptions],
    ) -> None:
        self.backbone = backbone
        self.layer = layer
        self.cache = cache
        self.cache_name = cache_name
        for name, value in dict(complete(NetworkOptions, options)).items():
            setattr(self, name, value)

    def fit(self, X: Any, y: Any = None) -> FeatureExtractor:
        """Check the parameters; nothing is learned, and no image is read."""
        self._prepare()
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Vectors (n, D) float32 of n images, in the order given; copies get the same row.

        Parameters
        ----------
        X: a list, array, Series or single column of paths; an `ImageSet`; or uint8 arrays
            (N, H, W[, C]).

        Raises
        ------
        FeatcacheError: X is none of these, or a parameter is wrong; `ImageFailure` names images
        that cannot be used: a row for each is promised, so none is left out.
        """
        images, rows = _asked(X)
        job = self._prepare()
        keys = _keys(images, job.settings.threads)
        cache = FeatureCache.open(self.cache)
        snapshots = cache.snapshots(job.targets[0].recipe)
        self.n_images_extracted_ = 0
        if lacking := _missing(keys, snapshots):
            # Processes of a parallel search wait here, and then find the rows of the first one.
            with _alone(cache.directory):
                added = _add(self._own(job, _some(images, lacking), cache))
            self.n_images_extracted_ = added.extracted
            snapshots.append(added.snapshot)
        return _read(np.array(keys, "S64")[rows], snapshots)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_n_features_out")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        tags.no_validation = True
        tags.input_tags.string = True
        tags.input_tags.two_d_array = False
        return tags

    def _prepare(self) -> Job:
        """The parameters as an extraction of nothing yet; sets the width of the vectors."""
        options = {name: each for name, each in self.get_params().items() if name != "cache_name"}
        with scratch_folder() as nowhere:
            # A cache of no account: to prepare a run claims the name of its data set.
            dot = np.zeros((1, 1, 1, 3), np.uint8)
            job = prepare(dot, **{**options, "cache": nowhere})
        self._n_features_out = int(np.prod(job.targets[0].tap.row_shape))
        return job

    def _own(self, job: Job, images: ImageSet, cache: FeatureCache) -> Job:
        """The job for some images, in the data set of the extractors."""
        (target,) = job.targets
        folder = claim_for_any(cache.directory, self.cache_name)
        place = cache.place(folder, target.recipe, target.network.name)
        return replace(job, images=images, targets=[replace(target, directory=place)], cache=cache)


def _asked(X: Any) -> tuple[ImageSet, np.ndarray]:
    """Different images, and which of them each row of X is."""
    if isinstance(X, ImageSet):
        return X, np.arange(len(X))
    if isinstance(X, str | os.PathLike):
        raise FeatcacheError(
            f"X is one path, {str(X)!r}: expected a list of paths, one a row; for a folder, give "
            f"featcache.find_images({str(X)!r})"
        )
    given = X if isinstance(X, list | tuple) else np.asarray(X)
    if len(given) and isinstance(given, np.ndarray) and given.dtype.kind in "OUS":
        given = _column(given)
    if not len(given) or not all(isinstance(each, str | os.PathLike) for each in given):
        # Arrays, or what find_images has a sentence for.
        return find_images(given), np.arange(len(given))
    paths = [os.path.abspath(expanded(each)) for each in given]  # noqa: PTH100
    images = find_images(sorted(set(paths)))
    places = {os.path.normpath(path): at for at, path in enumerate(_paths(images))}
    return images, np.array([places[path] for path in paths])


def _column(given: np.ndarray) -> list[Any]:
    """The entries of one column, as pandas and ColumnTransformer hand them over."""
    if given.ndim == 2 and given.shape[1] == 1:
        given = given[:, 0]
    if given.ndim != 1:
        raise FeatcacheError(f"X has the shape {given.shape}: expected one path a row")
    return [os.fsdecode(each) if isinstance(each, bytes) else each for each in given.tolist()]


def _paths(images: ImageSet) -> list[str]:
    return [os.path.join(str(images.root), path) for path in images.paths]  # noqa: PTH118


def _some(images: ImageSet, indices: list[int]) -> ImageSet:
    """Some images of a set."""
    if images.pages:
        return replace(
            images,
            names=[images.names[index] for index in indices],
            labels=[""] * len(indices),
            splits=[""] * len(indices),
            groups=[""] * len(indices),
            paths=[images.paths[index] for index in indices],
            pages=[images.pages[index] for index in indices],
        )
    contents = _paths(images) if images.arrays is None else images.arrays
    return find_images([contents[index] for index in indices])


def _add(job: Job) -> Added:
    """Add the rows of a job's images to its data set; raises `ImageFailure` where one has none."""
    added = grow(job)
    if added.failures:
        raise ImageFailure(
            f"{len(added.failures)} of {len(job.images)} new images cannot be used, and a "
            f"transformer must give a row for each: leave them out, or repair them:",
            [f"{each.path}: {each.message}" for each in added.failures[:5]],
        )
    return added


def _keys(images: ImageSet, threads: int) -> list[str]:
    """SHA-256 of every image; raises `ImageFailure` that names one that cannot be read."""

    def key(index: int) -> str:
        try:
            return images.read(index).key
        except BadImage as error:
            raise ImageFailure(f"{images.names[index]}: {error}") from error

    with ThreadPoolExecutor(max(1, threads)) as pool:
        return list(pool.map(key, range(len(images))))


def _missing(keys: list[str], snapshots: list[Snapshot]) -> list[int]:
    """The first image of each key that no row is known of, in order."""
    wanted, first = np.unique(np.array(keys, "S64"), return_index=True)
    lacking = np.ones(len(wanted), dtype=bool)
    for *_, places in found_in(snapshots, wanted, np.zeros(len(wanted), np.int32)):
        lacking[places] = False
    return sorted(first[lacking].tolist())


def _read(keys: np.ndarray, snapshots: list[Snapshot]) -> np.ndarray:
    """The rows of keys that are all known, (n, D) float32."""
    vectors: np.ndarray | None = None
    left = np.ones(len(keys), dtype=bool)
    for snapshot, positions, places in found_in(snapshots, keys, np.zeros(len(keys), np.int32)):
        rows = snapshot.read(positions).reshape(len(positions), -1)
        if vectors is None:
            vectors = np.empty((len(keys), rows.shape[1]), np.float32)
        vectors[places], left[places] = rows, False
    if vectors is None or left.any():
        raise FeatcacheError(
            f"{int(left.sum())} rows vanished from the cache while they were read: was it cleaned "
            f"meanwhile? Run it again"
        )
    return vectors


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Hold the lock of the extractors of a cache; it ends with the block or the process."""
    with writing(directory):
        make_folder(directory)
        with opened_folder(directory) as folder:
            held = lock(folder, ".extractor.lock")
    try:
        yield
    finally:
        os.close(held)


def grow(job: Job) -> Added:
    """Add the rows of a job's images to what its one target holds already.

    The rows are named by their keys: images from anywhere may share a path. Raises what
    `featcache.extraction.update.run` raises, but for images that cannot be used.
    """
    added = add(job)
    if _is_due(added.snapshot):
        _pack_all(job.targets[0], added.snapshot)
    return added


def _is_due(snapshot: Snapshot) -> bool:
    """Whether the parts are many, or hold as many rows as `features.h5`."""
    packed = 0 if snapshot.packed is None else len(snapshot.packed.vectors)
    parts = len(snapshot.files) - (snapshot.packed is not None)
    return len(snapshot) > 0 and (parts >= PARTS or len(snapshot) >= 2 * packed)


def _pack_all(target: Target, snapshot: Snapshot) -> None:
    if snapshot.probe is None:
        raise ValueError(f"{target.directory}: rows without a probe")
    keys, views = snapshot.keys_and_views()
    none = np.full(len(keys), -1, np.int32)
    identity = Identity(
        paths=[key.decode("ascii") for key in keys.tolist()],
        keys=keys,
        views=views,
        labels=none,
        classes=[],
        splits=none,
        split_names=[],
        groups=none,
        group_names=[],
        failures=snapshot.failures,
    )
    confirm(target.directory.parent, ANYWHERE)
    target.store.pack(identity, Stamp(merged(snapshot.provenances), snapshot.probe))
    note_weights(target.directory, target.network.weights_hint)
