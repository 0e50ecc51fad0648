"""Features without a network: small images, and a row for each that tells its class."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from PIL import Image

from featcache.features.cache import FeatureCache
from featcache.features.store.recipe_store import RecipeStore
from featcache.features.store.records import Block, Identity, Stamp
from featcache.images import find_images
from featcache.recipe import Decoding, Recipe, Scaling

RECIPE = Recipe(
    backbone="efficientnet_lite0", weights="0" * 64, decoding=Decoding((32, 32)), scaling=Scaling()
)
WIDTH = 6
#: Bytes of a row.
ROW = 4 * WIDTH


def make_images(root: Path, count: int = 24) -> Path:
    """PNG files in two class folders, all different."""
    random = np.random.default_rng(2)
    for number in range(count):
        path = root / ("cat", "dog")[number % 2] / f"{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(path)
    return root


def make_features(root: Path, cache: Path, *, packed: bool = True) -> Path:
    """The folder of the features of some images: `features.h5`, or two parts of a killed run.

    No two rows look alike; every fourth image of a class tests.
    """
    images = find_images(root)
    count = len(images)
    keys = np.array([hashlib.sha256((root / name).read_bytes()).hexdigest().encode()
                     for name in images.names], "S64")  # fmt: skip
    labels = np.array([images.classes.index(label) for label in images.labels], np.int32)
    random = np.random.default_rng(5)
    vectors = random.standard_normal((count, WIDTH)).astype("<f4")
    vectors[:, 0] += 4 * labels
    folder, _ = FeatureCache.open(cache).claim(images, None)
    store = RecipeStore(FeatureCache.place(folder, RECIPE, "lite0"), RECIPE.to_json())
    stamp = Stamp('{"numpy": "2"}', np.ones((8, WIDTH), np.float32))
    views = np.zeros(count, np.int32)
    sizes = np.full((count, 2), 8, np.int32)
    for rows in np.array_split(np.arange(count), 2):
        names = [images.names[row] for row in rows]
        block = Block(vectors[rows], keys[rows], views[rows], names, sizes[rows], [])
        store.commit(block, stamp)
    if packed:
        splits = (np.arange(count) % 4 == 0).astype(np.int32)
        none = np.full(count, -1, np.int32)
        store.pack(Identity(
            images.names, keys, views, labels, images.classes, splits, ["train", "test"],
            none, [], [],
        ), stamp)  # fmt: skip
    return store.packed_path.parent


def damage(path: Path, offset: int, *, bit: int = 0) -> None:
    """Flip one bit; a negative offset counts from the end."""
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.seek(offset, 0 if offset >= 0 else 2)
        byte = file.read(1)[0]
        file.seek(-1, 1)
        file.write(bytes([byte ^ 1 << bit]))
