"""Found: the labelled images that can be used, read once, and feeds of some of them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from featcache.errors import BadImage, ImageFailure
from featcache.features.rows import Labelled
from featcache.fitting.plan import BaselinePlan
from featcache.heads.logistic.table import balanced_weights
from featcache.images import ImageSet
from featcache.images.threads import read_ahead
from featcache.recipe import Decoding
from featcache.training import Pictures, PixelFeed


@dataclass(frozen=True, eq=False)
class Found:
    """The labelled images that can be used: who they are, and their numbers in the set."""

    images: ImageSet
    rows: Labelled
    indices: np.ndarray
    pictures: Pictures
    failures: list[tuple[str, str]] = field(default_factory=list)

    @classmethod
    def look(cls, images: ImageSet, plan: BaselinePlan) -> Found:
        """Read, hash and decode every labelled image once."""
        labelled = [index for index, label in enumerate(images.labels) if label]
        decoding = Decoding(plan.size)
        pictures = Pictures.of(images, decoding, count=len(labelled), max_pixels=plan.max_pixels)

        def key_of(index: int) -> tuple[str, str]:
            try:
                return pictures[index].key, ""
            except BadImage as bad:
                return "", bad.message

        keys = list(read_ahead(key_of, labelled, plan.threads, 64))
        failures = [
            (images.names[index], why)
            for index, (_, why) in zip(labelled, keys, strict=True)
            if why
        ]
        if failures and len(failures) == len(labelled):
            raise ImageFailure(
                f"not one of {len(failures)} images could be used: {failures[0][0]}: "
                f"{failures[0][1]}"
            )
        usable = np.array([i for i, (key, _) in zip(labelled, keys, strict=True) if key], int)
        rows = Labelled.of(images, usable, np.array([key for key, _ in keys if key], dtype=str))
        if plan.carve:
            splits = plan.carve.apply(
                rows.splits, rows.keys, labels=rows.labels, groups=rows.groups
            )
            rows = replace(rows, splits=splits)
        return cls(images, rows, usable, pictures, failures)

    def feed(
        self, mask: np.ndarray, classes: list[str], plan: BaselinePlan, *, trains: bool = False
    ) -> PixelFeed:
        """The images under a mask as a feed; a class that is not among `classes` has code 0.

        Where it `trains`, images vary and count as the plan says.
        """
        place = {name: number for number, name in enumerate(classes)}
        labels = self.rows.labels[mask].tolist()
        codes = np.array([place.get(label, 0) for label in labels], np.int32)
        weights = balanced_weights(np.bincount(codes, minlength=len(classes)))
        return PixelFeed(
            images=self.images,
            indices=self.indices[mask],
            codes=codes,
            weights=weights[codes] if trains and plan.class_weight == "balanced" else None,
            decoding=self.pictures.decoding,
            options=plan.options,
            augmentation=plan.augmentation if trains else None,
            threads=plan.threads,
            max_pixels=plan.max_pixels,
            pictures=self.pictures,
        )
