"""The table of a sweep as a picture: one dot and its interval for each candidate."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

from featcache.errors import FeatcacheError
from featcache.evaluation.plots.figure import (
    COLOURS,
    GREY,
    MARKERS,
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
