"""Grids of pictures: augmented views, images with predicted and true names."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from featcache.errors import FeatcacheError
from featcache.evaluation.plots.figure import BLUE, VERMILLION, new_figure, save, short

Pixels = np.ndarray[Any, Any]

#: The inches of a picture's longer side and of a line of text.
SIDE = 2.4
LINE = 0.3


def draw_grid(
    pictures: Sequence[Pixels], titles: Sequence[str], path: Path, *, heading: str = ""
) -> None:
    """Draw pictures of one size, each under its title, as near to a square grid as can be.

    Parameters
    ----------
    pictures: each (H, W, 3), uint8 or floats in 0..255.
    path: the PNG file; it appears when it is complete.

    Raises `FeatcacheError` where `path` is no name of a PNG file, `StorageFailure` where it cannot
    be written.
    """
    _draw(pictures, [[(title, "black")] for title in titles], path, heading=heading)


def draw_predictions(
    pictures: Sequence[Pixels],
    predicted: Sequence[str],
    true: Sequence[str],
    path: Path,
    *,
    probabilities: Sequence[float] | None = None,
    heading: str = "",
) -> Path:
    """Draw images with the names they were given and, where that was wrong, their true names.

    Parameters
    ----------
    pictures: each (H, W, 3) of one size, uint8 or floats in 0..255; nine fill a square.
    predicted, true: a class name for each picture; "" = not known.
    probabilities: of the predicted class, for each picture.
    path: the PNG file; see `save`.
    """
    counts = {len(each) for each in (pictures, predicted, true, probabilities or predicted)}
    if len(counts) > 1 or not len(pictures):
        raise FeatcacheError(
            f"expected as many names as pictures, at least one; got {len(pictures)} pictures, "
            f"{len(predicted)} predicted and {len(true)} true names"
        )
    chances = [None] * len(pictures) if probabilities is None else probabilities
    lines = [
        _lines(name, truth, chance)
        for name, truth, chance in zip(predicted, true, chances, strict=True)
    ]
    _draw(pictures, lines, path, heading=heading)
    return path


def _lines(predicted: str, true: str, chance: float | None) -> list[tuple[str, str]]:
    """The words above a picture, each line with its colour; marks say it without colours too."""
    words = short(predicted, 22) + ("" if chance is None else f"  {chance:.0%}")
    if not true:
        return [(words, "black")]
    if predicted == true:
        return [(f"✓ {words}", BLUE)]
    return [(f"✗ {words}", VERMILLION), (f"true: {short(true, 22)}", "black")]


def _draw(
    pictures: Sequence[Pixels],
    titles: Sequence[list[tuple[str, str]]],
    path: Path,
    *,
    heading: str,
) -> None:
    columns = math.ceil(math.sqrt(len(pictures)))
    rows = math.ceil(len(pictures) / columns)
    height, width = pictures[0].shape[:2]
    inch = SIDE / max(height, width)
    lines = max(map(len, titles))
    figure = new_figure(
        columns * (width * inch + 0.1), rows * (height * inch + lines * LINE) + 2 * LINE
    )
    # Titles may be other people's text: a dollar sign in it is no formula.
    figure.suptitle(heading, fontsize=9, parse_math=False)
    for place, (picture, title) in enumerate(zip(pictures, titles, strict=True), 1):
        axes = figure.add_subplot(rows, columns, place)
        axes.imshow(np.clip(np.rint(picture), 0, 255).astype(np.uint8))
        _write(axes, title)
        axes.axis("off")
    save(figure, path, tight=False)


def _write(axes: Axes, lines: list[tuple[str, str]]) -> None:
    """The first line above the picture in its colour, a second one between them."""
    (first, colour), *rest = lines
    if not rest:
        axes.set_title(first, fontsize=9, color=colour, parse_math=False)
        return
    axes.set_title(first, fontsize=9, color=colour, parse_math=False, pad=18)
    axes.text(
        0.5, 1.02, rest[0][0], transform=axes.transAxes, ha="center", va="bottom", fontsize=8,
        parse_math=False,
    )  # fmt: skip
