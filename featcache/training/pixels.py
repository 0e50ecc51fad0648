"""PixelFeed: batches of decoded images, a new augmented view of each in every epoch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice

import numpy as np

from featcache.errors import BadImage, ImageFailure
from featcache.images import ImageSet
from featcache.images.augment import Augmentation, view
from featcache.images.decoder import MAX_PIXELS, decode
from featcache.images.threads import read_ahead
from featcache.recipe import Decoding
from featcache.training.feeds import Order, TrainingBatch, in_batches
from featcache.training.options import LearningOptions

#: Plain pixels of a feed up to this size are kept in memory, so that they are decoded once.
KEPT_BYTES = 1 * 2**30
#: Batches decoded ahead of the network.
AHEAD = 3


@dataclass(frozen=True, eq=False)
class Picture:
    """The plain pixels of an image, and the SHA-256 of its file's bytes, in hex."""

    pixels: np.ndarray
    key: str


@dataclass(frozen=True, eq=False, kw_only=True)
class Pictures:
    """The images of a set decoded in one way, kept in memory where `is_kept`. Safe in threads."""

    images: ImageSet
    decoding: Decoding
    max_pixels: int = MAX_PIXELS
    is_kept: bool = False
    _kept: dict[int, Picture] = field(default_factory=dict, repr=False)

    @classmethod
    def of(
        cls, images: ImageSet, decoding: Decoding, *, count: int, max_pixels: int = MAX_PIXELS
    ) -> Pictures:
        """Pictures that are kept if `count` of them fit in memory."""
        one = 3 * decoding.size[0] * decoding.size[1] * np.dtype(decoding.pixel_type).itemsize
        is_kept = count * one <= KEPT_BYTES
        return cls(images=images, decoding=decoding, max_pixels=max_pixels, is_kept=is_kept)

    def __getitem__(self, index: int) -> Picture:
        """The picture of an image; raises `BadImage` where it cannot be used."""
        if index in self._kept:
            return self._kept[index]
        read = self.images.read(index)
        decoded = decode(read.content, self.decoding, max_pixels=self.max_pixels)
        picture = Picture(decoded.pixels, read.key)
        if self.is_kept:
            self._kept[index] = picture
        return picture


@dataclass(frozen=True, eq=False, kw_only=True)
class PixelFeed:
    """Images as a feed: decoded in threads, ahead of the network.

    Attributes
    ----------
    pictures: the decoded images of a set, which several feeds may share.
    indices: (n,) int, which images of the set.
    codes: (n,) int, the class of each.
    weights: (n,) float32, what each counts in training; None: all the same.
    augmentation: in epoch e an image is seen as its view e + 1, the same that `extract --views`
        caches under that number; None: as it is, in every epoch.
    """

    pictures: Pictures
    indices: np.ndarray
    codes: np.ndarray
    weights: np.ndarray | None
    options: LearningOptions
    augmentation: Augmentation | None = None
    threads: int = 2

    def __len__(self) -> int:
        return len(self.indices)

    def epoch(self, number: int) -> Iterator[TrainingBatch]:
        """The batches of an epoch: shuffled, each image as the view of that epoch.

        Raises `ImageFailure` that names an image which cannot be used any more.
        """
        order = self._order.epoch(number, self.options.images_per_epoch)
        return self._batches(order, number + 1 if self.augmentation else 0)

    def plain(self) -> Iterator[TrainingBatch]:
        """Every image once, in order, as it is; raises as `epoch` does."""
        return self._batches(np.arange(len(self)), 0)

    @cached_property
    def _order(self) -> Order:
        return Order.of(np.arange(len(self)), self.options.seed)

    def _batches(self, places: np.ndarray, number: int) -> Iterator[TrainingBatch]:
        ahead = self.options.batch_size * AHEAD + self.threads
        seen = read_ahead(
            lambda place: self._seen(place, number), places.tolist(), self.threads, ahead
        )
        for piece in in_batches(places, self.options.batch_size):
            inputs = np.stack(list(islice(seen, len(piece))))
            yield TrainingBatch.of(inputs, piece, self.codes, self.weights)

    def _seen(self, place: int, number: int) -> np.ndarray:
        """The pixels of an image as a view of it; 0 is the image as it is."""
        index, images = int(self.indices[place]), self.pictures.images
        try:
            picture = self.pictures[index]
        except BadImage as bad:
            raise ImageFailure(
                f"{images.names[index]}: {bad.message}. It could be used before: put it back, "
                f"or take it out of the images, and run again"
            ) from bad
        if self.augmentation is None:
            return picture.pixels
        return view(
            picture.pixels,
            self.augmentation,
            key=picture.key,
            seed=self.options.seed,
            number=number,
        )
