"""Pack: gather the rows of all files into one `features.h5`, in the order that was asked for.

The steps are ordered so that at every moment each row is in some durable file: first the rows that
were not asked for are kept in a part of their own, then `features.h5` is replaced, and only then do
the parts that went into it lose their names.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from featcache.errors import FeatcacheError
from featcache.features.store.columns import (
    decode,
    encode,
    failure_columns,
    identity_columns,
    stamp_columns,
)
from featcache.features.store.disk import storage_errors
from featcache.features.store.index import name_parts, row_names
from featcache.features.store.layout import BLOCK, Extent
from featcache.features.store.packed_file import PackedFile, open_packed
from featcache.features.store.place import LEFT, Place
from featcache.features.store.records import Array, Identity, Stamp
from featcache.features.store.skeleton import Skeleton, build_skeleton
from featcache.features.store.snapshot import Snapshot, take_snapshot
from featcache.features.store.stored_file import row_blocks, row_size
from featcache.features.store.writing import write_file


def pack(place: Place, identity: Identity, *, stamp: Stamp) -> PackedFile:
    """Write `features.h5` anew, unless it is right already, and drop the parts that are in it."""
    snapshot = take_snapshot(place)
    positions = _positions(snapshot, identity)
    columns = identity_columns(identity) | stamp_columns(stamp, place.recipe)
    skeleton = _skeleton(snapshot, positions, columns=columns, kind="features")
    left = _left_positions(snapshot, identity)
    left_skeleton = _left_skeleton(snapshot, left, stamp=stamp) if len(left) else None
    if _is_done(snapshot, skeleton, left=left_skeleton):
        with storage_errors(place.folder):  # who wrote it may have died before its name was safe
            place.disk.sync_folder(place.parts)
            place.disk.sync_folder(place.folder)
        return open_packed(place.packed, place.disk)
    if left_skeleton:
        _keep_left(snapshot, left, skeleton=left_skeleton)
    if any(problem.path == place.packed for problem in snapshot.problems):
        with storage_errors(place.packed):  # kept for whoever wants to look at it
            place.put_aside(place.packed)
    write_file(place.disk, place.packed, skeleton=skeleton, rows=_rows(snapshot, positions))
    _drop_parts(snapshot, left_skeleton)
    return open_packed(place.packed, place.disk)


def _positions(snapshot: Snapshot, identity: Identity) -> Array:
    positions = snapshot.find(identity.keys, identity.views)
    missing = np.flatnonzero(positions < 0)
    if len(missing):
        shown = ", ".join(repr(identity.paths[row]) for row in missing[:5])
        raise FeatcacheError(
            f"{len(missing)} of {len(positions)} rows are not in {snapshot.place.folder} "
            f"({shown}): run `featcache extract` to compute them"
        )
    return positions


def _left_positions(snapshot: Snapshot, identity: Identity) -> Array:
    """Positions of the rows that were not asked for, by key and view."""
    index = snapshot.index
    asked = np.isin(index.distinct, row_names(identity.keys, identity.views))
    return index.chosen[~asked]


def _skeleton(
    snapshot: Snapshot, positions: Array, *, columns: dict[str, Array], kind: str
) -> Skeleton:
    columns["row_crc32"] = snapshot.index.checksums[positions]
    columns["source_size"] = snapshot.index.sizes[positions]
    if snapshot.row_shape is None or snapshot.dtype is None:
        width = max(1, columns["probe"].shape[1])
        rows = Extent("<f4", (len(positions), width), 0)
    else:
        rows = Extent(snapshot.dtype.str, (len(positions), *snapshot.row_shape), 0)
    return build_skeleton(kind, columns, rows=rows)


def _left_skeleton(snapshot: Snapshot, positions: Array, *, stamp: Stamp) -> Skeleton:
    keys, views = name_parts(snapshot.index.names[positions])
    columns = {
        "path": encode(decode(snapshot.paths(positions)), "path"),
        "key": keys,
        "view": views,
        **failure_columns([]),
        **stamp_columns(stamp, snapshot.place.recipe),
    }
    return _skeleton(snapshot, positions, columns=columns, kind="part")


def _keep_left(snapshot: Snapshot, positions: Array, *, skeleton: Skeleton) -> None:
    place = snapshot.place
    target = place.parts / _left_name(skeleton)
    sources = [snapshot.files[number].path for number, _ in snapshot.index.by_file(positions)]
    if sources == [target]:  # all of them are there already
        with storage_errors(target):
            place.disk.sync_folder(place.parts)
    else:
        write_file(place.disk, target, skeleton=skeleton, rows=_rows(snapshot, positions))


def _left_name(skeleton: Skeleton) -> str:
    return f"{LEFT}{skeleton.name}.h5"


def _is_done(snapshot: Snapshot, skeleton: Skeleton, *, left: Skeleton | None) -> bool:
    """Are the files that this pack would leave exactly the valid ones that are there?"""
    have = {file.path.name: file.header for file in snapshot.files}
    want = {"features.h5": skeleton}
    if left:
        want[_left_name(left)] = left
    return have == {name: each.head[:BLOCK] for name, each in want.items()}


def _rows(snapshot: Snapshot, positions: Array) -> Iterator[Array]:
    """The rows in order, a block at a time, each checked on the way."""
    if snapshot.files:
        size = row_size(snapshot.files[0].layout.features)
        for block in row_blocks(len(positions), size):
            yield snapshot.read(positions[block])


def _drop_parts(snapshot: Snapshot, left: Skeleton | None) -> None:
    """Delete the parts whose every row is in a newer file by now."""
    place = snapshot.place
    kept = {place.packed} | ({place.parts / _left_name(left)} if left else set())
    with storage_errors(place.parts):
        for file in snapshot.files:
            if file.path not in kept:
                place.disk.unlink(file.path)
        place.disk.sync_folder(place.parts)
