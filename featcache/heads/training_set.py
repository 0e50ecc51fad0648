"""What a head learns from: rows of features, checked, with classes, weights and units."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from featcache.errors import FeatcacheError
from featcache.features.features import Features
from featcache.features.rows import rows_of
from featcache.features.splits.roles import Roles
from featcache.heads.model import blocks


@dataclass(frozen=True, eq=False)
class TrainingSet:
    """Labelled vectors, and what belongs together among them.

    Attributes
    ----------
    vectors: (n, D) array, memory map or `Rows`: index it with a slice or with row numbers.
    codes: (n,) int, each row's class, 0 to `classes` - 1.
    weights: (n,) float32, what each row counts, class weights included; None: all the same.
    units: (n,) int; rows of one image, of its copies and of its group share a number.
    images: (n,) int; rows of one image (its augmented views) share a number.
    validation: rows that may stop the training, None where there are none.
    say: called with a line of text now and then.
    plain: (n,) bool, the rows that are no augmented views; None: all. Only these may judge.
    """

    vectors: np.ndarray
    codes: np.ndarray
    classes: int
    weights: np.ndarray | None
    units: np.ndarray
    images: np.ndarray
    validation: TrainingSet | None = None
    seed: int = 0
    say: Callable[[str], None] = lambda line: None
    plain: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def width(self) -> int:
        return int(self.vectors.shape[1])

    def row_weights(self) -> np.ndarray:
        """(n,) float32: what each row counts, 1 where nothing else was said."""
        return np.ones(len(self), np.float32) if self.weights is None else self.weights

    def take(self, rows: np.ndarray) -> TrainingSet:
        """The training of some rows, without validation."""
        return replace(
            self,
            vectors=self.vectors[rows],
            codes=self.codes[rows],
            weights=None if self.weights is None else self.weights[rows],
            units=self.units[rows],
            images=self.images[rows],
            validation=None,
            plain=None if self.plain is None else self.plain[rows],
        )


def moments(training: TrainingSet) -> tuple[np.ndarray, np.ndarray]:
    """Weighted mean and deviation of each column, (D,) float64; a constant column deviates by 1."""
    total = training.row_weights().sum(dtype=np.float64)
    first = np.asarray(training.vectors[:1], np.float32)[0]
    sums, squares = np.zeros(training.width), np.zeros(training.width)
    for block in blocks(training.vectors):
        # Around the first row, so that the squares of large means do not cancel.
        shifted = np.asarray(training.vectors[block], np.float32) - first
        part = training.row_weights()[block]
        sums += part @ shifted
        squares += part @ np.square(shifted, out=shifted)
    mean = sums / total
    variance = squares / total - mean**2
    flat = variance <= 1e-12 * (squares / total + 1e-30)
    return mean + first, np.sqrt(np.where(flat, 1.0, variance))


def training_set_of(
    features: Features,
    roles: Roles,
    *,
    weights: np.ndarray | None = None,
    seed: int,
    say: Callable[[str], None] = lambda line: None,
) -> TrainingSet:
    """The rows that train, with those that stop the training, where there are any.

    `weights`: (R,) what each row of the features counts. Raises `FeatcacheError` where a vector is
    not finite, or no row counts.
    """
    classes = np.array(features[roles.train].classes)

    def part(mask: np.ndarray, validation: TrainingSet | None) -> TrainingSet:
        rows = features[mask]
        vectors = rows_of(features, mask)
        check_finite_rows(rows, vectors)
        return TrainingSet(
            vectors=vectors,
            codes=np.searchsorted(classes, rows.labels),
            classes=len(classes),
            weights=None if weights is None else weights[mask],
            units=np.unique(roles.unit[mask], return_inverse=True)[1],
            images=np.unique(rows.names, return_inverse=True)[1],
            validation=validation,
            seed=seed,
            say=say,
            plain=rows.views == 0,
        )

    training = part(roles.train, part(roles.stop, None) if roles.stop.any() else None)
    if not training.row_weights().any():
        raise FeatcacheError("sample_weight: every training row has the weight 0")
    return training


def check_finite_rows(rows: Features, vectors: np.ndarray) -> None:
    """Raises `FeatcacheError` that names the images of vectors that are not finite."""
    bad = np.concatenate([~np.isfinite(vectors[block]).all(axis=1) for block in blocks(vectors)])
    if bad.any():
        shown = ", ".join(repr(name) for name in rows.names[bad][:3].tolist())
        raise FeatcacheError(
            f"{rows.path}: {int(bad.sum())} vectors hold numbers that are not finite ({shown}...): "
            f"leave these images out, or extract again with --dtype float32"
        )
