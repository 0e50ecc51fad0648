"""Album: pictures of some judged images, with what a head calls them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from featcache.errors import BadImage
from featcache.features.cache import images_root
from featcache.features.features import Features
from featcache.features.splits.partition import uniform
from featcache.files.small_files import read_small
from featcache.heads.head import Head
from featcache.images.decoder import decode
from featcache.images.file_bytes import MAX_BYTES
from featcache.images.pages import PageOf, page_key, split_page

#: Pixels of a picture's side; images are padded to squares.
SIDE = 160
#: Pictures in an album.
PICTURES = 9


@dataclass(frozen=True, slots=True)
class Album:
    """Pictures (SIDE, SIDE, 3), one each: the class a head names, its probability, the true one.

    `remark` says why pictures are missing, "" where none is.
    """

    pictures: list[np.ndarray] = field(default_factory=list)
    predicted: list[str] = field(default_factory=list)
    probabilities: list[float] = field(default_factory=list)
    true: list[str] = field(default_factory=list)
    remark: str = ""


def album_of(head: Head, rows: Features) -> Album:
    """Nine of some rows, chosen by image hash alone, as far as their files still are as they were.

    A file counts as found where its bytes have the hash that the features say.
    """
    root = images_root(rows.path.parent)
    if not root:
        return Album(remark="there is no folder of images known to these features")
    plain = np.flatnonzero(rows.views == 0)
    places = np.array([uniform(str(key), "album") for key in rows.keys[plain]])
    rows = rows[plain[np.argsort(places, kind="stable")[:PICTURES]]]
    pictures = [_picture(rows, row, root) for row in range(len(rows))]
    found = np.flatnonzero([picture is not None for picture in pictures])
    remark = ""
    if len(found) < len(rows):
        remark = (
            f"{len(rows) - len(found)} of {len(rows)} images are not in {root} as they were when "
            f"their features were extracted"
        )
    if not len(found):
        return Album(remark=remark)
    probabilities = head.predict_proba(rows[found])
    return Album(
        pictures=[picture for picture in pictures if picture is not None],
        predicted=[head.classes[code] for code in probabilities.argmax(axis=1)],
        probabilities=probabilities.max(axis=1).tolist(),
        true=rows.labels[found].tolist(),
        remark=remark,
    )


def _picture(rows: Features, row: int, root: str) -> np.ndarray | None:
    """The whole image as the network's decoder reads it; None where its file is not there."""
    name, page = split_page(str(rows.names[row]))
    path = Path(root, name)
    try:
        raw = read_small(path, MAX_BYTES)
    except (OSError, ValueError):
        return None
    digest = hashlib.sha256(raw).hexdigest()
    if (digest if page is None else page_key(digest, page)) != rows.keys[row]:
        return None
    decoding = replace(rows.recipe.decoding, size=(SIDE, SIDE), resize="pad", crop=1.0)
    try:
        return decode(raw if page is None else PageOf(raw, page), decoding).pixels
    except BadImage:
        return None  # it was decoded once, with other limits or versions: no picture, said above
