"""featcache predict"""

from __future__ import annotations

from typing import Annotated

import typer

from featcache.cli.console import command, say
from featcache.cli.options import (
    Batch,
    Cache,
    FollowLinks,
    HeadFile,
    Images,
    Json,
    Threads,
    TrustModel,
)
from featcache.cli.predict import deliver


def register(app: typer.Typer) -> None:
    app.command("predict")(command(predict))


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

    from featcache.heads.head import Head
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
    inputs = [images, *found.files(), str(head)]
    top = min(top, len(saved.classes))
    deliver(stream, top=top, out=out, inputs=inputs, json=json, about={"head": str(head)})
