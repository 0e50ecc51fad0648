"""The pictures of a report in a folder: what --plots DIR writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from featcache.evaluation.plots.curves import draw_history
from featcache.evaluation.plots.reliability import BinFigures, draw_reliability
from featcache.evaluation.plots.reports import draw_confusion
from featcache.files import folders
from featcache.files.write import writing


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


def plots_of_report(
    report: Judged,
    directory: str | Path,
    *,
    bins: Sequence[BinFigures] | None = None,
    history: Mapping[str, Sequence[float]] | None = None,
    mark: int | None = None,
    kept: int | None = None,
) -> list[Path]:
    """Draw confusion.png, and reliability.png and history.png where there is something to draw.

    Parameters
    ----------
    directory: it is made where it is not there.
    bins: (mean confidence, accuracy, count) of the calibration's bins; None: `report.reliability`.
    history: loss and accuracy by epoch, for heads that are trained in epochs; `mark` is the last
        epoch before fine-tuning, `kept` the one whose weights the head has.

    Returns
    -------
    list[Path]: the files that were written.
    """
    folder = make_plots_folder(directory)
    bins = getattr(report, "reliability", None) if bins is None else bins
    heading = f"accuracy {report.accuracy:.4f} on {report.rows:,} images"
    drawn = [
        draw_confusion(report.confusion, report.classes, folder / "confusion.png", heading=heading)
    ]
    if bins and any(each[2] for each in bins):
        drawn.append(draw_reliability(bins, folder / "reliability.png", heading=heading))
    if history and any(len(values) for values in history.values()):
        # No point of the curves is the accuracy that is reported: other rows judge.
        drawn.append(
            draw_history(
                history, folder / "history.png", mark=mark, kept=kept, heading=f"judged: {heading}"
            )
        )
    return drawn


def make_plots_folder(directory: str | Path) -> Path:
    """The folder for pictures; raises `StorageFailure` where it cannot be made."""
    folder = Path(directory)
    with writing(folder):
        folders.make_folder(folder)
    return folder
