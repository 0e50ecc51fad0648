"""Adapters: cached features in the worlds of scikit-learn and tf.data."""

from __future__ import annotations

import fcntl
import hashlib
import os
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import joblib
import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin

from featcache.api import extract, prepare
from featcache.cache import FeatureCache
from featcache.decode import BadImage
from featcache.errors import FeatcacheError, ImageFailure
from featcache.features import Features
from featcache.images import ImageSet, find_images
from featcache.recipe import Recipe
from featcache.store import Snapshot

if TYPE_CHECKING:
    import tensorflow


class FeatureExtractor(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """A scikit-learn transformer from images to the vectors of a frozen backbone, cached.

    ``make_pipeline(FeatureExtractor("vgg16"), LogisticRegression())`` in a grid search runs the
    network once an image: every later fit, fold and parameter is answered from the cache, rows
    that `featcache.extract` made under the same settings too.

    Parameters
    ----------
    backbone, layer, weights, pooling, size, resize, interpolation, bit_depth, precision, dtype,
    scale, trust_model, runtime, batch, threads: as in `featcache.extract`.
    cache: the cache folder; None: ``$FEATCACHE_DIR``, else ``./cache``.
    cache_name: rows that are new are kept in data sets whose names begin so.

    Attributes
    ----------
    n_images_extracted_: images that the last `transform` ran the network for.
    """

    def __init__(
        self,
        backbone: str = "efficientnet_lite0",
        *,
        layer: str = "",
        weights: str | None = None,
        pooling: str = "avg",
        size: int | tuple[int, int] | None = None,
        resize: str = "squash",
        interpolation: str = "area",
        bit_depth: str = "16",
        precision: str = "float32",
        dtype: str = "float32",
        scale: str | None = None,
        trust_model: bool = False,
        runtime: str = "auto",
        batch: int | None = None,
        threads: int | None = None,
        cache: str | Path | None = None,
        cache_name: str = "sklearn",
    ) -> None:
        self.backbone = backbone
        self.layer = layer
        self.weights = weights
        self.pooling = pooling
        self.size = size
        self.resize = resize
        self.interpolation = interpolation
        self.bit_depth = bit_depth
        self.precision = precision
        self.dtype = dtype
        self.scale = scale
        self.trust_model = trust_model
        self.runtime = runtime
        self.batch = batch
        self.threads = threads
        self.cache = cache
        self.cache_name = cache_name

    def fit(self, X: Any, y: Any = None) -> FeatureExtractor:
        """Check the parameters; nothing is learned, and no image is read."""
        _, self._n_features_out = _recipe_of(self._options())
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
        asked = _asked(X)
        recipe, self._n_features_out = _recipe_of(self._options())
        threads = joblib.cpu_count() if self.threads is None else self.threads
        keys = _keys(asked.images, threads)
        cache = FeatureCache.open(self.cache)
        self.n_images_extracted_ = 0
        if _missing(keys, _snapshots(cache, recipe)):
            # Processes of a parallel search wait here, and then find the rows of the first one.
            with _alone(cache.directory):
                lacking = _missing(keys, _snapshots(cache, recipe))
                self.n_images_extracted_ = self._extract(asked.images, lacking)
        wanted = np.array(keys, "S64")[asked.rows]
        return _read(wanted, _snapshots(cache, recipe))

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_n_features_out")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        tags.no_validation = True
        tags.input_tags.string = True
        tags.input_tags.two_d_array = False
        return tags

    def _options(self) -> dict[str, Any]:
        """The parameters as `featcache.extract` takes them."""
        return {name: each for name, each in self.get_params().items() if name != "cache_name"}

    def _extract(self, images: ImageSet, lacking: dict[str, int]) -> int:
        """Run the network for the images that have no row; gives how many they were."""
        if not lacking:
            return 0
        indices = sorted(lacking.values())
        # A data set of their own: the rows that are there already are not written again.
        digest = hashlib.sha256("".join(sorted(lacking)).encode("ascii")).hexdigest()[:8]
        contents = _contents(images, indices)
        found = extract(contents, name=f"{self.cache_name}-{digest}", **self._options())
        if found.failures:
            names = {failure.path: failure.message for failure in found.failures}
            shown = "".join(f"\n  {path}: {why}" for path, why in list(names.items())[:5])
            raise ImageFailure(
                f"{len(names)} of {len(images)} images cannot be used, and a transformer owes a "
                f"row for each: leave them out, or repair them:{shown}"
            )
        return int(found.run.extracted)


@dataclass(frozen=True, slots=True)
class _Asked:
    """Different images, and which of them each row of X is."""

    images: ImageSet
    rows: np.ndarray


def _asked(X: Any) -> _Asked:
    if isinstance(X, ImageSet):
        return _Asked(X, np.arange(len(X)))
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
        return _Asked(find_images(given), np.arange(len(given)))
    paths = [os.path.abspath(Path(each).expanduser()) for each in given]  # noqa: PTH100
    images = find_images(sorted(set(paths)))
    places = {os.path.normpath(path): at for at, path in enumerate(_paths(images))}
    return _Asked(images, np.array([places[path] for path in paths]))


def _column(given: np.ndarray) -> list[Any]:
    """The entries of one column, as pandas and ColumnTransformer hand them over."""
    if given.ndim == 2 and given.shape[1] == 1:
        given = given[:, 0]
    if given.ndim != 1:
        raise FeatcacheError(f"X has the shape {given.shape}: expected one path a row")
    return [os.fsdecode(each) if isinstance(each, bytes) else each for each in given.tolist()]


def _paths(images: ImageSet) -> list[str]:
    return [os.path.join(str(images.root), path) for path in images.paths]  # noqa: PTH118


def _contents(images: ImageSet, indices: list[int]) -> list[Any]:
    """Some images of a set as `extract` takes them: paths or arrays."""
    if images.arrays is not None:
        return [images.arrays[index] for index in indices]
    paths = _paths(images)
    return [paths[index] for index in indices]


def _recipe_of(options: dict[str, Any]) -> tuple[Recipe, int]:
    """The recipe that some options of `extract` make, and the numbers in its vectors."""
    with tempfile.TemporaryDirectory() as nowhere:
        # A cache of no account: to prepare a run claims the name of its data set.
        dot = np.zeros((1, 1, 1, 3), np.uint8)
        target = prepare(dot, **{**options, "cache": nowhere}).targets[0]
    return target.recipe, int(np.prod(target.tap.row_shape))


def _keys(images: ImageSet, threads: int) -> list[str]:
    """SHA-256 of every image; raises `ImageFailure` that names one that cannot be read."""

    def key(index: int) -> str:
        try:
            return images.read(index).key
        except BadImage as error:
            raise ImageFailure(f"{images.names[index]}: {error}") from error

    with ThreadPoolExecutor(max(1, threads)) as pool:
        return list(pool.map(key, range(len(images))))


def _snapshots(cache: FeatureCache, recipe: Recipe) -> list[Snapshot]:
    return [entry.store().snapshot() for entry in cache.of_recipe(recipe)]


def _find(keys: np.ndarray, snapshot: Snapshot) -> np.ndarray:
    """Position of the plain view of each key in a snapshot, -1 = none."""
    positions: np.ndarray = snapshot.find(keys, np.zeros(len(keys), np.int32))
    return positions


def _missing(keys: list[str], snapshots: list[Snapshot]) -> dict[str, int]:
    """The keys that no row is known of, each with the first image that has it."""
    first: dict[str, int] = {}
    for index, key in enumerate(keys):
        first.setdefault(key, index)
    wanted = np.array(list(first), "S64")
    lacking = np.ones(len(wanted), dtype=bool)
    for snapshot in snapshots:
        lacking &= _find(wanted, snapshot) < 0
    return {key.decode(): first[key.decode()] for key in wanted[lacking].tolist()}


def _read(keys: np.ndarray, snapshots: list[Snapshot]) -> np.ndarray:
    """The rows of keys that are all known, (n, D) float32."""
    vectors: np.ndarray | None = None
    left = np.ones(len(keys), dtype=bool)
    for snapshot in snapshots:
        asked = np.flatnonzero(left)
        positions = _find(keys[asked], snapshot)
        there = positions >= 0
        if there.any():
            rows = snapshot.read(positions[there]).reshape(int(there.sum()), -1)
            if vectors is None:
                vectors = np.empty((len(keys), rows.shape[1]), np.float32)
            vectors[asked[there]] = rows
            left[asked[there]] = False
    if vectors is None or left.any():
        raise FeatcacheError(
            f"{int(left.sum())} rows vanished from the cache while they were read: was it cleaned "
            f"meanwhile? Run it again"
        )
    return vectors


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Hold the lock of the extractors of a cache; it ends with the block or the process."""
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / ".extractor.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def to_tf_dataset(
    features: Features, batch_size: int = 32, *, shuffle: bool = False, seed: int = 0
) -> tensorflow.data.Dataset:
    """A ``tf.data.Dataset`` of (vectors, class numbers) in batches, read from the memory map.

    Parameters
    ----------
    features: unpooled maps keep their shape (H, W, C).
    batch_size: rows in a batch; the last one may have fewer.
    shuffle: another order in every epoch, which depends on `seed` and the epoch alone.

    Returns
    -------
    Dataset: float32 (batch, D) and int32 (batch,), a class's place in ``features.classes``, -1 = no
    label; vectors alone where no row has a label.
    """
    import tensorflow as tf

    if batch_size < 1:
        raise FeatcacheError(f"batch_size {batch_size}: expected a whole number of at least 1")
    if not len(features):
        raise FeatcacheError(f"{features.path}: there is no row to make a dataset of")
    maps, codes = features.maps, _codes(features)
    epochs = iter(range(2**62))

    def batches() -> Iterator[Any]:
        epoch = next(epochs)
        order = np.arange(len(maps))
        if shuffle:
            np.random.default_rng([seed, epoch]).shuffle(order)
        for start in range(0, len(order), batch_size):
            # Sorted inside the batch: the disk is read forwards.
            rows = np.sort(order[start : start + batch_size])
            vectors = np.asarray(maps[rows], np.float32)
            yield vectors if codes is None else (vectors, codes[rows])

    signature: Any = tf.TensorSpec((None, *maps.shape[1:]), tf.float32)
    if codes is not None:
        signature = (signature, tf.TensorSpec((None,), tf.int32))
    dataset = tf.data.Dataset.from_generator(batches, output_signature=signature)
    count = tf.data.experimental.assert_cardinality(-(-len(maps) // batch_size))
    return dataset.apply(count).prefetch(tf.data.AUTOTUNE)


def _codes(features: Features) -> np.ndarray | None:
    """(R,) int32 places in `features.classes`, -1 = no label; None where there are no labels."""
    classes = features.classes
    if not classes:
        return None
    codes = np.searchsorted(classes, features.labels)
    return np.where(features.labels == "", -1, codes).astype(np.int32)
