"""The cut: below it everything is frozen and runs once, its activations are cached like features.

The choice weighs time against disk: of the cuts that spare about the most computing, the one with
the smallest rows, if they fit on the disk. What is fed: pixels into the whole network, or cached
rows into its part above the cut.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from featcache.errors import FeatcacheError, StorageFailure
from featcache.features.features import Features
from featcache.features.rows import LazyRows
from featcache.finetuning.freezing import Cut, Freeze, list_cuts
from featcache.finetuning.plan import FinetunePlan
from featcache.finetuning.start import Start
from featcache.heads.logistic.table import balanced_weights
from featcache.training.feeds import Feed, RowFeed
from featcache.training.pixels import Pictures, PixelFeed

#: Cuts that spare less than the best one by no more than this are as good.
AS_GOOD = 0.02
#: Below this share of the computing, reading rows is not worth its disk.
WORTH = 0.1
#: The share of the free disk that activations may take.
DISK_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class CutChoice:
    """Where the network is cut (None: nowhere), and why."""

    cut: Cut | None
    reason: str


def choose_cut(base: object, frozen: Freeze, start: Start, plan: FinetunePlan) -> CutChoice:
    """The cut of a fine-tuning; raises `FeatcacheError` where one is asked for and cannot be."""
    if plan.from_cut == "no":
        return CutChoice(None, "the whole network runs in every epoch: --from-cut no")
    if plan.augment:
        return CutChoice(
            None,
            "the whole network runs in every epoch: new views change what is below every cut "
            "(cached ones, --views 8, would not)",
        )
    cuts = list_cuts(base, below=frozen.learning)
    room = DISK_SHARE * start.draft.job.bytes_free
    fitting = [cut for cut in cuts if row_bytes(cut, start, plan) <= room]
    reason = _why_none(cuts, fitting, frozen)
    must = plan.from_cut == "yes" or bool(start.features.views.any())
    if reason and must:
        raise (StorageFailure if cuts and not fitting else FeatcacheError)(
            f"--from-cut {plan.from_cut}: {reason}"
        )
    if not fitting or (reason and not must):
        return CutChoice(None, f"the whole network runs in every epoch: {reason}")
    best = max(cut.saved for cut in fitting)
    cut = min(
        (cut for cut in fitting if cut.saved >= best - AS_GOOD),
        key=lambda cut: (cut.numbers, -cut.saved),
    )
    return CutChoice(cut, _words(cut, start, plan))


def check_cut(base: object, frozen: Freeze, plan: FinetunePlan, *, cached_views: bool) -> None:
    """Raises `FeatcacheError` where a cut is needed and the network has none."""
    if plan.from_cut == "no" or plan.augment or not (plan.from_cut == "yes" or cached_views):
        return
    cuts = list_cuts(base, below=frozen.learning)
    if reason := _why_none(cuts, cuts, frozen):
        raise FeatcacheError(f"--from-cut {plan.from_cut}: {reason}")


def same_cut(base: object, layer: str | None) -> CutChoice:
    """The cut of a run that was interrupted, by its layer; None: it had none."""
    if layer is None:
        return CutChoice(None, "the whole network runs in every epoch, as before the interruption")
    (cut,) = [cut for cut in list_cuts(base) if cut.layer == layer]
    return CutChoice(cut, f"cut at {layer}, as before the interruption")


def row_bytes(cut: Cut, start: Start, plan: FinetunePlan) -> int:
    """Bytes of the activations of all rows at a cut."""
    return cut.numbers * np.dtype(plan.cut_dtype).itemsize * len(start.features)


def _why_none(cuts: list[Cut], fitting: list[Cut], frozen: Freeze) -> str:
    """Why no cut will do, "" where one does."""
    if frozen.is_everything:
        return "every layer learns, so nothing below them could be cached"
    if not cuts:
        return (
            f"below {frozen.first!r} there is no place where one tensor carries everything: "
            f"unfreeze from a later or an earlier block"
        )
    if not fitting:
        return (
            "the activations at every cut would take more than half of the free disk: free some, "
            "or name a cache on another one with --cache"
        )
    if max(cut.saved for cut in fitting) < WORTH:
        return f"only {max(cut.saved for cut in fitting):.0%} of the computing lies below a cut"
    return ""


def _words(cut: Cut, start: Start, plan: FinetunePlan) -> str:
    size = row_bytes(cut, start, plan)
    sides = "x".join(map(str, cut.shape))
    return (
        f"cut at {cut.layer} ({sides}): {cut.saved:.0%} of the network's multiply-adds lie below "
        f"it and run once; {len(start.features):,} rows of {plan.cut_dtype}, {size / 1e6:,.1f} MB"
    )


@dataclass(frozen=True, eq=False)
class Feeds:
    """What trains, and what chooses the best epoch (None: nothing could be held back)."""

    train: Feed
    validation: Feed | None


def feeds_of_rows(start: Start, activations: Features, plan: FinetunePlan) -> Feeds:
    """From the activations at a cut, which are rows of the same images (and views)."""

    def feed(mask: np.ndarray) -> RowFeed:
        rows = start.features[mask]
        same = _same_rows(rows, activations)
        return RowFeed(
            vectors=LazyRows(activations.vectors_of(same), same),
            codes=start.codes(rows),
            weights=_weights(start, rows, plan),
            images=np.unique(rows.names, return_inverse=True)[1],
            options=plan.learning,
        )

    roles = start.roles
    return Feeds(feed(roles.train), feed(roles.stop) if roles.stop.any() else None)


def feeds_of_pixels(start: Start, plan: FinetunePlan) -> Feeds:
    """From the images themselves; with `plan.augment`, another view in every epoch."""
    job = start.draft.job
    pictures = Pictures.of(
        job.images,
        start.features.recipe.decoding,
        count=int((start.roles.train | start.roles.stop).sum()),
        max_pixels=job.settings.max_pixels,
    )
    place = {name: index for index, name in enumerate(job.images.names)}

    def feed(mask: np.ndarray, augmented: bool = False) -> PixelFeed:
        rows = start.features[mask]
        return PixelFeed(
            pictures=pictures,
            indices=np.array([place[name] for name in rows.names.tolist()]),
            codes=start.codes(rows),
            weights=_weights(start, rows, plan),
            options=plan.learning,
            augmentation=plan.augmentation if augmented else None,
            threads=job.settings.threads,
        )

    roles = start.roles
    return Feeds(feed(roles.train, True), feed(roles.stop) if roles.stop.any() else None)


def _weights(start: Start, rows: Features, plan: FinetunePlan) -> np.ndarray | None:
    """With "balanced", each class's images together count the same (as in scikit-learn)."""
    if plan.class_weight == "none":
        return None
    trained = start.codes(start.features[start.roles.train])
    counts = np.bincount(trained, minlength=len(start.head.classes))
    balanced: np.ndarray = balanced_weights(counts)[start.codes(rows)].astype(np.float32)
    return balanced


def _same_rows(rows: Features, activations: Features) -> np.ndarray:
    """Where the same images and views stand in the activations."""

    def identities(of: Features) -> Iterable[tuple[str, int, str]]:
        return zip(of.names.tolist(), of.views.tolist(), of.keys.tolist(), strict=True)

    there = {each: number for number, each in enumerate(identities(activations))}
    found = [there.get(each, -1) for each in identities(rows)]
    if -1 in found:
        name = rows.names[found.index(-1)]
        raise FeatcacheError(
            f"{name}: there are no activations of it at the cut, or the file changed meanwhile. "
            f"Numbers too large for float16 are a reason: try --cut-dtype float32, or run again"
        )
    return np.array(found, dtype=np.int64)
