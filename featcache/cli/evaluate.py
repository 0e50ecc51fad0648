"""featcache evaluate"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from featcache.cli import options as o
from featcache.cli.console import answer, command, say, show, table
from featcache.cli.judgement import course_of, draw_album, draw_report, show_report
from featcache.errors import FeatcacheError

if TYPE_CHECKING:
    from featcache.evaluation.comparison import Comparison
    from featcache.evaluation.report import Rejection, Report

#: Classes whose confusion matrix is printed; --json always has it.
WIDEST = 20

#: Exit code of an accuracy below --assert-accuracy. Not 1, which a crash has too: a script can
#: tell "not good enough" from "went wrong".
NOT_GOOD_ENOUGH = 6


def register(app: typer.Typer) -> None:
    app.command("evaluate")(command(evaluate))


def evaluate(
    head: o.HeadFile,
    features: o.FeaturesName,
    split: Annotated[
        str | None,
        typer.Option(help="train, validation or test.", show_default="test, else validation"),
    ] = None,
    average_views: Annotated[
        bool,
        typer.Option("--average-views", help="Judge the mean over an image's augmented views."),
    ] = False,
    top: Annotated[
        int | None,
        typer.Option(help="Also the share of images with their class among the K likeliest.",
                     show_default="5"),
    ] = None,
    reject_below: Annotated[
        float | None,
        typer.Option(help="Also what is left where less probable answers are given up."),
    ] = None,
    against: Annotated[
        str | None, typer.Option(help="Another head: compare the two on the same images.")
    ] = None,
    against_features: Annotated[
        str | None,
        typer.Option(help="The other head's features, if it was fitted on other vectors."),
    ] = None,
    assert_accuracy: Annotated[
        float | None,
        typer.Option(help=f"Exit code {NOT_GOOD_ENOUGH} where the accuracy is below this."),
    ] = None,
    plots: o.Plots = None,
    cache: o.Cache = None,
    json: o.Json = False,
) -> None:  # fmt: skip
    """Judge a saved head on features: rows it was trained on are left out."""
    from featcache.evaluation.comparison import compare
    from featcache.evaluation.evaluate import evaluate as judge
    from featcache.evaluation.evaluate import unseen
    from featcache.features.cache import load
    from featcache.heads.head import Head

    _check(assert_accuracy, against, against_features)
    loaded, rows = Head.load(head), load(features, cache=cache)
    report = judge(
        loaded, rows, split=split, average_views=average_views, top=top, reject_below=reject_below
    )
    comparison = None
    if against:
        comparison = compare(
            loaded,
            rows,
            Head.load(against),
            other_features=load(against_features, cache=cache) if against_features else None,
            split=split,
            average_views=average_views,
        )
    drawn = draw_report(report, plots, course_of(loaded))
    if plots:
        drawn += draw_album(loaded, unseen(loaded, rows, split=split)[0], plots)
    passed = assert_accuracy is None or report.accuracy >= assert_accuracy
    if json:
        extra: dict[str, Any] = {"against": comparison.to_dict()} if comparison else {}
        if assert_accuracy is not None:
            extra["assertion"] = {"accuracy": assert_accuracy, "passed": passed}
        answer({**report.to_dict(), **extra, "plots": drawn})
    else:
        _show(report, comparison, against)
    if assert_accuracy is not None and not passed:
        say(f"error: {_shortfall(report, assert_accuracy)}")
        raise typer.Exit(NOT_GOOD_ENOUGH)


def _check(assert_accuracy: float | None, against: str | None, features: str | None) -> None:
    if assert_accuracy is not None and not 0 <= assert_accuracy <= 1:
        raise FeatcacheError(
            f"--assert-accuracy {assert_accuracy:g}: expected a share between 0 and 1, such as 0.9"
        )
    if features and not against:
        raise FeatcacheError("--against-features says where --against was fitted: give --against")


def _show(report: Report, comparison: Comparison | None, against: str | None) -> None:
    show_report(report)
    show(f"interval   {report.interval_method}")
    _show_figures(report)
    if report.rejection:
        show(f"rejecting  {_rejection(report.rejection)}")
    if comparison:
        _show_comparison(comparison, str(against))
    show("")
    table(
        [
            (s.name, f"{s.precision:.3f}", f"{s.recall:.3f}", f"{s.f1:.3f}", s.support)
            for s in report.per_class
        ],
        ("class", "precision", "recall", "f1", "images"),
    )
    if len(report.classes) <= WIDEST:
        show("", "confusion (row: true class, column: predicted)")
        table(
            [(name, *row) for name, row in zip(report.classes, report.confusion, strict=True)],
            ("", *[name[:8] for name in report.classes]),
        )


def _show_figures(report: Report) -> None:
    show(f"balanced   {report.balanced_accuracy:.4f} (mean recall of the classes)")
    show(f"macro      precision {report.macro_precision:.4f}, recall {report.macro_recall:.4f}, "
         f"F1 {report.macro_f1:.4f}")  # fmt: skip
    if report.top_accuracy is not None:
        show(f"top-{report.top:<7}{report.top_accuracy:.4f}")
    if report.roc_auc is not None:
        kind = "" if len(report.classes) == 2 else " (mean, each class against the rest)"
        show(f"ROC AUC    {report.roc_auc:.4f}{kind}")
    show(f"log loss   {report.log_loss:.4f}")
    show(f"ECE        {report.calibration_error:.4f} (expected calibration error, 15 bins)")


def _rejection(rejection: Rejection) -> str:
    if rejection.accuracy is None or rejection.interval is None:
        return f"below {rejection.below:g} rejects every image"
    low, high = rejection.interval
    return (
        f"below {rejection.below:g} keeps {rejection.coverage:.1%} ({rejection.kept:,} images), "
        f"accuracy {rejection.accuracy:.4f} ({low:.4f} to {high:.4f})"
    )


def _show_comparison(comparison: Comparison, against: str) -> None:
    for remark in comparison.remarks:
        say(f"note: {remark}")
    low, high = comparison.interval
    chance = "" if comparison.p_value is None else f", McNemar's p = {comparison.p_value:.3g}"
    show(
        f"against    {against}: {comparison.other_accuracy:.4f}, this head "
        f"{comparison.accuracy:.4f} on the same {comparison.rows:,} images",
        f"           difference {comparison.difference:+.4f} (95 % interval {low:+.4f} to "
        f"{high:+.4f}{chance})",
        f"           right alone: this head {comparison.only_first}, the other "
        f"{comparison.only_other}",
    )


def _shortfall(report: Report, wanted: float) -> str:
    low, high = report.interval
    words = (
        f"accuracy {report.accuracy:.4f} on {report.rows:,} images (95 % interval {low:.4f} to "
        f"{high:.4f}) is below --assert-accuracy {wanted:g}"
    )
    if high >= wanted:
        words += "; the interval reaches it: more images to judge on would tell"
    return words
