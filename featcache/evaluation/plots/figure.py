"""What all pictures share: colours, a clean figure, names that fit, and the saving."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from featcache.errors import FeatcacheError
from featcache.files.write import whole_stream

#: Dots for an inch of the figure.
DPI = 100
#: Okabe and Ito's colours: distinguishable with all kinds of colour vision.
BLUE, VERMILLION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
ORANGE, SKY, BLACK, GREY = "#E69F00", "#56B4E9", "#000000", "#707070"
COLOURS = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, BLACK)
#: Markers beside the colours, so that nothing is said by colour alone.
MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of some inches, which lays itself out."""
    return Figure(figsize=(width, height), layout="constrained")


def clean(axes: Axes, *, x: str = "", y: str = "", title: str = "") -> None:
    """No box around the axes, a faint grid, and the names of what is drawn."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.set_title(title, fontsize=10, parse_math=False)


def short(name: str, longest: int = 24) -> str:
    """A name that fits: its beginning and its end, without control characters."""
    name = "".join(
        letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in name
    )
    if len(name) <= longest:
        return name
    head = longest // 2
    return f"{name[:head]}…{name[len(name) - (longest - 1 - head) :]}"


def without_formulas(texts: Any) -> None:
    """Labels are other people's text: a dollar sign in them is no formula."""
    for text in texts:
        text.set_parse_math(False)


def save(figure: Figure, path: Path, *, tight: bool = True) -> Path:
    """Write a figure as a PNG file, whole or not at all; no version or date is written into it.

    `tight`: the picture is as large as what is drawn; else as large as the figure says.

    Raises `FeatcacheError` where `path` is no name of a PNG file, `StorageFailure` where it cannot
    be written.
    """
    if path.suffix.lower() != ".png":
        raise FeatcacheError(f"--out {path}: expected a name that ends in .png")
    FigureCanvasAgg(figure)
    with whole_stream(path) as file, warnings.catch_warnings():
        # A class name in a script that the font lacks is drawn as boxes: no more can be done.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        # Tight, whatever the layout makes of long names nothing is cut off.
        box = "tight" if tight else None
        figure.savefig(
            file, format="png", dpi=DPI, metadata={"Software": None}, bbox_inches=box,
            pad_inches=0.08,
        )  # fmt: skip
    return path
