"""featcache backbones, layers"""

from __future__ import annotations

from typing import Annotated

import typer

from featcache.cli.console import answer, command, say, show, table
from featcache.cli.options import Json


def register(app: typer.Typer) -> None:
    app.command("backbones")(command(backbones))
    app.command("layers")(command(layers))


def backbones(
    search: Annotated[str, typer.Option(help="Only names that hold this word.")] = "",
    json: Json = False,
) -> None:
    """The networks there are, with their input size and the width of their features."""
    from featcache.backbones import BACKBONES

    found = [row for row in BACKBONES.values() if search.lower() in row.name]
    rows = [(row.name, row.size, row.width, row.source) for row in found]
    if json:
        names = ("name", "size", "width", "source")
        answer({"backbones": [dict(zip(names, row, strict=True)) for row in rows]})
    else:
        table(rows, ("backbone", "size", "width", "weights"))


def layers(
    backbone: Annotated[str, typer.Argument(help="A network of `featcache backbones`.")],
    json: Json = False,
) -> None:
    """The layers of a backbone that --layer can tap, with their output shapes."""
    from featcache.backbones import find_backbone, list_layers

    row = find_backbone(backbone)
    say(f"building {row.name} at {row.size}x{row.size}")
    found = list_layers(row)
    if json:
        answer({"backbone": row.name, "layers": [{"name": n, "shape": s} for n, s in found]})
        return
    table([(name, "x".join(map(str, shape))) for name, shape in found], ("layer", "shape"))
    show(f"{len(found)} layers at {row.size}x{row.size} pixels")
