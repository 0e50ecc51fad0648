"""Metrics: figures of merit from probabilities and true classes, as plain numpy.

Codes are positions in the head's classes; -1 is a class that the head has never seen.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

#: The two-sided 95 % quantile of the normal distribution.
Z = 1.959963984540054

#: Bins of the calibration error, equal in width (Guo et al. 2017, "On Calibration of Modern Neural
#: Networks"; Naeini et al. 2015).
BINS = 15

Interval = tuple[float, float]


class Bin(NamedTuple):
    """Images of about one confidence: their mean confidence, accuracy and number."""

    confidence: float
    accuracy: float
    images: int


def wilson(share: float, rows: float) -> Interval:
    """Wilson's (1927) 95 % score interval of a share seen in `rows` independent rows."""
    if rows <= 0:
        return 0.0, 1.0
    centre = share + Z * Z / (2 * rows)
    reach = Z * np.sqrt(share * (1 - share) / rows + Z * Z / (4 * rows * rows))
    total = 1 + Z * Z / rows
    low, high = float((centre - reach) / total), float((centre + reach) / total)
    # Exact at the ends: rounding must not exclude the share itself, nor include less than none.
    return max(min(low, share), 0.0), min(max(high, share), 1.0)


def effective_rows(values: np.ndarray, unit: np.ndarray) -> float:
    """How many independent rows tell as much about the mean of `values` as these rows do.

    Rows of one unit (a group, copies of an image) err together: their number is divided by the
    design effect (Kish 1965), the variance of the mean over units to that over rows.
    """
    _, unit = np.unique(unit, return_inverse=True)
    units, rows = int(unit.max()) + 1, len(values)
    if units == rows:
        return float(rows)
    deviation = values - values.mean()
    spread = float((deviation**2).sum())
    if units == 1 or spread == 0:
        return float(units)
    together = float((np.bincount(unit, weights=deviation) ** 2).sum()) * units / (units - 1)
    return float(np.clip(rows * spread / max(together, 1e-300), 1.0, rows))


def accuracy_interval(correct: np.ndarray, unit: np.ndarray) -> Interval:
    """Wilson's 95 % interval of the accuracy, rows of one unit counted as far as they differ."""
    values = correct.astype(np.float64)
    return wilson(float(values.mean()), effective_rows(values, unit))


def paired_interval(first: np.ndarray, second: np.ndarray, unit: np.ndarray) -> Interval:
    """The 95 % interval of the mean of `first` less that of `second`, truths about the same rows.

    Wald's interval with one more row in each cell of discordant rows (Bonett and Price 2012),
    which Fagerland, Lydersen and Laake (2014) recommend: it holds for few rows, and is not empty
    where the two never differ.
    """
    difference = first.astype(np.float64) - second.astype(np.float64)
    rows = effective_rows(difference, unit)
    better = (float((difference > 0).mean()) * rows + 1) / (rows + 2)
    worse = (float((difference < 0).mean()) * rows + 1) / (rows + 2)
    centre = better - worse
    reach = Z * np.sqrt((better + worse - centre**2) / (rows + 2))
    return max(float(centre - reach), -1.0), min(float(centre + reach), 1.0)


def mcnemar(first: np.ndarray, second: np.ndarray) -> float:
    """The exact two-sided p-value that two heads are equally often right (McNemar 1947)."""
    from scipy.stats import binomtest

    better, worse = int((first & ~second).sum()), int((second & ~first).sum())
    return float(binomtest(better, better + worse).pvalue) if better + worse else 1.0


def confusion_of(true: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """(K, K) counts: rows are true codes, columns predicted ones."""
    counts = np.bincount(true * classes + predicted, minlength=classes * classes)
    return counts.reshape(classes, classes)


def class_scores(confusion: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Precision, recall and F1 of each class; 0 where nothing was called or is of the class."""
    right = np.diag(confusion).astype(np.float64)
    called, support = confusion.sum(axis=0), confusion.sum(axis=1)
    precision = right / np.maximum(called, 1)
    recall = right / np.maximum(support, 1)
    return precision, recall, 2 * right / np.maximum(called + support, 1)


def places(probabilities: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """How many classes stand before the true one; K for a class the head has never seen.

    Of equal probabilities the first class stands first, as in predictions.
    """
    rows, classes = probabilities.shape
    true = probabilities[np.arange(rows), codes][:, np.newaxis]
    earlier = np.arange(classes) < codes[:, np.newaxis]
    before = (probabilities > true) | ((probabilities == true) & earlier)
    found: np.ndarray = np.where(codes >= 0, before.sum(axis=1), classes)
    return found


def log_loss(probabilities: np.ndarray, codes: np.ndarray) -> float:
    """Mean negative log probability of the true class; an unseen class counts as the floor."""
    true = np.where(codes >= 0, probabilities[np.arange(len(codes)), codes], 0.0)
    return float(-np.log(np.clip(true.astype(np.float64), 1e-15, 1.0)).mean())


def roc_auc(probabilities: np.ndarray, codes: np.ndarray) -> float | None:
    """Area under the ROC curve; several classes: the mean of each against the rest.

    Only classes with rows, and with rows of others, count; None where there is none. Rows of a
    class that the head has never seen are left out.
    """
    known = codes >= 0
    probabilities, codes = probabilities[known], codes[known]
    asked = [1] if probabilities.shape[1] == 2 else range(probabilities.shape[1])
    areas = [
        _area(probabilities[:, code], codes == code)
        for code in asked
        if 0 < (codes == code).sum() < len(codes)
    ]
    return float(np.mean(areas)) if areas else None


def _area(scores: np.ndarray, positive: np.ndarray) -> float:
    """The chance that a positive row scores above a negative one (Mann and Whitney's U)."""
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place]
    positives = int(positive.sum())
    above = float(ranks[positive].sum()) - positives * (positives + 1) / 2
    return above / (positives * (len(scores) - positives))


def reliability(confidence: np.ndarray, correct: np.ndarray, bins: int = BINS) -> list[Bin]:
    """The filled ones of `bins` bins of confidence, equal in width, lowest first."""
    place = np.clip(np.ceil(confidence.astype(np.float64) * bins).astype(int) - 1, 0, bins - 1)
    return [
        Bin(float(confidence[here].mean(dtype=np.float64)), float(correct[here].mean()),
            int(here.sum()))
        for here in (place == number for number in np.unique(place))
    ]  # fmt: skip


def calibration_error(bins: list[Bin]) -> float:
    """Expected calibration error: the mean gap of confidence and accuracy over the images."""
    rows = sum(one.images for one in bins)
    return sum(one.images * abs(one.confidence - one.accuracy) for one in bins) / rows
