"""featcache info, ls, rm, gc: looking after the cache"""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from featcache.cli.console import answer, command, printable, show, size_text, table
from featcache.cli.options import Cache, FeaturesName, Json
from featcache.cli.verifying import entry_of
from featcache.errors import FeatcacheError

if TYPE_CHECKING:
    from featcache.cache import Entry
    from featcache.features import Features

SomeFeatures = Annotated[
    str | None, typer.Argument(help="A path or a name.", show_default="everything in the cache")
]


def register(app: typer.Typer) -> None:
    for name, function in (
        ("info", info), ("ls", ls), ("rm", rm), ("gc", gc),
    ):  # fmt: skip
        app.command(name)(command(function))


def info(features: FeaturesName, cache: Cache = None, json: Json = False) -> None:
    """What a file of features holds, and what made it."""
    from featcache.api import load

    found = load(features, cache=cache)
    record = _describe(found)
    if json:
        answer(record)
        return
    for name in ("features", "rows", "width", "dtype", "bytes", "classes", "splits", "failed"):
        show(f"{name:<11}{record[name]}")
    show(f"{'key':<11}{found.recipe.key}")
    for name, value in {**record["recipe"], **record["provenance"]}.items():
        show(f"  {name:<28}{value}")
    for failure in found.failures[:10]:
        show(f"failed     {failure.path}: {failure.message}")


def _describe(found: Features) -> dict[str, Any]:
    import json as json_module

    from featcache.store import open_packed

    packed = open_packed(found.path)
    splits = {
        name or "none": int((found.splits == name).sum()) for name in sorted(set(found.splits))
    }
    return {
        "features": str(found.path),
        "rows": len(found),
        "shape": list(packed.vectors.shape),
        "width": found.width,
        "dtype": found.recipe.dtype,
        "bytes": found.path.stat().st_size,
        "classes": len(found.classes),
        "class_names": found.classes,
        "splits": splits,
        "failed": len(found.failures),
        "failures": [{"path": f.path, "message": f.message} for f in found.failures],
        "key": found.recipe.key,
        "recipe": json_module.loads(packed.recipe),
        "provenance": json_module.loads(packed.provenance),
    }


def ls(cache: Cache = None, json: Json = False) -> None:
    """The data sets and recipes of the cache."""
    from featcache.cache import FeatureCache

    opened = FeatureCache.open(cache)
    rows = [_row(entry, cache) for entry in opened.entries()]
    if json:
        answer({"cache": str(opened.directory), "features": rows})
    elif rows:
        cells = [
            (r["name"], r["rows"], r["width"], size_text(r["bytes"]), r["state"], r["recipe"])
            for r in rows
        ]
        table(cells, ("features", "rows", "width", "on disk", "state", "recipe"))
        for row in rows:
            if row["state"] == "interrupted":
                show(f"{row['name']} was interrupted: {row['rows']:,} rows are saved; {_how(row)}")
    else:
        show(f"the cache {opened.directory} is empty: `featcache extract` fills it")


def _how(row: dict[str, Any]) -> str:
    """How to finish an entry."""
    if row["finish"]:
        return f"this finishes it:\n  {row['finish']}"
    return "the same `featcache extract` as before finishes it"


def _row(entry: Entry, cache: str | None) -> dict[str, Any]:
    from featcache.cache import folder_size
    from featcache.features import open_features

    parts = len(list((entry.directory / "parts").glob("p-*.h5")))
    row: dict[str, Any] = {"name": entry.name, "rows": 0, "width": 0, "parts": parts, "finish": ""}
    row |= {"bytes": folder_size(entry.directory), "recipe": entry.summary}
    try:
        if not entry.packed.exists():
            return row | _interrupted(entry, cache)
        found = open_features(entry.packed)
        row |= {"rows": len(found), "width": found.width, "state": "ready"}
    except FeatcacheError as error:
        row["state"] = f"damaged: {error}"
    return row


def _interrupted(entry: Entry, cache: str | None) -> dict[str, Any]:
    """What is saved of an extraction that was killed, or that `repair` left."""
    from featcache.cli.finishing import finishing_command

    snapshot = entry.store().snapshot()
    if snapshot.problems and not len(snapshot):
        return {"state": f"damaged: {snapshot.problems[0].reason}; run `featcache repair`"}
    if not len(snapshot):
        return {"state": "empty", "recipe": "" if not snapshot.files else entry.summary}
    return {
        "rows": len(snapshot),
        "width": prod(snapshot.row_shape or (0,)),
        "state": "interrupted",
        "finish": finishing_command(entry, snapshot, cache),
    }


def rm(
    features: FeaturesName,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    cache: Cache = None,
    json: Json = False,
) -> None:
    """Delete the features of one data set under one recipe, with the heads beside them."""
    from featcache.cache import FeatureCache, folder_size

    opened = FeatureCache.open(cache)
    entry = opened.find(features)
    size = size_text(folder_size(entry.directory))
    if not yes and not typer.confirm(f"Delete {printable(entry.name)} ({size})?", err=True):
        raise FeatcacheError("nothing was deleted")
    entry, freed = opened.remove(features)
    if json:
        answer({"removed": entry.name, "bytes": freed})
    else:
        show(f"deleted {entry.name}, {size_text(freed)} freed")


def gc(features: SomeFeatures = None, cache: Cache = None, json: Json = False) -> None:
    """Delete what nobody needs: rows whose image left the folder, quarantine, stale drafts.

    Without FEATURES also compiled networks that were not used for 30 days.
    """
    from featcache.runtimes.kept import delete_unused_graphs

    entries = _entries(features, cache)
    results = {entry.name: entry.store().gc() for entry in entries}
    files = sum(result.files for result in results.values())
    freed = sum(result.bytes for result in results.values())
    graphs, graph_bytes = (0, 0) if features else delete_unused_graphs()
    if json:
        answer({"files": files, "bytes": freed, "checked": list(results),
                "graphs": graphs, "graph_bytes": graph_bytes})  # fmt: skip
        return
    show(f"{files} files deleted, {size_text(freed)} freed")
    if graphs:
        show(f"{graphs} unused compiled networks and notes deleted, {size_text(graph_bytes)} freed")


def _entries(features: str | None, cache: str | Path | None) -> list[Entry]:
    from featcache.cache import FeatureCache

    return [entry_of(features, cache)] if features else FeatureCache.open(cache).entries()
