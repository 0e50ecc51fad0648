"""The reliability diagram: does a probability of 80 % come true in 80 % of the images?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from featcache.errors import FeatcacheError
from featcache.evaluation.metrics import wilson
from featcache.evaluation.plots.figure import BLUE, GREY, VERMILLION, clean, new_figure, save

#: A bin of images: their mean confidence, the share that was right, and how many they are.
BinFigures = tuple[float, float, int]


def draw_reliability(bins: Sequence[BinFigures], path: Path, *, heading: str = "") -> Path:
    """Draw accuracy over confidence, and below it how many images stand in each bin.

    Parameters
    ----------
    bins: (mean confidence, accuracy, count) of each; empty ones (count 0) are left out.
    path: the PNG file; see `save`.
    """
    filled = [each for each in bins if each[2] > 0]
    if not filled:
        raise FeatcacheError("a reliability diagram needs at least one bin with images")
    confidence, accuracy, count = (np.array(column, dtype=float) for column in zip(*filled))  # noqa: B905
    error = float((np.abs(confidence - accuracy) * count).sum() / count.sum())
    figure = new_figure(5, 6)
    words = f"{heading}\ncalibration error {error:.3f}".lstrip()
    figure.suptitle(words, fontsize=11, parse_math=False)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3.2, 1])
    _draw_diagonal(above, confidence, accuracy, count)
    below.bar(confidence, count, width=0.035, color=GREY)
    clean(below, x="confidence: probability of the named class", y="images")
    return save(figure, path)


def _draw_diagonal(
    axes: Axes, confidence: np.ndarray, accuracy: np.ndarray, count: np.ndarray
) -> None:
    axes.plot([0, 1], [0, 1], color=BLUE, linestyle="--", linewidth=1.2, label="perfect")
    ends = [wilson(share, images) for share, images in zip(accuracy, count, strict=True)]
    low, high = np.array(ends).T
    bars = np.stack([accuracy - low, high - accuracy])
    # No line joins them: it would draw the eye through bins of one or two images.
    axes.errorbar(
        confidence, accuracy, yerr=bars, color=VERMILLION, marker="o", markersize=5, capsize=2,
        linestyle="", elinewidth=0.9, label="measured, 95 % interval",
    )  # fmt: skip
    axes.set_xlim(0, 1.02)
    axes.set_ylim(0, 1.02)
    clean(axes, y="accuracy")
    # Above the axes: a head may be too sure or too unsure, so there are points in every corner.
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False, fontsize=9)
