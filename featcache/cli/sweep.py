"""featcache sweep"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from featcache.cli import options as o
from featcache.cli.console import answer, command, say, show, size_text, table, time_text
from featcache.cli.judgement import draw_judged, tell_drawn
from featcache.errors import FeatcacheError
from featcache.files.write import check_output

if TYPE_CHECKING:
    from featcache.fitting.sweeping.candidates import Candidate
    from featcache.fitting.sweeping.sweep import Sweep


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
    grid: Annotated[
        list[str] | None,
        typer.Option(
            metavar="HEAD:OPTION=V,V",
            help="Values of a head's option: dense:hidden=64,256. Repeat it for more options.",
            show_default="the usual values",
        ),
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
    jobs: Annotated[
        int | None, typer.Option(help="Fits at a time; -1: one a core.", show_default="1")
    ] = None,
    out: Annotated[
        str | None, typer.Option(help="The head's file.", show_default="beside its features")
    ] = None,
    plots: o.Plots = None,
    cache: o.Cache = None,
    json: o.Json = False,
) -> None:
    """Compare heads, settings and layers; save the best head, judged on rows it has not seen."""
    from featcache.features.cache import load
    from featcache.fitting.sweeping.grids import parse_grids
    from featcache.fitting.sweeping.sweep import sweep as run

    Cs = _numbers(c)
    loaded = [load(each, cache=cache) for each in features]
    if out:
        check_output(Path(out), [each.path for each in loaded])
    found = run(
        loaded,
        heads=None if heads is None else heads.replace(",", " ").split(),
        Cs=Cs,
        grids=parse_grids(grid or [], Cs),
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
        answer({**found.to_dict(), "plots": drawn})
        return
    _show(found, several=len(features) > 1)


def _numbers(text: str | None) -> list[float] | None:
    if text is None:
        return None
    words = text.replace(",", " ").split()
    try:
        numbers = [float(each) for each in words]
    except ValueError as error:
        raise FeatcacheError(f"--C {text!r}: expected numbers such as 0.001,0.01,0.1") from error
    if not numbers:
        raise FeatcacheError(f"--C {text!r}: no number was given; such as 0.001,0.01,0.1 would do")
    return numbers


def _show(found: Sweep, *, several: bool) -> None:
    for remark in dict.fromkeys([*found.remarks, *found.report.remarks]):
        say(f"note: {remark}")
    _show_candidates(found, several=several)
    show("", f"protocol   {found.protocol}")
    if found.nested:
        show(f"nested     {found.nested.accuracy:.4f} ({_words(found.nested.interval)}), "
             f"choosing included")  # fmt: skip
    tie = f"; the first of {found.equals} with this accuracy" if found.equals > 1 else ""
    report = found.report
    show(f"best       {found.best.label} on {found.best.features} ({found.best.tap}){tie}")
    show(f"accuracy   {report.accuracy:.4f} ({_words(report.interval)}) on {report.rows:,} images "
         f"that took no part in choosing")  # fmt: skip
    show(f"head       {found.head.path}")
    _show_learning_curve(found)
    show(f"time       {time_text(found.seconds)}")


def _show_candidates(found: Sweep, *, several: bool) -> None:
    """The table; those that could not be fitted stand below the others, each with its reason."""
    columns = ("accuracy", "95 % interval", "a fit", "size")
    names = (*["features", "layer", "numbers"] * several, "head", *columns)
    rows = [_row(each, several=several) for each in _ranked(found)]
    if found.not_fitted:
        names = (*names, "")
        rows = [(*row, "") for row in rows]
    rows += [
        (
            *[each.features, each.tap, ""] * several,
            each.label,
            *[""] * len(columns),
            f"not fitted: {each.reason}",
        )
        for each in found.not_fitted
    ]
    table(rows, names)


def _show_learning_curve(found: Sweep) -> None:
    if not found.learning_curve:
        return
    show("")
    rows = [
        (f"{point.images:,}", f"{point.accuracy:.4f}", _words(point.interval))
        for point in found.learning_curve
    ]
    table(rows, ("training images", "accuracy", "95 % interval"))
    told = found.gain.words if found.gain else "cannot be told: there is one size only"
    show(f"more images? {told}", "")


def _ranked(found: Sweep) -> list[Candidate]:
    """The best on top; of equals the one that was chosen."""
    return sorted(found.candidates, key=lambda each: -each.accuracy)


def _row(each: Candidate, *, several: bool) -> tuple[object, ...]:
    about = (each.label, f"{each.accuracy:.4f}", _words(each.interval))
    where = [each.features, each.tap, each.width] * several
    return (*where, *about, time_text(each.seconds), size_text(each.size))


def _words(interval: tuple[float, float]) -> str:
    return f"{interval[0]:.4f} to {interval[1]:.4f}"


def _bar(each: Candidate, found: Sweep) -> str:
    """The candidate's name in a picture: as much of its features as tells them apart."""
    files = len({other.features for other in found.candidates})
    if files == 1:
        return each.label
    is_tap_enough = len({other.tap for other in found.candidates}) == files
    return f"{each.tap if is_tap_enough else each.features.partition('/')[2]} · {each.label}"


def _draw(found: Sweep, plots: str) -> list[str]:
    from featcache.evaluation.plots.curves import draw_learning_curve, draw_sweep

    drawn = draw_judged(found, plots)
    bars = [(_bar(each, found), each.head, each.accuracy, each.interval) for each in _ranked(found)]
    paths = [draw_sweep(bars, Path(plots) / "sweep.png", heading=found.protocol)]
    if found.learning_curve:
        points = found.learning_curve
        sizes, scores = [each.images for each in points], [each.accuracy for each in points]
        paths.append(
            draw_learning_curve(
                sizes, scores, [each.interval for each in points],
                Path(plots) / "learning_curve.png", heading=f"{found.best.label}: more images?",
            )
        )  # fmt: skip
    return drawn + tell_drawn(paths)
