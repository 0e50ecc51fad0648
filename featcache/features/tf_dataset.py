"""Rows and class numbers as a `tf.data.Dataset`, read from the memory map batch by batch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from featcache.errors import FeatcacheError, at_least

if TYPE_CHECKING:
    import tensorflow


def tf_dataset(
    maps: np.ndarray,
    codes: np.ndarray | None,
    batch_size: int,
    *,
    shuffle: bool,
    seed: int,
) -> tensorflow.data.Dataset:
    """Batches of float32 rows, with their (R,) int32 codes where there are any.

    Shuffled, an epoch's order depends on `seed` and the number of the epoch alone.

    Raises `FeatcacheError` for a batch size below 1, or no row.
    """
    import tensorflow as tf

    at_least("batch_size", batch_size, 1)
    if not len(maps):
        raise FeatcacheError("there is no row to make a dataset of: choose other rows")
    epochs = iter(range(2**62))

    def batches() -> Iterator[Any]:
        order = np.arange(len(maps))
        epoch = next(epochs)
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
