"""featcache fit-head"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from featcache.cli import options as o
from featcache.cli.console import answer, command, say, show, time_text
from featcache.cli.judgement import draw_judged, show_report

if TYPE_CHECKING:
    from featcache.heads.head import Head

#: What is no option of a kind of head.
OF_THE_COMMAND = ("features", "head", "seed", "out", "calibrate", "plots", "cache", "json")


class _SeveralNumbers(TyperCommand):
    """`--hidden 1024 64` and `--hidden=1024 64` mean `--hidden 1024 --hidden 64`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        spread: list[str] = []
        inside = False
        for argument in args:
            number = argument.isdecimal()
            if inside and number and spread[-1] != "--hidden":
                spread.append("--hidden")
            begins = argument == "--hidden" or argument.startswith("--hidden=")
            inside = begins or (inside and number)
            spread.append(argument)
        return list(super().parse_args(ctx, spread))


def register(app: typer.Typer) -> None:
    app.command("fit-head", cls=_SeveralNumbers)(command(fit_head))


def _of(heads: str, words: str, default: str) -> Any:
    """An option of some heads: which, what it is, and what holds where it is not given."""
    return typer.Option(help=words, show_default=default, rich_help_panel=f"Options of {heads}")


def _switch(names: str, words: str) -> Any:
    return typer.Option(names, help=words, show_default=False, rich_help_panel="Options of dense")


def fit_head(
    features: o.FeaturesName,
    head: Annotated[
        str, typer.Option(help="Kind of head: logreg, dense, knn, centroid, ridge or svm.")
    ] = "logreg",
    seed: Annotated[
        int, typer.Option(min=0, help="Decides which rows are held out, and every random number.")
    ] = 0,
    out: Annotated[
        str | None, typer.Option(help="The head's file.", show_default="beside its features")
    ] = None,
    calibrate: Annotated[
        bool,
        typer.Option("--calibrate", help="Set a temperature on rows that neither fit nor judge."),
    ] = False,
    c: Annotated[
        float | None,
        typer.Option(
            "--C",
            help="Inverse strength of the penalty: small is simple.",
            show_default="logreg: by cross-validation; svm: 0.001",
            rich_help_panel="Options of logreg and svm",
        ),
    ] = None,
    class_weight: Annotated[
        str | None,
        _of(
            "every head but centroid",
            "balanced: every class counts the same; none: every row.",
            "none",
        ),
    ] = None,
    hidden: Annotated[
        list[int] | None, _of("dense", "Units of the hidden layers: --hidden 1024 64.", "none")
    ] = None,
    dropout: Annotated[
        float | None,
        _of("dense", "Share dropped after hidden layers, or of the vectors: 0, or below 1.", "0"),
    ] = None,
    batch_norm: Annotated[
        bool | None, _switch("--batch-norm", "Normalise after hidden layers, or the vectors.")
    ] = None,
    activation: Annotated[
        str | None,
        _of("dense", "Of hidden layers: relu, elu, silu, sigmoid, tanh or linear.", "relu"),
    ] = None,
    optimizer: Annotated[str | None, _of("dense", "adam, rmsprop or sgd.", "adam")] = None,
    learning_rate: Annotated[
        float | None, _of("dense", "Step size of the optimizer.", "0.001")
    ] = None,
    epochs: Annotated[int | None, _of("dense", "How many epochs at most.", "20")] = None,
    batch_size: Annotated[int | None, _of("dense", "Images in a step.", "100")] = None,
    steps_per_epoch: Annotated[
        int | None, _of("dense", "Batches in an epoch.", "every image once")
    ] = None,
    label_smoothing: Annotated[
        float | None,
        _of("dense", "Share of a label that is spread over all classes: 0, or below 1.", "0"),
    ] = None,
    patience: Annotated[
        int | None, _of("dense", "Stop after N epochs without a better validation loss.", "never")
    ] = None,
    stop_at: Annotated[
        float | None,
        _of("dense", "Stop when training and validation accuracy both reach it.", "never"),
    ] = None,
    standardize: Annotated[
        bool | None,
        _switch("--standardize/--no-standardize", "Subtract means, divide by deviations first."),
    ] = None,
    binary_sigmoid: Annotated[
        bool | None, _switch("--binary-sigmoid", "Two classes: one sigmoid output, as Dense(1).")
    ] = None,
    neighbors: Annotated[
        int | None, _of("knn", "How many of the nearest training images vote.", "10")
    ] = None,
    metric: Annotated[
        str | None, _of("knn and centroid", "What nearest means: cosine or euclidean.", "cosine")
    ] = None,
    alpha: Annotated[
        float | None, _of("ridge", "Strength of the penalty.", "by leave-one-out")
    ] = None,
    plots: o.Plots = None,
    cache: o.Cache = None,
    json: o.Json = False,
) -> None:
    """Train a head on cached vectors and judge it on rows it has not seen."""
    given = {
        name: value
        for name, value in locals().items()
        if name not in OF_THE_COMMAND and value not in (None, [])
    }
    if "c" in given:
        given["C"] = given.pop("c")
    from featcache.features.cache import load
    from featcache.fitting.fit_head import fit

    fitted = fit(
        load(features, cache=cache),
        head=head,
        seed=seed,
        out=out,
        calibrate=calibrate,
        say=say,
        **given,
    )
    report, settings = fitted.report, fitted.head.model.settings
    drawn = draw_judged(fitted, plots)
    if json:
        answer(
            {
                **report.to_dict(),
                "plots": drawn,
                "head": str(fitted.head.path),
                "seconds": round(fitted.seconds, 3),
                "settings": settings,
            }
        )
        return
    show(f"head       {fitted.head.path}")
    if words := _parameters(fitted.head):
        show(f"parameters {words}")
    show_report(report)
    show(f"time       {time_text(fitted.seconds)}")


def _parameters(head: Head) -> str:
    """Those of a dense head and of the network below it, "" where these are not known."""
    from featcache.backbones.table import BACKBONES, published

    own, recipe = head.model.settings.get("parameters"), head.recipe
    if own is None or recipe.layer or recipe.backbone not in BACKBONES:
        return ""
    base = published(BACKBONES[recipe.backbone]).base_parameters
    return (
        f"{base + own['total']:,} ({own['trainable']:,} trainable, in the head; "
        f"{base + own['frozen']:,} frozen, {recipe.backbone}'s included)"
    )
