"""Evaluation: how good a head is, on rows it has not seen."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from featcache.errors import FeatcacheError
from featcache.evaluation import metrics
from featcache.evaluation.report import Breakdown, ClassScore, Part, Rejection, Report
from featcache.features.features import Features
from featcache.features.rows import Rows
from featcache.features.splits.partition import units
from featcache.heads.calibration import Calibration
from featcache.heads.head import Head
from featcache.images.layout import SPLITS

#: The k of the top-k accuracy where none is asked for and there are more classes than that.
TOP = 5


@dataclass(frozen=True, eq=False)
class Predicted:
    """Probabilities that were computed already, where `judge` would ask a head for them.

    Attributes
    ----------
    classes: the K class names, in the order of the probabilities.
    probabilities: (n, K), one row for each row that is judged.
    """

    classes: list[str]
    probabilities: np.ndarray

    def predict_proba(self, rows: Rows) -> np.ndarray:
        """Those of the rows, whichever they are."""
        if len(rows) != len(self.probabilities):
            raise ValueError(f"{len(self.probabilities)} probabilities for {len(rows)} rows")
        return self.probabilities


class Answers(NamedTuple):
    """What a head says of some images, one row each, and what is true of them."""

    rows: Rows
    probabilities: np.ndarray
    names: list[str]
    codes: np.ndarray

    @property
    def predicted(self) -> np.ndarray:
        """(n,) the code of the most likely class; the first of equals."""
        codes: np.ndarray = self.probabilities.argmax(axis=1)
        return codes

    @property
    def correct(self) -> np.ndarray:
        """(n,) whether the most likely class is the true one."""
        right: np.ndarray = self.predicted == self.codes
        return right

    @property
    def unit(self) -> np.ndarray:
        """(n,) rows that err together: of one group, or copies of one image."""
        return units(self.rows.keys, self.rows.groups)


def evaluate(
    head: Head,
    features: Features,
    *,
    split: str | None = None,
    average_views: bool = False,
    top: int | None = None,
    reject_below: float | None = None,
    by: str | None = None,
) -> Report:
    """Judge a head on labelled rows that it was not trained on.

    Parameters
    ----------
    split: "train", "validation" or "test"; by default the file's test split, else its validation
        split, else all labelled rows. Rows whose image took part in the head's training are left
        out of the last three and counted in `remarks`; only an explicit "train" keeps them.
    average_views: judge the mean of the probabilities of an image's augmented views, where the
        features have them (test-time augmentation); by default its plain row alone.
    top: the k of the top-k accuracy; by default 5 where there are more classes.
    reject_below: also say what is left where images with a lower best probability are given up.
    by: also say the accuracy for each value of a column: "group", or a name of metadata.

    Raises
    ------
    FeatcacheError: other features than the head's, no labels, no row is left, or a wrong option.
    """
    rows, protocol, remarks = unseen(head, features, split=split, average_views=average_views)
    return judge(
        head, rows, protocol=protocol, remarks=remarks, top=top, reject_below=reject_below, by=by
    )


def unseen(
    head: Head, features: Features, *, split: str | None = None, average_views: bool = False
) -> tuple[Features, str, list[str]]:
    """The rows that `evaluate` judges on, the sentence that says which they are, and remarks."""
    head.check_fits(features)
    chosen, which = _rows_of(features, split)
    labelled = chosen & (features.labels != "")
    if not average_views:
        labelled &= features.views == 0
    seen = labelled & np.isin(prefixes(features.keys), head.trained_on) & (split != "train")
    labelled &= ~seen
    left_out = _images(features, seen)
    # A head knows its images, but not which of them trained and which only stopped it.
    remarks = [f"{left_out:,} images that trained the head, stopped its training or set its "
               f"temperature are left out"] * bool(left_out)  # fmt: skip
    if split and head.metrics.get("chosen_on") == split:
        remarks.append(
            f"the head was chosen out of {head.metrics.get('candidates')} candidates by its "
            f"accuracy on these rows (the {split} split): the accuracy flatters it"
        )
    if not labelled.any():
        raise FeatcacheError(
            f"{features.path}: no labelled row to judge on ({'; '.join([which, *remarks])}). "
            f"{_advice(features)}"
        )
    rows = features[labelled]
    rows.check()
    protocol = f"accuracy on the {_images(features, labelled):,} {which}"
    if left_out:
        protocol += f" that took no part in training ({left_out:,} others did)"
    if average_views:
        protocol += f", mean of {int(rows.views.max()) + 1} views an image"
    return rows, protocol, remarks


def _images(features: Features, mask: np.ndarray) -> int:
    return len(set(features.names[mask].tolist()))


def _advice(features: Features) -> str:
    if not features.classes:
        return "Labels come from class folders (photos/cat/1.jpg) or a manifest's label column"
    return "Give features with a test split, or other images"


def judge(
    head: Head | Predicted,
    rows: Rows,
    *,
    protocol: str,
    remarks: list[str],
    top: int | None = None,
    reject_below: float | None = None,
    by: str | None = None,
) -> Report:
    """The report of a head on exactly these rows; those of one image are averaged."""
    top = _checked_top(top, len(head.classes))
    if reject_below is not None and not 0 <= reject_below <= 1:
        raise FeatcacheError(
            f"--reject-below {reject_below:g}: expected a probability, such as 0.8"
        )
    answers = answers_of(head, rows)
    classes = [*head.classes, *sorted(set(answers.rows.classes) - set(head.classes))]
    order = np.argsort(classes, kind="stable")
    figures = _probability_figures(answers, top)
    return Report(
        **_accuracy(answers),
        **_class_figures(answers, classes, order),
        **figures,
        calibration=_calibration(head, rows, figures),
        rows=len(answers.rows),
        rejection=None if reject_below is None else _reject(answers, reject_below),
        protocol=protocol,
        remarks=[*remarks, *_class_remarks(answers, head.classes)],
        breakdown=None if by is None else _breakdown(answers, by),
    )


def answers_of(head: Head | Predicted, rows: Rows) -> Answers:
    """What the head says of the rows, the views of an image averaged; labels as codes."""
    rows, probabilities = _of_images(rows, _probabilities(head, rows))
    place = {name: position for position, name in enumerate(head.classes)}
    codes = np.array([place.get(label, -1) for label in rows.labels.tolist()])
    return Answers(rows, probabilities, head.classes, codes)


def _probabilities(head: Head | Predicted, rows: Rows) -> np.ndarray:
    if isinstance(head, Predicted):
        return head.predict_proba(rows)
    if not isinstance(rows, Features):
        raise TypeError("a head needs vectors: give features, or what it predicted of the rows")
    return head.predict_proba(rows)


def prefixes(keys: np.ndarray) -> np.ndarray:
    """The first 64 bits of hex keys, (n,) uint64: enough to recognise an image."""
    return np.array([int(key[:16], 16) for key in keys.tolist()], dtype=np.uint64)


def _of_images(rows: Rows, probabilities: np.ndarray) -> tuple[Rows, np.ndarray]:
    """One row an image: its first one, and the mean probabilities of all of its views."""
    if not rows.views.any():
        return rows, probabilities
    _, first, image = np.unique(rows.names, return_index=True, return_inverse=True)
    mean = np.zeros((len(first), probabilities.shape[1]))
    np.add.at(mean, image, probabilities)
    return rows[first], mean / np.bincount(image)[:, np.newaxis]


def _accuracy(answers: Answers) -> dict[str, Any]:
    """Accuracy, its interval, and the accuracy of always naming the most frequent class."""
    correct, unit = answers.correct, answers.unit
    method = "Wilson score, 95 %"
    if len(np.unique(unit)) < len(unit):
        method += "; images of a group or with the same bytes count as far as they differ"
    names, counts = np.unique(answers.rows.labels, return_counts=True)
    return {
        "accuracy": float(correct.mean()),
        "interval": metrics.accuracy_interval(correct, unit),
        "interval_method": method,
        "baseline": float(counts.max() / len(unit)),
        "baseline_class": str(names[counts.argmax()]),
    }


def _class_figures(answers: Answers, classes: list[str], order: np.ndarray) -> dict[str, Any]:
    """Confusion, scores of each class and their means, with the classes in the order given."""
    place = {name: position for position, name in enumerate(classes)}
    true = np.array([place[label] for label in answers.rows.labels.tolist()])
    confusion = metrics.confusion_of(true, answers.predicted, len(classes))[np.ix_(order, order)]
    precision, recall, f1 = metrics.class_scores(confusion)
    support = confusion.sum(axis=1)
    there = support > 0
    names = [classes[position] for position in order]
    return {
        "classes": names,
        "confusion": confusion.tolist(),
        "per_class": [
            ClassScore(name, float(p), float(r), float(f), int(s))
            for name, p, r, f, s in zip(names, precision, recall, f1, support, strict=True)
        ],
        "balanced_accuracy": float(recall[there].mean()),
        "macro_precision": float(precision[there].mean()),
        "macro_recall": float(recall[there].mean()),
        "macro_f1": float(f1[there].mean()),
    }


def _probability_figures(answers: Answers, top: int) -> dict[str, Any]:
    probabilities, codes = answers.probabilities, answers.codes
    bins = metrics.reliability(probabilities.max(axis=1), answers.correct)
    within = top < probabilities.shape[1]
    return {
        "log_loss": metrics.log_loss(probabilities, codes),
        "top": top,
        "top_accuracy": (
            float((metrics.places(probabilities, codes) < top).mean()) if within else None
        ),
        "roc_auc": metrics.roc_auc(probabilities, codes),
        "calibration_error": metrics.calibration_error(bins),
        "reliability": bins,
    }


def _calibration(head: Head | Predicted, rows: Rows, after: dict[str, Any]) -> Calibration | None:
    """The figures after calibration, beside those of the same head without its temperature."""
    if isinstance(head, Predicted) or head.temperature == 1:
        return None
    plain = replace(head, temperature=1.0)
    before = _probability_figures(answers_of(plain, rows), after["top"])
    return Calibration(
        temperature=head.temperature,
        log_loss=(before["log_loss"], after["log_loss"]),
        calibration_error=(before["calibration_error"], after["calibration_error"]),
    )


def _breakdown(answers: Answers, by: str) -> Breakdown:
    """The accuracy on the images with each value of a column, the worst first."""
    if by == "group":
        column = answers.rows.groups
    elif isinstance(answers.rows, Features):
        column = answers.rows.metadata[by]
    else:
        raise FeatcacheError(f"--by {by}: expected group")
    parts = []
    for name in np.unique(column).tolist():
        correct, unit = answers.correct[column == name], answers.unit[column == name]
        interval = metrics.accuracy_interval(correct, unit)
        parts.append(Part(name, float(correct.mean()), interval, len(correct)))
    return Breakdown(by, sorted(parts, key=lambda part: part.accuracy))


def _reject(answers: Answers, below: float) -> Rejection:
    kept = answers.probabilities.max(axis=1) >= below
    if not kept.any():
        return Rejection(below, 0.0, 0, None, None)
    correct = answers.correct[kept]
    return Rejection(
        below=below,
        coverage=float(kept.mean()),
        kept=int(kept.sum()),
        accuracy=float(correct.mean()),
        interval=metrics.accuracy_interval(correct, answers.unit[kept]),
    )


def _class_remarks(answers: Answers, known: list[str]) -> list[str]:
    """Classes that only the rows have, and classes that only the head has."""
    remarks = []
    if unknown := sorted(set(answers.rows.classes) - set(known)):
        count = int((answers.codes < 0).sum())
        remarks.append(
            f"{count} images belong to classes the head has never seen ({', '.join(unknown[:5])}): "
            f"they count as wrong"
        )
    if absent := sorted(set(known) - set(answers.rows.classes)):
        remarks.append(
            f"{len(absent)} of the head's {len(known)} classes have no image among the judged rows "
            f"({', '.join(absent[:5])}): the accuracy says nothing about them; "
            f"put some of their images into the test split"
        )
    return remarks


def _checked_top(top: int | None, classes: int) -> int:
    if top is not None and not 1 <= top < classes:
        raise FeatcacheError(
            f"--top {top}: the head knows {classes} classes: expected 1 to {classes - 1}"
        )
    return TOP if top is None else top


def _rows_of(features: Features, split: str | None) -> tuple[np.ndarray, str]:
    """The rows to judge on, as a mask, and the words that say which they are."""
    there = set(features.splits.tolist())
    if split is None:
        split = next((name for name in ("test", "validation") if name in there), None)
        if split is None:
            return np.ones(len(features), dtype=bool), "labelled images"
    elif split not in SPLITS or split not in there:
        listed = ", ".join(sorted(there - {""})) or "none"
        raise FeatcacheError(f"--split {split!r}: these features have the splits: {listed}")
    return features.splits == split, f"images of the file's {split} split"
