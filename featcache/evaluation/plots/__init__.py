"""Pictures as PNG files: the only home of matplotlib, without its global state.

Plain data in, one PNG out, whole or not at all. Colours are those of Okabe and Ito (2008), which
colour-blind people can tell apart, and nothing is said by colour alone.
"""

from featcache.evaluation.plots.curves import Bar, draw_history, draw_learning_curve, draw_sweep
from featcache.evaluation.plots.figure import save
from featcache.evaluation.plots.pictures import draw_grid, draw_predictions
from featcache.evaluation.plots.reports import (
    BinFigures,
    draw_confusion,
    draw_reliability,
    plots_of_report,
)

__all__ = [
    "Bar",
    "BinFigures",
    "draw_confusion",
    "draw_grid",
    "draw_history",
    "draw_learning_curve",
    "draw_predictions",
    "draw_reliability",
    "draw_sweep",
    "plots_of_report",
    "save",
]
