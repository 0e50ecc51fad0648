"""featcache fit-head, predict"""

from __future__ import annotations

from typing import Annotated

import typer

from featcache.cli.console import answer, command, say, show, time_text
from featcache.cli.judging import show_report
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


def register(app: typer.Typer) -> None:
    app.command("fit-head")(command(fit_head))
    app.command("predict")(command(predict))


def fit_head(
    features: FeaturesName,
    head: Annotated[str, typer.Option(help="The kind of head: logreg.")] = "logreg",
    c: Annotated[
        float | None,
        typer.Option("--C", help="Inverse penalty.", show_default="by cross-validation"),
    ] = None,
    seed: Annotated[int, typer.Option(help="Which rows are held out, if no split says so.")] = 0,
    out: Annotated[
        str | None, typer.Option(help="The head's file.", show_default="beside its features")
    ] = None,
    cache: Cache = None,
    json: Json = False,
) -> None:
    """Train a head on cached vectors and judge it on rows it has not seen."""
    from featcache.api import load
    from featcache.fitting import fit

    fitted = fit(load(features, cache=cache), head=head, C=c, seed=seed, out=out, say=say)
    report = fitted.report
    if json:
        answer(
            {
                **report.to_dict(),
                "head": str(fitted.head.path),
                "seconds": round(fitted.seconds, 3),
                "settings": fitted.head.model.settings,
            }
        )
        return
    show(f"head       {fitted.head.path}")
    show_report(report)
    show(f"time       {time_text(fitted.seconds)}")


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
