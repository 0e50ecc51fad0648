"""What several commands print and draw of a judgement: a report, its pictures, an album."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from featcache.cli.console import say, show

if TYPE_CHECKING:
    from featcache.evaluation.report import Report
    from featcache.features.features import Features
    from featcache.finetuning.outcome import Tuned
    from featcache.fitting.fit_head import Fit
    from featcache.fitting.sweeping.sweep import Sweep
    from featcache.heads.calibration import Calibration
    from featcache.heads.head import Head


@dataclass(frozen=True)
class Course:
    """How a training went: its history, the epoch that is kept, the epochs before fine-tuning."""

    history: Mapping[str, Sequence[float]]
    kept: int | None
    first_epoch: int = 0

    @property
    def curves(self) -> dict[str, Sequence[float]]:
        """What has a value for every epoch: of the start, there is one number alone."""
        names = [name for name in self.history if not name.startswith("initial_")]
        return {name: self.history[name] for name in names}


def course_of(head: Head) -> Course | None:
    """How the training of a head went that was trained in epochs; None for other kinds."""
    settings = head.model.settings
    if "history" not in settings:
        return None
    # A fine-tuned head's epochs follow those of the head it began with.
    learned = settings.get("finetuned", {}).get("learned", settings)
    return Course(settings["history"], learned.get("best_epoch"), learned.get("first_epoch", 0))


def draw_report(report: Report, plots: str | None, course: Course | None = None) -> list[str]:
    """The pictures of a report, if a folder was given for them."""
    if plots is None:
        return []
    from featcache.evaluation.plots.reports import plots_of_report

    course = course or Course({}, None)
    drawn = plots_of_report(
        report, plots, history=course.curves, mark=course.first_epoch or None, kept=course.kept
    )
    return tell_drawn(drawn)


def tell_drawn(paths: Sequence[Path]) -> list[str]:
    """Say where pictures are; gives their paths for the JSON object."""
    for path in paths:
        say(f"drawn: {path}")
    return [str(path) for path in paths]


def draw_judged(found: Fit | Sweep | Tuned, plots: str | None) -> list[str]:
    """The pictures of a new head: of its report, and of some images that judged it."""
    drawn = draw_report(found.report, plots, course_of(found.head))
    return drawn + draw_album(found.head, found.judged, plots)


def draw_album(head: Head, judged: Features, plots: str | None) -> list[str]:
    """Nine of the judged images with predicted and true names, if their files are still there."""
    if plots is None:
        return []
    from featcache.evaluation.album import album_of
    from featcache.evaluation.plots.pictures import draw_predictions

    album = album_of(head, judged)
    if album.remark:
        say(f"note: predictions.png: {album.remark}")
    if not album.pictures:
        return []
    path = draw_predictions(
        album.pictures,
        album.predicted,
        album.true,
        Path(plots) / "predictions.png",
        probabilities=album.probabilities,
        heading=f"{len(album.pictures)} of {len(judged):,} judged images, chosen by their hash",
    )
    return tell_drawn([path])


def show_report(report: Report) -> None:
    """The figures of a report that fit on a few lines; its remarks go to stderr."""
    for remark in report.remarks:
        say(f"note: {remark}")
    low, high = report.interval
    show(f"accuracy   {report.accuracy:.4f} on {report.rows:,} images "
         f"(95 % interval {low:.4f} to {high:.4f})")  # fmt: skip
    show(f"baseline   {report.baseline:.4f} (always {report.baseline_class!r})")
    if report.calibration:
        show(f"calibrated {_calibration(report.calibration)}")
    show(f"protocol   {report.protocol}")


def _calibration(calibration: Calibration) -> str:
    loss, error = calibration.log_loss, calibration.calibration_error
    return (
        f"temperature {calibration.temperature:.3g}: log loss {loss[0]:.4f} -> {loss[1]:.4f}, "
        f"calibration error {error[0]:.4f} -> {error[1]:.4f}"
    )
