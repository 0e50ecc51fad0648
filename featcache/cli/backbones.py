"""featcache backbones, layers"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from featcache.cli import options as o
from featcache.cli.console import answer, command, say, show, size_text, table

if TYPE_CHECKING:
    from featcache.backbones.listing import LayerRow
    from featcache.backbones.table import Backbone

_HEADING = (
    "backbone", "size", "width", "params M", "base M", "MB", "depth", "top-1", "top-5", "weights",
)  # fmt: skip


def register(app: typer.Typer) -> None:
    app.command("backbones")(command(backbones))
    app.command("layers")(command(layers))


def backbones(
    search: Annotated[str, typer.Option(help="Only names that hold this word.")] = "",
    measure: Annotated[
        bool, typer.Option("--measure", help="Time the networks on this machine; with --search.")
    ] = False,
    json: o.Json = False,
) -> None:
    """The networks there are: input size, width of the features, weight, published accuracy.

    params M and MB count the network with its ImageNet top, base M (millions of parameters)
    without it, as in extraction; depth is the layers with parameters. top-1 and top-5 are published
    figures on ImageNet, in percent. weights: embedded, here (Keras has them), or download.
    images/s (--measure) is the network alone at its default size, fed from memory.
    """
    from featcache.backbones.table import BACKBONES

    found = [row for row in BACKBONES.values() if search.lower() in row.name]
    records = [_record(row) for row in found]
    if measure:
        for row, record in zip(found, records, strict=True):
            record["measured"] = _measured(row)
    if json:
        answer({"backbones": records})
        return
    heading = (*_HEADING, "images/s", "runtime", "batch") if measure else _HEADING
    table([_cells(record) for record in records], heading)
    for source in dict.fromkeys(record["published_by"] for record in records):
        names = [record["name"] for record in records if record["published_by"] == source]
        shown = ", ".join(names) if len(names) < 4 else f"{len(names)} networks"
        show(f"top-1, top-5 of {shown}: {source}")


def _record(row: Backbone) -> dict[str, Any]:
    from featcache.backbones.table import published, whereabouts

    figures = published(row)
    return {
        "name": row.name,
        "size": row.size,
        "width": row.width,
        "parameters": figures.parameters,
        "base_parameters": figures.base_parameters,
        "megabytes": round(figures.megabytes, 1),
        "depth": figures.depth,
        "top1": figures.top1,
        "top5": figures.top5,
        "published_by": figures.source,
        "source": row.source,
        "weights": whereabouts(row),
    }


def _measured(row: Backbone) -> dict[str, Any]:
    from featcache.runtimes.throughput import measure_throughput

    say(f"timing {row.name}")
    speed = measure_throughput(row)
    return {
        "images_per_second": round(speed.images_per_second, 2),
        "runtime": speed.runtime,
        "batch": speed.batch,
    }


def _cells(record: dict[str, Any]) -> tuple[object, ...]:
    cells: list[object] = [record[key] for key in ("name", "size", "width")]
    cells += [f"{record[key] / 1e6:.1f}" for key in ("parameters", "base_parameters")]
    cells += [f"{record['megabytes']:.0f}", record["depth"]]
    cells += ["-" if record[key] is None else f"{record[key]:.1f}" for key in ("top1", "top5")]
    cells.append(record["weights"])
    if measured := record.get("measured"):
        speed = measured["images_per_second"]
        cells += [f"{speed:.1f}", measured["runtime"], measured["batch"]]
    return tuple(cells)


def layers(
    backbone: Annotated[
        str, typer.Argument(help="A network of `featcache backbones`, or your own model's path.")
    ],
    search: Annotated[
        str, typer.Option(help="Only names, classes and aliases that hold this word.")
    ] = "",
    trust_model: o.TrustModel = False,
    json: o.Json = False,
) -> None:
    """The layers of a backbone that --layer can tap, with their output shapes.

    cut: the graph can be cut here, since all that follows reads the input through this one output.
    alias: a name for --layer that is the same in every network. top: a layer of the ImageNet
    classifier. numbers and size: of one image's unpooled output in float32.
    """
    every, words = _layers_of(backbone, trusted=trust_model)
    word = search.lower()
    found = [layer for layer in every if word in f"{layer.name} {layer.kind} {layer.alias}".lower()]
    if json:
        answer(
            {
                "backbone": backbone,
                "about": words,
                "layers": [_layer_record(layer) for layer in found],
            }
        )
        return
    table(
        [_layer_cells(layer) for layer in found],
        ("layer", "class", "shape", "numbers", "size", "cut", "alias", "part"),
    )
    show(f"{len(found)} of {len(every)} layers; {words}")


def _layers_of(backbone: str, *, trusted: bool) -> tuple[list[LayerRow], str]:
    """The layers, and what can be done with the network."""
    from featcache.backbones.listing import list_layers, list_user_layers
    from featcache.backbones.table import find_backbone
    from featcache.backbones.tuned import TunedBackbone
    from featcache.backbones.user_models.user_network import is_user_model

    tuned = TunedBackbone.find(backbone)
    backbone = tuned.backbone if tuned else backbone
    if is_user_model(backbone):
        return list_user_layers(Path(backbone), trusted=trusted)
    row = find_backbone(backbone)
    say(f"building {row.name} at {row.size}x{row.size}")
    return list_layers(row), f"shapes at {row.size}x{row.size} pixels"


def _layer_record(layer: LayerRow) -> dict[str, Any]:
    return {
        "name": layer.name,
        "class": layer.kind,
        "shape": layer.shape,
        "numbers": layer.numbers,
        "bytes": layer.bytes,
        "cut": layer.cut,
        "alias": layer.alias,
        "top": layer.top,
    }


def _layer_cells(layer: LayerRow) -> tuple[object, ...]:
    return (
        layer.name,
        layer.kind,
        "x".join(map(str, layer.shape)),
        layer.numbers,
        size_text(layer.bytes),
        "cut" if layer.cut else "",
        layer.alias,
        "top" if layer.top else "",
    )
