"""The result of a sweep."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from featcache.evaluation.report import Report
from featcache.features.features import Features
from featcache.fitting.sweeping.candidates import Candidate, NotFitted
from featcache.fitting.sweeping.learning_curve import Gain, Point
from featcache.fitting.sweeping.nested import Nested
from featcache.heads.head import Head


@dataclass(frozen=True, slots=True)
class Sweep:
    """What a sweep found.

    Attributes
    ----------
    candidates: in the order they were tried; `best` is the winner.
    not_fitted: the candidates that could not be fitted, each with the reason.
    head: the winner refitted on all training rows, saved at `head.path`.
    report: how good it is on rows that took no part in choosing it; `judged` are these rows.
    nested: the nested cross-validation, where there is one.
    learning_curve: accuracy of the winner with fewer training images, where it was asked for.
    gain: what the last doubling of the images brought it.
    protocol: how the candidates were compared, in words.
    """

    candidates: list[Candidate]
    best: Candidate
    head: Head
    report: Report
    judged: Features
    nested: Nested | None
    not_fitted: list[NotFitted] = field(default_factory=list)
    learning_curve: list[Point] = field(default_factory=list)
    gain: Gain | None = None
    protocol: str = ""
    remarks: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def equals(self) -> int:
        """The number of candidates with the accuracy of the best, itself counted."""
        return sum(each.accuracy == self.best.accuracy for each in self.candidates)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return {
            "candidates": [each.to_dict() for each in self.candidates],
            "not_fitted": [each.to_dict() for each in self.not_fitted],
            "best": self.best.to_dict(),
            "head": str(self.head.path),
            "accuracy": self.report.accuracy,
            "report": self.report.to_dict(),
            "nested": asdict(self.nested) if self.nested else None,
            "learning_curve": [asdict(each) for each in self.learning_curve],
            "gain": asdict(self.gain) if self.gain else None,
            "protocol": self.protocol,
            "remarks": self.remarks,
            "seconds": round(self.seconds, 3),
        }
