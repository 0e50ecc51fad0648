"""featcache info, ls, rm, gc: looking after the cache"""

from __future__ import annotations

import sys
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from featcache.cli import options as o
from featcache.cli.console import agreed, answer, command, say, show, size_text, table
from featcache.cli.verify import entry_of
from featcache.errors import FeatcacheError, StorageFailure

if TYPE_CHECKING:
    from featcache.features.features import Features
    from featcache.features.finding import Entry
    from featcache.features.store.records import GcResult

#: Files that are listed by name.
_SHOWN = 20

SomeFeatures = Annotated[
    str | None, typer.Argument(help="A path or a name.", show_default="everything in the cache")
]


def register(app: typer.Typer) -> None:
    for name, function in (
        ("info", info), ("ls", ls), ("rm", rm), ("gc", gc),
    ):  # fmt: skip
        app.command(name)(command(function))


def info(features: o.FeaturesName, cache: o.Cache = None, json: o.Json = False) -> None:
    """What a file of features holds, and what made it."""
    from featcache.features.cache import load

    found = load(features, cache=cache)
    record = _describe(found)
    if json:
        answer(record)
        return
    for name in ("features", "rows", "width", "dtype", "bytes", "classes", "splits", "groups",
                 "failed"):  # fmt: skip
        show(f"{name:<11}{record[name]}")
    for column, values in record["metadata"].items():
        show(f"{'metadata':<11}{column}: {values:,} different values")
    show(f"{'key':<11}{found.recipe.key}")
    for name, value in {**record["recipe"], **record["provenance"]}.items():
        show(f"  {name:<28}{value}")
    for failure in found.failures[:10]:
        show(f"failed     {failure.path}: {failure.message}")


def _describe(found: Features) -> dict[str, Any]:
    import json as json_module

    from featcache.features.store.packed_file import open_packed

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
        "groups": len(set(found.groups.tolist()) - {""}),
        "metadata": {
            name: len(set(column.tolist()) - {""}) for name, column in found.metadata.items()
        },
        "failed": len(found.failures),
        "failures": [{"path": f.path, "message": f.message} for f in found.failures],
        "key": found.recipe.key,
        "recipe": json_module.loads(packed.recipe),
        "provenance": json_module.loads(packed.provenance),
    }


def ls(cache: o.Cache = None, json: o.Json = False) -> None:
    """The data sets and recipes of the cache."""
    from featcache.features.cache import FeatureCache

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
    from featcache.features.cache import folder_size
    from featcache.features.features import open_features

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
    from featcache.cli.extract import finishing_command

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
    features: o.FeaturesName,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    cache: o.Cache = None,
    json: o.Json = False,
) -> None:
    """Delete the features of one data set under one recipe, with the heads beside them."""
    from featcache.features.cache import FeatureCache, folder_size

    opened = FeatureCache.open(cache)
    entry = opened.find_whole(features)
    size = size_text(folder_size(entry.directory))
    if not yes and not agreed(f"Delete {entry.name} ({size})?"):
        raise FeatcacheError("nothing was deleted")
    entry, result = opened.remove(features)
    if json:
        answer({"removed": entry.name, "files": result.files, "bytes": result.bytes,
                "left": [str(path) for path in result.unrecognised]})  # fmt: skip
        return
    show(f"deleted {entry.name}, {size_text(result.bytes)} freed")
    _say_left(result.unrecognised)


def _say_left(paths: list[Path]) -> None:
    """What was not deleted, since nothing says that featcache wrote it."""
    for path in paths[:_SHOWN]:
        say(f"left, not recognised as featcache's: {path}")
    if len(paths) > _SHOWN:
        say(f"and {len(paths) - _SHOWN} more")


def gc(
    features: SomeFeatures = None,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Delete also rows that are nowhere else.")
    ] = False,
    cache: o.Cache = None,
    json: o.Json = False,
) -> None:
    """Delete what is not needed: rows whose image left the folder, quarantine, stale drafts.

    Rows that are nowhere else are deleted after a question, or with --yes. Without FEATURES also
    compiled networks that were not used for 30 days.
    """
    from featcache.features.cache import FeatureCache
    from featcache.features.store.records import GcResult
    from featcache.runtimes.kept_graphs import delete_unused_graphs

    opened = FeatureCache.open(cache)
    entries = [entry_of(features, cache)] if features else opened.entries()
    spared = {entry: opened.last_copies(entry) for entry in entries}
    rows = sum(sum(files.values()) for files in spared.values())
    asks = rows and not json and sys.stdin.isatty()  # without a person at the terminal it is a no
    if yes or (asks and typer.confirm(f"Delete {rows:,} rows that are nowhere else?", err=True)):
        spared, rows = {}, 0
    done = GcResult()
    for entry in entries:
        done += _collect(entry, list(spared.get(entry, {})))
    graphs, graph_bytes = (0, 0) if features else delete_unused_graphs()
    if json:
        answer({"files": done.files, "bytes": done.bytes,
                "checked": [entry.name for entry in entries], "kept_rows": rows,
                "left": [str(path) for path in done.unrecognised],
                "graphs": graphs, "graph_bytes": graph_bytes})  # fmt: skip
        return
    show(f"{done.files} files deleted, {size_text(done.bytes)} freed")
    if rows:
        show(f"{rows:,} rows kept, whose image left its folder: they are nowhere else. --yes "
             f"deletes them")  # fmt: skip
    if graphs:
        show(f"{graphs} unused compiled networks and notes deleted, {size_text(graph_bytes)} freed")
    _say_left(done.unrecognised)


def _collect(entry: Entry, spare: list[Path]) -> GcResult:
    """Clear one entry; one that a link leads to stays as it is, and is listed."""
    from featcache.features.store.clearing import collect
    from featcache.features.store.records import GcResult

    try:
        return collect(entry.directory, spare)
    except StorageFailure:
        raise
    except FeatcacheError as error:
        say(f"note: {error}")
        return GcResult(unrecognised=[entry.directory])
