"""featcache classify"""

from __future__ import annotations

from typing import Annotated

import typer

from featcache.cli import options as o
from featcache.cli.console import command, say
from featcache.cli.predict import deliver


def register(app: typer.Typer) -> None:
    app.command("classify")(command(classify))


def classify(
    images: o.Images,
    backbone: Annotated[
        str, typer.Option(help="A network of `featcache backbones`, or your own classifier's path.")
    ] = "efficientnet_lite0",
    weights: o.Weights = None,
    scale: o.Scale = None,
    trust_model: o.TrustModel = False,
    size: Annotated[
        str | None, typer.Option(help="Input size of a classifier of your own: S or HxW.")
    ] = None,
    top: Annotated[int, typer.Option(min=1, max=1000, help="Classes named for an image.")] = 5,
    out: Annotated[
        str | None, typer.Option(help="Write a .csv or .json file instead of printing.")
    ] = None,
    threads: o.Threads = None,
    follow_symlinks: o.FollowLinks = False,
    json: o.Json = False,
) -> None:
    """What a backbone sees in images: the names of ImageNet's 1000 classes and probabilities.

    Nothing is trained or cached; efficientnet_lite0 needs no download.
    """
    import joblib

    from featcache.backbones.opening import BackboneSource
    from featcache.heads.imagenet import classify as classified
    from featcache.images import find_images
    from featcache.images.first_look import require_an_image

    side = None if size is None else o.parse_size(size)
    source = BackboneSource(weights, side, scale, trust_model)
    found = find_images(images, follow_symlinks=follow_symlinks)
    require_an_image(found)
    for remark in found.remarks:
        say(f"note: {remark}")
    threads = threads or joblib.cpu_count()
    stream = classified(found, backbone, source, top=top, threads=threads, say=say)
    deliver(stream, top=top, out=out, inputs=[images, *found.files()], json=json,
            about={"backbone": backbone})  # fmt: skip
