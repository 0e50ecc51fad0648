"""Curves by epoch and by the number of training images, and the table of a sweep as a picture."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from featcache.errors import FeatcacheError
from featcache.evaluation.plots.figure import (
    BLUE,
    COLOURS,
    GREEN,
    GREY,
    MARKERS,
    VERMILLION,
    clean,
    new_figure,
    save,
    short,
    without_formulas,
)

#: Candidates that are drawn: the best ones.
SHOWN = 40

#: One candidate: its label, its kind of head, its accuracy, and the interval (low, high).
Bar = tuple[str, str, float, tuple[float, float]]


def draw_history(
    history: Mapping[str, Sequence[float]], path: Path, *, mark: int | None = None,
    kept: int | None = None, heading: str = "",
) -> Path:  # fmt: skip
    """Draw the curves of a training, a panel for each quantity, training and validation in it.

    Parameters
    ----------
    history: by epoch from the first on, named as Keras does: "loss", "val_loss", "accuracy",
        "val_accuracy", ...
    mark: the last epoch before fine-tuning began; a line is drawn after it.
    kept: the epoch, counted from 1, whose weights the model has; a line is drawn at it.
    path: the PNG file; see `save`.
    """
    names = list(dict.fromkeys(name.removeprefix("val_") for name in history))
    # People look for accuracy first, then loss, then the rest.
    names.sort(key=lambda name: {"accuracy": 0, "loss": 1}.get(name, 2))
    if not names or not any(len(values) for values in history.values()):
        raise FeatcacheError("the history is empty: there is no epoch to draw")
    figure = new_figure(4.8 * len(names) + 0.2, 3.9)
    figure.suptitle(heading, fontsize=11, parse_math=False)
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        _draw_quantity(axes, name, history)
        _draw_marks(axes, mark, kept)
        axes.legend(frameon=False, fontsize=9)
    return save(figure, path)


def _draw_quantity(axes: Axes, name: str, history: Mapping[str, Sequence[float]]) -> None:
    for key, label, colour, style, marker in (
        (name, "training", BLUE, "-", "o"),
        (f"val_{name}", "validation", VERMILLION, "--", "s"),
    ):
        values = np.asarray(history.get(key, ()), dtype=float)
        if len(values):
            axes.plot(
                np.arange(1, len(values) + 1), values, color=colour, linestyle=style, label=label,
                marker=marker if len(values) <= 40 else "", markersize=3.5, linewidth=1.6,
            )  # fmt: skip
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    clean(axes, x="epoch", title=name)


def _draw_marks(axes: Axes, mark: int | None, kept: int | None) -> None:
    if mark is not None:
        axes.axvline(
            mark + 0.5, color=GREY, linestyle=":", linewidth=1.5, label="fine-tuning begins"
        )
    if kept is not None:
        axes.axvline(kept, color=GREEN, linewidth=5, alpha=0.3, zorder=0,
                     label=f"epoch {kept} is kept")  # fmt: skip


def draw_learning_curve(
    sizes: Sequence[int],
    scores: Sequence[float],
    intervals: Sequence[tuple[float, float]],
    path: Path,
    *,
    heading: str = "",
) -> Path:
    """Draw accuracy over the number of training images: would more of them help?

    Parameters
    ----------
    sizes: training images at each point.
    scores, intervals: accuracy at each, and its 95 % interval (low, high).
    path: the PNG file; see `save`.
    """
    if not len(sizes) == len(scores) == len(intervals) or not len(sizes):
        raise FeatcacheError(
            f"expected as many scores and intervals as sizes, at least one; got {len(sizes)} "
            f"sizes, {len(scores)} scores, {len(intervals)} intervals"
        )
    figure = new_figure(5.6, 4)
    axes = figure.subplots()
    low, high = np.array(intervals, dtype=float).T
    axes.fill_between(sizes, low, high, color=BLUE, alpha=0.2, linewidth=0, label="95 % interval")
    axes.plot(sizes, scores, color=BLUE, marker="o", linewidth=1.6, label="accuracy")
    axes.set_xscale("log")
    axes.set_xticks(list(sizes))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda size, _: f"{size:,.0f}"))
    axes.xaxis.set_minor_locator(NullLocator())
    clean(axes, x="training images", y="accuracy", title=heading)
    axes.legend(loc="lower right", frameon=False, fontsize=9)
    return save(figure, path)


def draw_sweep(bars: Sequence[Bar], path: Path, *, heading: str = "") -> Path:
    """Draw the candidates of a sweep, the best on top, each with its 95 % interval.

    Parameters
    ----------
    bars: (label, kind of head, accuracy, (low, high)) of each candidate; of equals the first is
        the one that was taken, which is drawn in bold.
    path: the PNG file; see `save`.
    """
    if not bars:
        raise FeatcacheError("the sweep has no candidate to draw")
    best = sorted(bars, key=lambda bar: -bar[2])[:SHOWN]
    kinds = list(dict.fromkeys(bar[1] for bar in bars))
    figure = new_figure(7.5, 1.4 + 0.27 * len(best))
    axes = figure.subplots()
    for place, (_, kind, accuracy, (low, high)) in enumerate(best):
        number = kinds.index(kind)
        axes.errorbar(
            accuracy, place, xerr=[[max(0, accuracy - low)], [max(0, high - accuracy)]],
            color=COLOURS[number % len(COLOURS)], marker=MARKERS[number % len(MARKERS)],
            markersize=6, capsize=2, linewidth=1.4,
        )  # fmt: skip
    axes.axvline(best[0][2], color=GREY, linestyle=":", linewidth=1)
    axes.set_yticks(range(len(best)), [short(bar[0], 48) for bar in best], fontsize=9)
    without_formulas(axes.get_yticklabels())
    axes.get_yticklabels()[0].set_fontweight("bold")
    axes.set_ylim(len(best) - 0.4, -0.6)
    title = textwrap.fill(heading, 70)
    clean(axes, x=f"accuracy with its 95 % interval{_remarks(bars)}", title=title)
    return save(figure, path)


def _remarks(bars: Sequence[Bar]) -> str:
    """What the picture alone does not say: that one of equals is bold, and how many are drawn."""
    top = max(bar[2] for bar in bars)
    equals = sum(bar[2] == top for bar in bars)
    words = f"\n{equals} share the best accuracy; the first of them (bold) was taken"
    left_out = f"\nthe best {SHOWN} of {len(bars)}"
    return words * (equals > 1) + left_out * (len(bars) > SHOWN)
