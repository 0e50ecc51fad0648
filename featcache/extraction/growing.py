"""Growing: a data set that is given images from anywhere, a few at a time, for ever.

What is new is saved as a part. Only now and then are the parts packed, so that an image costs the
same however many there were before.
"""

from __future__ import annotations

import numpy as np

from featcache.extraction.job import Job, Target
from featcache.extraction.provenance import merged
from featcache.extraction.update import Added, add
from featcache.features.cache import note_weights
from featcache.features.claims import ANYWHERE, confirm
from featcache.features.store import Identity, Snapshot, Stamp

#: Parts that lie beside `features.h5` at most: each is opened whenever rows are looked for.
PARTS = 64


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
