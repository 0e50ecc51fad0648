"""Pictures as PNG files: the only home of matplotlib, without its global state."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from featcache.errors import FeatcacheError, StorageFailure

Pixels = np.ndarray[Any, Any]

#: Dots for an inch of the figure, and the inches of a picture's longer side and of a line of text.
DPI = 100
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
    columns = math.ceil(math.sqrt(len(pictures)))
    rows = math.ceil(len(pictures) / columns)
    height, width = pictures[0].shape[:2]
    inch = SIDE / max(height, width)
    figure = Figure(
        figsize=(columns * (width * inch + 0.1), rows * (height * inch + LINE) + 2 * LINE),
        layout="constrained",
    )
    # Titles may be other people's text: a dollar sign in it is no formula.
    figure.suptitle(heading, fontsize=9, parse_math=False)
    for place, (picture, title) in enumerate(zip(pictures, titles, strict=True), 1):
        axes = figure.add_subplot(rows, columns, place)
        axes.imshow(np.clip(np.rint(picture), 0, 255).astype(np.uint8))
        axes.set_title(title, fontsize=9, parse_math=False)
        axes.axis("off")
    save(figure, path)


def save(figure: Figure, path: Path) -> None:
    """Write a figure as a PNG file, whole or not at all; no version or date is written into it."""
    if path.suffix.lower() != ".png":
        raise FeatcacheError(f"--out {path}: expected a name that ends in .png")
    draft = path.with_name(f".tmp-{path.name}")
    try:
        FigureCanvasAgg(figure)
        figure.savefig(draft, format="png", dpi=DPI, metadata={"Software": None})
        draft.replace(path)
    except OSError as error:
        raise StorageFailure(f"cannot write {path}: {error}") from error
    finally:
        draft.unlink(missing_ok=True)
