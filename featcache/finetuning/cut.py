"""The cut: below it everything is frozen and runs once, its activations are cached like features.

The choice weighs time against disk: of the cuts that spare about the most computing, the one with
the smallest rows, if they fit on the disk.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from featcache.errors import FeatcacheError, StorageFailure
from featcache.finetuning.cutting import Cut, list_cuts
from featcache.finetuning.freezing import Freeze
from featcache.finetuning.plan_ import FinetunePlan
from featcache.finetuning.start import Start

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

    @property
    def share(self) -> float:
        """The part of the network's multiply-adds that every epoch takes."""
        return 1 - self.cut.saved if self.cut else 1.0


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
    room = DISK_SHARE * start.job.bytes_free
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
            f"below {frozen.first!r} there is no place where one tensor holds all that goes on: "
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
