"""featcache sweep"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from featcache.cli.console import answer, command, say, show, table, time_text
from featcache.cli.options import Cache, Json
from featcache.errors import FeatcacheError

if TYPE_CHECKING:
    from featcache.sweeping import Candidate, Sweep


def register(app: typer.Typer) -> None:
    app.command("sweep")(command(sweep))


def sweep(
    features: Annotated[
        list[str],
        typer.Argument(help="Features of the same images: paths, or names such as photos/vgg16."),
    ],
    heads: Annotated[
        str | None,
        typer.Option(help="Kinds of heads: logreg,knn,...", show_default="the usual quick ones"),
    ] = None,
    c: Annotated[
        str | None,
        typer.Option("--C", help="Inverse penalties: 0.001,0.01,0.1.", show_default="a grid"),
    ] = None,
    folds: Annotated[int, typer.Option(help="Folds of the cross-validation.")] = 5,
    nested: Annotated[
        bool | None,
        typer.Option(
            "--nested/--no-nested",
            help="Judge the choosing itself too.",
            show_default="where the features have no splits",
        ),
    ] = None,
    learning_curve: Annotated[
        bool, typer.Option("--learning-curve", help="Would more images help?")
    ] = False,
    seed: Annotated[
        int, typer.Option(min=0, help="Which rows are held out, if no split says so.")
    ] = 0,
    jobs: Annotated[int | None, typer.Option(help="Fits at a time.", show_default="1")] = None,
    out: Annotated[
        str | None, typer.Option(help="The head's file.", show_default="beside its features")
    ] = None,
    plots: Annotated[Path | None, typer.Option(help="Draw pictures into this folder.")] = None,
    cache: Cache = None,
    json: Json = False,
) -> None:
    """Compare heads, settings and layers; save the best head, judged on rows it has not seen."""
    from featcache.api import load
    from featcache.sweeping import sweep as run

    found = run(
        [load(each, cache=cache) for each in features],
        heads=heads.replace(",", " ").split() if heads else None,
        Cs=_numbers(c),
        folds=folds,
        nested=nested,
        learning_curve=learning_curve,
        seed=seed,
        jobs=jobs,
        out=out,
        say=say,
    )
    drawn = _draw(found, plots) if plots else []
    if json:
        answer({**found.to_dict(), "plots": [str(path) for path in drawn]})
        return
    _show(found, several=len(features) > 1)
    for path in drawn:
        show(f"picture    {path}")


def _numbers(text: str | None) -> list[float] | None:
    if text is None:
        return None
    try:
        return [float(each) for each in text.replace(",", " ").split()]
    except ValueError as error:
        raise FeatcacheError(f"--C {text!r}: expected numbers such as 0.001,0.01,0.1") from error


def _show(found: Sweep, *, several: bool) -> None:
    from featcache.metrics import wilson

    for remark in [*found.remarks, *found.report.remarks]:
        say(f"note: {remark}")
    rows = [_row(each, several=several) for each in _ranked(found)]
    names = (
        *["features", "layer"] * several,
        "head",
        "accuracy",
        "95 % interval",
        "a fit",
        "numbers",
    )
    table(rows, names)
    show(f"\nprotocol   {found.protocol}")
    if found.nested:
        low, high = found.nested.interval
        show(f"nested     {found.nested.accuracy:.4f} ({low:.4f} to {high:.4f}), choosing included")
    report, (low, high) = found.report, wilson(found.report.accuracy, found.report.rows)
    show(f"best       {found.best.label} on {found.best.features} ({found.best.tap})")
    show(f"accuracy   {report.accuracy:.4f} ({low:.4f} to {high:.4f}) on {report.rows:,} images "
         f"that took no part in choosing")  # fmt: skip
    show(f"head       {found.head.path}")
    _show_learning_curve(found)
    show(f"time       {time_text(found.seconds)}")


def _show_learning_curve(found: Sweep) -> None:
    from featcache.sweeping.learning_curve import gain_of_doubling

    if not found.learning_curve:
        return
    show("")
    rows = [
        (f"{point.images:,}", f"{point.accuracy:.4f}", _words(point.interval))
        for point in found.learning_curve
    ]
    table(rows, ("training images", "accuracy", "95 % interval"))
    gain = gain_of_doubling(found.learning_curve)
    show(f"twice the images brought {gain:+.4f} lately; the next doubling brings rather less\n")


def _ranked(found: Sweep) -> list[Candidate]:
    """The best on top; of equals the one that was chosen."""
    return sorted(found.candidates, key=lambda each: -each.accuracy)


def _row(each: Candidate, *, several: bool) -> tuple[object, ...]:
    about = (each.label, f"{each.accuracy:.4f}", _words(each.interval))
    return (*[each.features, each.tap] * several, *about, time_text(each.seconds), each.width)


def _words(interval: tuple[float, float]) -> str:
    return f"{interval[0]:.4f} to {interval[1]:.4f}"


def _bar(each: Candidate, found: Sweep) -> str:
    """The candidate's name in a picture: as much of its features as tells them apart."""
    files = len({other.features for other in found.candidates})
    if files == 1:
        return each.label
    is_tap_enough = len({other.tap for other in found.candidates}) == files
    return f"{each.tap if is_tap_enough else each.features.partition('/')[2]} · {each.label}"


def _draw(found: Sweep, directory: Path) -> list[Path]:
    from featcache.plots import draw_learning_curve, draw_sweep, plots_of_report

    drawn = plots_of_report(found.report, directory)
    bars = [(_bar(each, found), each.head, each.accuracy, each.interval) for each in _ranked(found)]
    drawn.append(draw_sweep(bars, directory / "sweep.png", heading=found.protocol))
    if found.learning_curve:
        points = found.learning_curve
        sizes, scores = [each.images for each in points], [each.accuracy for each in points]
        drawn.append(
            draw_learning_curve(
                sizes, scores, [each.interval for each in points],
                directory / "learning_curve.png", heading=f"{found.best.label}: more images?",
            )
        )  # fmt: skip
    return drawn
