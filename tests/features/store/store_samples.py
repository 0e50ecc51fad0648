"""Small blocks and identities for the tests of the store: image `i` has one key and one vector."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from featcache.features.store.recipe_store import RecipeStore
from featcache.features.store.records import Block, Failure, Identity, Stamp

RECIPE = json.dumps({"backbone": "tiny", "pipeline": 1}, separators=(",", ":"))
OTHER_RECIPE = json.dumps({"backbone": "other", "pipeline": 1}, separators=(",", ":"))
STAMP = Stamp(json.dumps({"numpy": "2"}), np.arange(40, dtype=np.float32).reshape(8, 5))
CLASSES = ["cat", "gefräßiger Hund", "鳥"]


def key(image: int) -> bytes:
    """SHA-256 in hex, as of the bytes of an image file."""
    return hashlib.sha256(str(image).encode()).hexdigest().encode()


def keys(images: Iterable[int]) -> np.ndarray:
    return np.array([key(image) for image in images], "S64")


def views(images: Iterable[int]) -> np.ndarray:
    return np.zeros(len(list(images)), np.int32)


def name(image: int) -> str:
    return f"Größe/{image:04d}-ü.jpg"


def vectors(images: Iterable[int], *, shape: tuple[int, ...] = (5,), dtype: str = "float32"):
    """The one right vector of each image."""
    images = list(images)
    rows = [np.random.default_rng(image).standard_normal(shape) for image in images]
    return np.array(rows, dtype).reshape(len(images), *shape)


def sizes(images: Iterable[int]) -> np.ndarray:
    return np.array([[image + 10, image + 20] for image in images], np.int32).reshape(-1, 2)


def failure(image: int) -> Failure:
    return Failure(name(image), key(image).decode(), "truncated", "cut at 3 kB", "pillow 13")


def block(
    images: Iterable[int],
    *,
    failed: Iterable[int] = (),
    shape: tuple[int, ...] = (5,),
    dtype: str = "float32",
) -> Block:
    images = list(images)
    return Block(
        vectors=vectors(images, shape=shape, dtype=dtype),
        keys=keys(images),
        views=views(images),
        paths=[name(image) for image in images],
        source_sizes=sizes(images),
        failures=[failure(image) for image in failed],
    )


def identity(images: Iterable[int], *, failed: Iterable[int] = ()) -> Identity:
    images = list(images)
    codes = np.array([image % 3 for image in images], np.int32)
    return Identity(
        paths=[name(image) for image in images],
        keys=keys(images),
        views=views(images),
        labels=codes,
        classes=CLASSES,
        splits=codes % 2,
        split_names=["test", "train"],
        groups=np.full(len(images), -1, np.int32),
        group_names=[],
        failures=[failure(image) for image in failed],
    )


def store(folder: Path) -> RecipeStore:
    return RecipeStore(folder / "cache" / "photos" / "tiny-12345678", RECIPE)


def packed(folder: Path, images: Iterable[int] = range(6), **options) -> Path:
    """A `features.h5` of some images."""
    images = list(images)
    made = store(folder)
    made.commit(block(images, **options), STAMP)
    return made.pack(identity(images), STAMP).path
