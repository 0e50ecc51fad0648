"""Evaluation: how good a head is, on rows it has not seen."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from featcache.errors import FeatcacheError
from featcache.features import Features
from featcache.heads import Head
from featcache.splits import SPLITS


@dataclass(frozen=True, slots=True)
class ClassScore:
    """How one class fared: precision, recall, F1, and the number of images that belong to it."""

    name: str
    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True, slots=True)
class Report:
    """How good a head is on some rows.

    `confusion[i][j]` counts images of class i that were called class j, in the order of
    `classes`. `baseline` is the accuracy of always naming `baseline_class`, the most frequent one.
    """

    accuracy: float
    baseline: float
    baseline_class: str
    rows: int
    classes: list[str]
    confusion: list[list[int]]
    per_class: list[ClassScore]
    log_loss: float
    protocol: str
    remarks: list[str]

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return asdict(self)


def evaluate(
    head: Head, features: Features, *, split: str | None = None, average_views: bool = False
) -> Report:
    """Judge a head on labelled rows that it was not trained on.

    Parameters
    ----------
    split: "train", "validation" or "test"; by default the file's test split, else its validation
        split, else all labelled rows. Rows whose image the head was trained on are left out of
        the last three and counted in `remarks`; only an explicit "train" keeps them.
    average_views: judge the mean of the probabilities of an image's augmented views, where the
        features have them (test-time augmentation); by default its plain row alone.

    Raises
    ------
    FeatcacheError: other features than the head's, no labels, or no row is left.
    """
    head.check_fits(features)
    chosen, protocol = _rows_of(features, split)
    labelled = chosen & (features.labels != "")
    if not average_views:
        labelled &= features.views == 0
    remarks = []
    if split != "train":
        seen = np.isin(prefixes(features.keys), head.trained_on)
        if (labelled & seen).any():
            remarks.append(
                f"{int((labelled & seen).sum())} images the head was trained on are left out"
            )
        labelled &= ~seen
    if not labelled.any():
        raise FeatcacheError(
            f"{features.path}: no labelled row to judge on ({protocol}; {'; '.join(remarks)}). "
            f"Give features with a test split, or other images"
        )
    rows = features[labelled]
    rows.check()
    if average_views:
        protocol += f", mean of {int(rows.views.max()) + 1} views an image"
    return judge(head, rows, protocol=protocol, remarks=remarks)


def judge(head: Head, rows: Features, *, protocol: str, remarks: list[str]) -> Report:
    """The report of a head on exactly these rows; those of one image are averaged."""
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    rows, probabilities = _of_images(rows, head.predict_proba(rows))
    predicted = np.array(head.classes)[probabilities.argmax(axis=1)]
    classes = sorted(set(head.classes) | set(rows.classes))
    unknown = sorted(set(rows.classes) - set(head.classes))
    if unknown:
        count = int(np.isin(rows.labels, unknown).sum())
        remarks = [
            *remarks,
            f"{count} images belong to classes the head has never seen ({', '.join(unknown[:5])}): "
            f"they count as wrong",
        ]
    scores = precision_recall_fscore_support(
        rows.labels, predicted, labels=classes, zero_division=0.0
    )
    counts = {name: int((rows.labels == name).sum()) for name in classes}
    frequent = max(counts, key=lambda name: counts[name])
    return Report(
        accuracy=float((predicted == rows.labels).mean()),
        baseline=counts[frequent] / len(rows),
        baseline_class=frequent,
        rows=len(rows),
        classes=classes,
        confusion=confusion_matrix(rows.labels, predicted, labels=classes).tolist(),
        per_class=[
            ClassScore(name, float(p), float(r), float(f), int(s))
            for name, p, r, f, s in zip(classes, *scores, strict=True)
        ],
        log_loss=_log_loss(head, rows, probabilities),
        protocol=protocol,
        remarks=remarks,
    )


def _of_images(rows: Features, probabilities: np.ndarray) -> tuple[Features, np.ndarray]:
    """One row an image: its first one, and the mean probabilities of all of its views."""
    if not rows.views.any():
        return rows, probabilities
    _, first, image = np.unique(rows.names, return_index=True, return_inverse=True)
    mean = np.zeros((len(first), probabilities.shape[1]))
    np.add.at(mean, image, probabilities)
    return rows[first], mean / np.bincount(image)[:, np.newaxis]


def prefixes(keys: np.ndarray) -> np.ndarray:
    """The first 64 bits of hex keys, (n,) uint64: enough to recognise an image."""
    return np.array([int(key[:16], 16) for key in keys.tolist()], dtype=np.uint64)


def _rows_of(features: Features, split: str | None) -> tuple[np.ndarray, str]:
    """The rows to judge on, as a mask, and the sentence that says which they are."""
    there = set(features.splits.tolist())
    if split is None:
        split = next((name for name in ("test", "validation") if name in there), None)
        if split is None:
            return np.ones(len(features), dtype=bool), "all labelled rows"
    elif split not in SPLITS or split not in there:
        listed = ", ".join(sorted(there - {""})) or "none"
        raise FeatcacheError(f"--split {split!r}: these features have the splits: {listed}")
    return features.splits == split, f"the file's {split} split"


def _log_loss(head: Head, rows: Features, probabilities: np.ndarray) -> float:
    """Mean negative log probability of the true class; an unseen class counts as the floor."""
    place = {name: position for position, name in enumerate(head.classes)}
    codes = np.array([place.get(label, -1) for label in rows.labels.tolist()])
    true = np.where(codes >= 0, probabilities[np.arange(len(rows)), codes], 0.0)
    return float(-np.log(np.clip(true.astype(np.float64), 1e-15, 1.0)).mean())
