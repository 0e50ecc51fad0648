"""Report: how good a head is on some rows, as plain data."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from featcache.evaluation import metrics
from featcache.heads.calibration import Calibration


@dataclass(frozen=True, slots=True)
class ClassScore:
    """Figures of one class: precision, recall, F1, and the number of its images."""

    name: str
    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True, slots=True)
class Rejection:
    """What is left where images are given up whose best probability is below `below`.

    `coverage` is the share of images that is kept; `accuracy` that of the kept ones, with its
    95 % interval, both None where none is kept.
    """

    below: float
    coverage: float
    kept: int
    accuracy: float | None
    interval: metrics.Interval | None


@dataclass(frozen=True, slots=True)
class Part:
    """How the images of one group, or with one value of metadata, fared."""

    name: str
    accuracy: float
    interval: metrics.Interval
    rows: int


@dataclass(frozen=True, slots=True)
class Breakdown:
    """The accuracy by the values of a column ("site"), the worst first; "" = none."""

    by: str
    parts: list[Part]


@dataclass(frozen=True, slots=True)
class Report:
    """How good a head is on some rows.

    `confusion[i][j]` counts images of class i that were called class j, in the order of
    `classes`. `baseline` is the accuracy of always naming `baseline_class`, the most frequent one.

    Attributes
    ----------
    interval: 95 % interval of the accuracy; `interval_method` says which.
    balanced_accuracy, macro_precision, macro_recall, macro_f1: means over the classes that have
        images among the rows (balanced accuracy is the mean recall, as in scikit-learn).
    top, top_accuracy: share of images whose class is among the `top` most likely; None where there
        are no more classes than that.
    roc_auc: of the second class of two, else the mean of each class against the rest; None where
        only one class has rows.
    calibration_error: expected calibration error over 15 bins of equal width.
    reliability: those bins as (mean confidence, accuracy, images), empty ones left out.
    rejection: what rejecting unsure images would give, where it was asked for.
    breakdown: the accuracy by the values of a column, where it was asked for.
    calibration: what the head's temperature changes on these rows; None where it has none.
    """

    accuracy: float
    interval: metrics.Interval
    interval_method: str
    baseline: float
    baseline_class: str
    rows: int
    classes: list[str]
    confusion: list[list[int]]
    per_class: list[ClassScore]
    balanced_accuracy: float
    macro_precision: float
    macro_recall: float
    macro_f1: float
    log_loss: float
    top: int
    top_accuracy: float | None
    roc_auc: float | None
    calibration_error: float
    reliability: list[metrics.Bin]
    rejection: Rejection | None
    calibration: Calibration | None
    protocol: str
    remarks: list[str]
    breakdown: Breakdown | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as JSON gives it back: lists for tuples."""
        return plain_data(self)


def plain_data(record: Any) -> dict[str, Any]:
    """A dataclass as JSON gives it back: lists for tuples. Raises `ValueError` for NaN."""
    plain: dict[str, Any] = json.loads(json.dumps(asdict(record), allow_nan=False))
    return plain
