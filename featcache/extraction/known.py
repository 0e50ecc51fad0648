"""Known: rows that exist already, here and elsewhere in the cache, and the versions that made them.

Those are recorded in the file, not in the key, as canonical JSON without times: two runs of the
same software on the same machine write the same text.
"""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import numpy as np

from featcache.extraction.pipeline import FinishedRows
from featcache.extraction.reading import Outcome
from featcache.features.cache import FeatureCache
from featcache.features.store.recipe_store import RecipeStore
from featcache.features.store.records import Failure, Stamp
from featcache.features.store.snapshot import Snapshot, found_in
from featcache.images.decoder import Content, decoder_versions
from featcache.images.earlier import reads_as_before
from featcache.recipe import Recipe
from featcache.runtimes.proof import Proven
from featcache.runtimes.rounding import check_probe

#: Failures that depend on the run (memory, --max-pixels), not on the bytes: tried again each time.
PASSING = frozenset({"out-of-memory", "too-many-pixels", "too-many-scans"})

#: The largest error on the probe against live Keras, which computes in float32.
_PARITY = "probe_error_against_keras"
#: The error of live Keras itself on the probe: what counts as rounding follows from it.
_ROUNDING = "rounding_of_keras"


@dataclass(slots=True)
class Known:
    """What needs no network.

    Attributes
    ----------
    own: the rows of this data set.
    siblings: those of other data sets under the same recipe.
    plain: those of any data set under the recipe without augmentation, which has the same view 0.
    earlier, earlier_plain: the like that earlier reading rules made; they answer for images alone
        whose pixels are still the same.
    changed: keys of images that earlier rows are there of, and must not answer for.
    taken_over: how many earlier rows were borrowed.
    failures: by key, images that these very decoders could not decode.
    """

    own: Snapshot
    siblings: list[Snapshot]
    plain: list[Snapshot]
    failures: dict[str, Failure] = field(default_factory=dict)
    earlier: list[Snapshot] = field(default_factory=list)
    earlier_plain: list[Snapshot] = field(default_factory=list)
    changed: set[str] = field(default_factory=set)
    taken_over: int = 0

    @classmethod
    def of(cls, store: RecipeStore, cache: FeatureCache, recipe: Recipe) -> Known:
        """A look at everything the cache has under a recipe."""
        own, here = store.snapshot(), store.packed_path.parent
        current = decoder_versions()
        failures = {
            failure.key: failure
            for failure in own.failures
            if failure.key and failure.decoder == current and failure.code not in PASSING
        }
        plain = cache.snapshots(recipe.plain) if recipe.augment else []
        return cls(
            own,
            cache.snapshots(recipe, but=here),
            plain,
            failures,
            earlier=[found for each in recipe.earlier for found in cache.snapshots(each)],
            earlier_plain=[
                found
                for each in (recipe.plain.earlier if recipe.augment else [])
                for found in cache.snapshots(each)
            ],
        )

    @property
    def others(self) -> list[Snapshot]:
        """All snapshots but this data set's, earlier rules' last."""
        return [*self.siblings, *self.plain, *self.earlier, *self.earlier_plain]

    def missing(self, key: str, views: Sequence[int], content: Callable[[], Content]) -> list[int]:
        """The views of these bytes that no row is known of. Called from many threads.

        `content` gives the image, which is asked for only where an earlier row is there.
        """
        if key in self.failures:
            return []
        left = np.asarray(views, np.int32)
        left = self._unknown(key, left, [self.own, *self.siblings], self.plain)
        if len(left) and (self.earlier or self.earlier_plain) and key not in self.changed:
            still = self._unknown(key, left, self.earlier, self.earlier_plain)
            if len(still) < len(left) and reads_as_before(content()):
                left = still
            elif len(still) < len(left):
                self.changed.add(key)
        missing: list[int] = left.tolist()
        return missing

    @staticmethod
    def _unknown(
        key: str, views: np.ndarray, snapshots: list[Snapshot], plain: list[Snapshot]
    ) -> np.ndarray:
        """Those of some views of an image that no snapshot has a row of."""
        keys, is_known = np.full(len(views), key.encode(), "S64"), np.zeros(len(views), bool)
        for *_, places in found_in(snapshots, keys, views, plain=plain):
            is_known[places] = True
        return views[~is_known]

    def _elsewhere(
        self, keys: np.ndarray, views: np.ndarray
    ) -> Iterator[tuple[Snapshot, np.ndarray, np.ndarray]]:
        """As `found_in`, in other files: today's, then those of earlier rules that may answer."""
        left = np.array([key.decode() not in self.changed for key in keys.tolist()], bool)
        for snapshot, positions, places in found_in(self.siblings, keys, views, plain=self.plain):
            left[places] = False
            yield snapshot, positions, places
        asked = np.flatnonzero(left)
        for snapshot, positions, places in found_in(
            self.earlier, keys[asked], views[asked], plain=self.earlier_plain
        ):
            self.taken_over += len(places)
            yield snapshot, positions, asked[places]

    def has_all(self, keys: np.ndarray, counts: np.ndarray) -> np.ndarray:
        """Which of some keys (n,) 'S64' have all their views in this data set, or are known to
        fail. `counts` (n,) are the numbers of their views.
        """
        complete = np.ones(len(keys), dtype=bool)
        for view in range(int(counts.max(initial=1))):
            asked = np.flatnonzero(counts > view)
            there = self.own.find(keys[asked], np.full(len(asked), view, np.int32)) >= 0
            complete[asked] &= there
        if self.failures:
            complete |= np.array([key.decode() in self.failures for key in keys], dtype=bool)
        return complete

    def stored_stamp(self) -> Stamp | None:
        """Provenance and probe of rows that exist, here first."""
        for snapshot in (self.own, *self.others):
            if snapshot.probe is not None:
                return Stamp(merged(snapshot.provenances), snapshot.probe)
        return None

    def stamp(self, proven: Proven, tap: int, precision: str) -> Stamp:
        """The stamp for new rows of a tap: the stored probe, once the runtime has reproduced it.

        Raises `FeatcacheError` that names what changed where it has not.
        """
        provenance, probe = provenance_of(proven, tap), proven.probes[tap]
        stored = self.stored_stamp()
        if stored is None:
            return Stamp(provenance, probe)
        changes = version_changes(stored.provenance, provenance)
        roundings = [proven.roundings[tap], *roundings_of(stored.provenance)]
        check_probe(probe, stored.probe, changes, roundings=roundings, precision=precision)
        return Stamp(provenance, stored.probe)

    def reuse(self, outcomes: list[Outcome], views: list[int]) -> FinishedRows:
        """Those of some rows that this data set lacks and others of the cache have."""
        keys = np.array([outcome.key.encode() for outcome in outcomes], "S64")
        wanted = np.array(views, np.int32)
        lacking = np.flatnonzero(self.own.find(keys, wanted) < 0)
        others = self._elsewhere(keys[lacking], wanted[lacking])
        taken: list[int] = []
        vectors = []
        for snapshot, positions, places in others:
            vectors.append(snapshot.read(positions))
            sizes = snapshot.source_sizes(positions).tolist()
            for place, (height, width) in zip(lacking[places].tolist(), sizes, strict=True):
                outcomes[place].source_size = (height, width)
                taken.append(place)
        return FinishedRows(
            vectors=np.concatenate(vectors) if vectors else np.zeros((0, 0), np.float32),
            outcomes=[outcomes[place] for place in taken],
            views=[views[place] for place in taken],
        )


def provenance_of(proven: Proven | None, tap: int = 0) -> str:
    """The versions in use, and how well the runtime agreed with live Keras on a tap."""
    versions = {
        "featcache": version("featcache"),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "h5py": version("h5py"),
        "decoders": decoder_versions(),
        "machine": platform.machine(),
    }
    if proven is not None:
        runtime = proven.runtime
        versions |= {**proven.versions, "runtime": runtime.name, "device": runtime.device}
        # Two digits: a last-bit difference between two runs must not make two files differ.
        versions[_PARITY] = f"{proven.parities[tap]:.1e}"
        versions[_ROUNDING] = f"{proven.roundings[tap]:.1e}"
    return json.dumps(versions, sort_keys=True)


def merged(provenances: list[str]) -> str:
    """One provenance for a file whose rows may come from several."""
    records = [record for text in provenances for record in _records(text)]
    texts = sorted({json.dumps(record, sort_keys=True) for record in records})
    if len(texts) == 1:
        return texts[0]
    return json.dumps({"mixed": [json.loads(text) for text in texts]}, sort_keys=True)


def roundings_of(provenance: str) -> list[float]:
    """The roundings of the network that a file's provenance tells; none in older files."""
    return [rounding for each in _records(provenance) if (rounding := _number(each)) is not None]


def _number(record: dict[str, Any]) -> float | None:
    """The rounding that a record tells, None where it is no number that can be one."""
    try:
        found = float(record[_ROUNDING])
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    return found if 0 <= found < math.inf else None


def version_changes(stored: str, current: str) -> str:
    """What differs between a stored provenance and the current one, in words."""
    now = _records(current)[0]
    changes = {
        f"{name} {then[name]} -> {now[name]}"
        for then in _records(stored)
        for name in set(now) & set(then)
        if now[name] != then[name] and name not in (_PARITY, _ROUNDING)
    }
    return f"changed since: {', '.join(sorted(changes))}" if changes else "no version changed"


def _records(text: str) -> list[dict[str, Any]]:
    record: dict[str, Any] = json.loads(text)
    records: list[dict[str, Any]] = record.get("mixed", [record])
    return records
