"""featcache evaluate, predict"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from featcache.cli.console import answer, command, say, show, table
from featcache.cli.options import (
    Batch,
    Cache,
    FeaturesName,
    FollowLinks,
    HeadFile,
    Images,
    Json,
    Threads,
    TrustModel,
)
from featcache.cli.predictions import deliver

if TYPE_CHECKING:
    from featcache.evaluation import Report

#: Classes whose confusion matrix is printed; --json always has it.
WIDEST = 20


def register(app: typer.Typer) -> None:
    app.command("evaluate")(command(evaluate))
    app.command("predict")(command(predict))


def evaluate(
    head: HeadFile,
    features: FeaturesName,
    split: Annotated[
        str | None,
        typer.Option(help="train, validation or test.", show_default="test, else validation"),
    ] = None,
    average_views: Annotated[
        bool,
        typer.Option("--average-views", help="Judge the mean over an image's augmented views."),
    ] = False,
    cache: Cache = None,
    json: Json = False,
) -> None:
    """Judge a saved head on features: rows it was trained on are left out."""
    from featcache.api import load
    from featcache.evaluation import evaluate as judge
    from featcache.heads import Head

    report = judge(
        Head.load(head), load(features, cache=cache), split=split, average_views=average_views
    )
    if json:
        answer(report.to_dict())
        return
    show_report(report)
    table(
        [
            (s.name, f"{s.precision:.3f}", f"{s.recall:.3f}", f"{s.f1:.3f}", s.support)
            for s in report.per_class
        ],
        ("class", "precision", "recall", "f1", "images"),
    )
    if len(report.classes) <= WIDEST:
        show("\nconfusion (row: true class, column: predicted)")
        table(
            [(name, *row) for name, row in zip(report.classes, report.confusion, strict=True)],
            ("", *[name[:8] for name in report.classes]),
        )


def show_report(report: Report) -> None:
    """What fit-head and evaluate print of a report."""
    for remark in report.remarks:
        say(f"note: {remark}")
    show(f"accuracy   {report.accuracy:.4f} on {report.rows:,} images")
    show(f"baseline   {report.baseline:.4f} (always {report.baseline_class!r})")
    show(f"protocol   {report.protocol}")


def predict(
    head: HeadFile,
    images: Images,
    top: Annotated[int, typer.Option(min=1, help="Classes named for an image.")] = 1,
    out: Annotated[
        str | None, typer.Option(help="Write a .csv or .json file instead of printing.")
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(help="The weights file or model, if it is not where it lay at fitting."),
    ] = None,
    trust_model: TrustModel = False,
    batch: Batch = None,
    threads: Threads = None,
    cache: Cache = None,
    follow_symlinks: FollowLinks = False,
    json: Json = False,
) -> None:
    """Images in, class names and probabilities out."""
    import joblib

    from featcache.heads import Head
    from featcache.images import find_images

    saved = Head.load(head)
    found = find_images(images, follow_symlinks=follow_symlinks)
    stream = saved.predict_stream(
        found,
        top=top,
        cache=cache,
        weights=weights,
        trust_model=trust_model,
        batch=batch,
        threads=threads or joblib.cpu_count(),
        say=say,
    )
    deliver(stream, top=min(top, len(saved.classes)), out=out, json=json, about={"head": str(head)})
