"""Comparison: two heads on the very same images, which neither was trained on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from featcache.errors import FeatcacheError
from featcache.evaluation import metrics
from featcache.evaluation.evaluate import Answers, answers_of, unseen
from featcache.evaluation.report import plain_data
from featcache.features.features import Features
from featcache.heads.head import Head


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two heads on the same `rows` images.

    Attributes
    ----------
    accuracy, other_accuracy: of the first head and of the one it is compared with.
    difference: the first less the second, with its 95 % `interval` (`interval_method` says which).
    only_first, only_other: images that one of the two alone names right.
    p_value: exact two-sided McNemar test; None where images belong together in groups, because
        it takes them for independent.
    """

    rows: int
    accuracy: float
    other_accuracy: float
    difference: float
    interval: metrics.Interval
    interval_method: str
    only_first: int
    only_other: int
    p_value: float | None
    remarks: list[str]

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as JSON gives it back: lists for tuples."""
        return plain_data(self)


def compare(
    head: Head,
    features: Features,
    other: Head,
    *,
    other_features: Features | None = None,
    split: str | None = None,
    average_views: bool = False,
) -> Comparison:
    """Compare two heads on the images that both can be judged on, by name and bytes.

    `other_features` are those of the other head, where it was fitted on other vectors of the same
    images. Raises `FeatcacheError` where no image is left that neither head was trained on, or
    where the two files give an image two labels.
    """
    theirs = features if other_features is None else other_features
    first = _answers(head, features, split, average_views)
    second = _answers(other, theirs, split, average_views)
    place = {image: row for row, image in enumerate(_images(second))}
    pairs = [(row, place[image]) for row, image in enumerate(_images(first)) if image in place]
    if not pairs:
        raise FeatcacheError(
            "--against: there is no image that both heads can be judged on: each was trained on "
            "what the other was not, or the features are of other images"
        )
    mine, other_rows = np.array(pairs).T
    _check_labels(first, second, mine, other_rows)
    return _compared(first, mine, second.correct[other_rows])


def _answers(head: Head, features: Features, split: str | None, average_views: bool) -> Answers:
    return answers_of(head, unseen(head, features, split=split, average_views=average_views)[0])


def _images(answers: Answers) -> list[tuple[str, str]]:
    return list(zip(answers.rows.names.tolist(), answers.rows.keys.tolist(), strict=True))


def _check_labels(first: Answers, second: Answers, mine: np.ndarray, theirs: np.ndarray) -> None:
    differ = np.flatnonzero(first.rows.labels[mine] != second.rows.labels[theirs])
    if len(differ):
        raise FeatcacheError(
            f"--against: the two feature files give {len(differ)} images different labels "
            f"({first.rows.names[mine[differ[0]]]}...): run the older `featcache extract` again, "
            f"which takes over new labels without extracting"
        )


def _compared(answers: Answers, shared: np.ndarray, second: np.ndarray) -> Comparison:
    """The comparison on the rows `shared` of the first head's answers."""
    first, unit = answers.correct[shared], answers.unit[shared]
    left_out = len(answers.correct) - len(shared)
    return Comparison(
        rows=len(shared),
        accuracy=float(first.mean()),
        other_accuracy=float(second.mean()),
        difference=float(first.mean() - second.mean()),
        interval=metrics.paired_interval(first, second, unit),
        interval_method="Wald with Bonett and Price's adjustment, paired, 95 %",
        only_first=int((first & ~second).sum()),
        only_other=int((second & ~first).sum()),
        p_value=metrics.mcnemar(first, second) if len(np.unique(unit)) == len(unit) else None,
        remarks=[f"{left_out} images that only the first head has not seen are left out"]
        if left_out
        else [],
    )
