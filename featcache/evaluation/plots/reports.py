"""The pictures of a report in a folder: what --plots DIR writes.

The confusion matrix is readable at 2, at 10 and at 100 classes; the reliability diagram asks: does
a probability of 80 % come true in 80 % of the images?
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm

from featcache.errors import FeatcacheError
from featcache.evaluation.metrics import wilson
from featcache.evaluation.plots.curves import draw_history
from featcache.evaluation.plots.figure import (
    BLUE,
    GREY,
    VERMILLION,
    clean,
    new_figure,
    save,
    short,
    without_formulas,
)
from featcache.files import folders
from featcache.files.write import writing

#: Classes up to which each cell tells its number, and up to which every class has its name.
NUMBERED, NAMED = 25, 120
#: Mistakes that are told in words where the cells have no numbers.
WORST = 12
#: Inches: the least and the greatest side of the matrix, and what a class with a number needs.
SMALLEST, LARGEST, CELL = 2.6, 15.0, 0.48
#: Inches for the mistakes in words.
WORDS = 4.6

Counts = np.ndarray[Any, Any]

#: A bin of images: their mean confidence, the share that was right, and how many they are.
BinFigures = tuple[float, float, int]


class Judged(Protocol):
    """What is drawn of a report; the plots stand below the evaluation and do not import it."""

    @property
    def accuracy(self) -> float: ...
    @property
    def rows(self) -> int: ...
    @property
    def classes(self) -> list[str]: ...
    @property
    def confusion(self) -> list[list[int]]: ...
    @property
    def reliability(self) -> Sequence[BinFigures]: ...


def plots_of_report(
    report: Judged,
    directory: str | Path,
    *,
    history: Mapping[str, Sequence[float]] | None = None,
    mark: int | None = None,
    kept: int | None = None,
) -> list[Path]:
    """Draw confusion.png, and reliability.png and history.png where there is something to draw.

    Parameters
    ----------
    directory: it is made where it is not there; raises `StorageFailure` where it cannot be.
    history: loss and accuracy by epoch, for heads that are trained in epochs; `mark` is the last
        epoch before fine-tuning, `kept` the one whose weights the head has.

    Returns
    -------
    list[Path]: the files that were written.
    """
    folder = Path(directory)
    with writing(folder):
        folders.make_folder(folder)
    heading = f"accuracy {report.accuracy:.4f} on {report.rows:,} images"
    drawn = [
        draw_confusion(report.confusion, report.classes, folder / "confusion.png", heading=heading)
    ]
    if report.reliability:
        drawn.append(
            draw_reliability(report.reliability, folder / "reliability.png", heading=heading)
        )
    if history and any(len(values) for values in history.values()):
        # No point of the curves is the accuracy that is reported: other rows judge.
        drawn.append(
            draw_history(
                history, folder / "history.png", mark=mark, kept=kept, heading=f"judged: {heading}"
            )
        )
    return drawn


def draw_confusion(
    confusion: Sequence[Sequence[int]] | Counts,
    classes: Sequence[str],
    path: Path,
    *,
    heading: str = "",
) -> Path:
    """Draw how images of each true class (rows) were called (columns).

    Colour is the share of the true class, on a scale that shows rare mistakes; numbers are images.
    With more classes than numbers fit, the commonest mistakes stand beside the matrix in words.

    Parameters
    ----------
    confusion: (K, K) counts; `confusion[i][j]` images of class i were called class j.
    classes: the K names.
    path: the PNG file; see `save`.
    """
    counts = np.asarray(confusion)
    if counts.shape != (len(classes), len(classes)) or not len(classes):
        raise FeatcacheError(
            f"expected a square confusion matrix of {len(classes)} classes, at least one; got an "
            f"array of shape {counts.shape}"
        )
    names = [short(name, 20) for name in classes]
    side, room = _side(len(names)), 1.0 + 0.085 * max(map(len, names))
    figure = new_figure(side + room + 0.5 + WORDS * (len(names) > NUMBERED), side + room)
    figure.suptitle(heading, fontsize=11, parse_math=False)
    if len(names) > NUMBERED:
        left, right = figure.subplots(1, 2, width_ratios=[side + room + 0.5, WORDS])
        _write_mistakes(right, counts, classes, 0.24 / side)
    else:
        left = figure.subplots()
    _draw_matrix(left, counts, names)
    return save(figure, path)


def _side(classes: int) -> float:
    per_class = CELL if classes <= NUMBERED else 0.115
    floor = SMALLEST if classes <= NUMBERED else 6.0
    return float(np.clip(classes * per_class, floor, LARGEST))


def _draw_matrix(axes: Axes, counts: Counts, names: list[str]) -> None:
    support = counts.sum(axis=1, keepdims=True)
    share = np.divide(counts, support, out=np.full(counts.shape, np.nan), where=support > 0)
    axes.set_facecolor("#eeeeee")  # a class without images has no shares
    picture = axes.imshow(share, cmap="Blues", norm=PowerNorm(0.5, 0, 1), interpolation="nearest")
    _name(axes, names)
    axes.set_xlabel("column: predicted class")
    axes.set_ylabel("row: true class")
    if len(names) <= NUMBERED:
        _write_numbers(axes, counts, share)
    if len(names) <= NAMED:
        edges = np.arange(len(names) + 1) - 0.5
        axes.set_xticks(edges, minor=True)
        axes.set_yticks(edges, minor=True)
        axes.grid(which="minor", color="#d8d8d8", linewidth=0.5)
    axes.tick_params(which="both", length=0)
    bar = axes.figure.colorbar(
        picture, ax=axes, shrink=0.6, pad=0.02, ticks=[0, 0.02, 0.1, 0.25, 0.5, 1]
    )
    bar.ax.set_yticklabels(["0", "2 %", "10 %", "25 %", "50 %", "100 %"], fontsize=7)
    bar.outline.set_visible(False)


def _name(axes: Axes, names: list[str]) -> None:
    """Every class has its name, or every n-th where there are too many."""
    step = -(-len(names) // NAMED)
    places = np.arange(0, len(names), step)
    size = 9.0 if len(names) <= NUMBERED else 6.0
    shown = [names[place] for place in places]
    upright = len(names) > 3 or max(map(len, names)) > 10
    axes.set_xticks(places, shown, fontsize=size, rotation=90 if upright else 0)
    axes.set_yticks(places, shown, fontsize=size)
    without_formulas([*axes.get_xticklabels(), *axes.get_yticklabels()])


def _write_numbers(axes: Axes, counts: Counts, share: Counts) -> None:
    longest = len(f"{counts.max()}")
    size = 9 if longest <= 4 else 7
    for (row, column), count in np.ndenumerate(counts):
        if count:
            dark = share[row, column] > 0.35
            axes.text(
                column, row, f"{count}", ha="center", va="center", fontsize=size,
                color="white" if dark else "black",
            )  # fmt: skip


def _write_mistakes(axes: Axes, counts: Counts, classes: Sequence[str], step: float) -> None:
    """The commonest mistakes in words: a hundred classes have too many cells to read."""
    axes.axis("off")
    mistakes = counts - np.diag(np.diag(counts))
    order = np.argsort(-mistakes, axis=None, kind="stable")[:WORST]
    order = order[mistakes.flat[order] > 0]
    lines = [
        (
            f"{mistakes.flat[place]}",
            f"{short(classes[row], 21)} called {short(classes[column], 21)}",
        )
        for place, row, column in zip(order, *np.unravel_index(order, counts.shape), strict=True)
    ]
    for line, (count, words) in enumerate([("", "commonest mistakes"), *lines]):
        style: dict[str, Any] = {
            "fontsize": 9,
            "va": "top",
            "transform": axes.transAxes,
            "in_layout": False,
        }
        axes.text(0, 1 - step * line, count, color=GREY, **style)
        axes.text(0.1, 1 - step * line, words, parse_math=False, **style)


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
