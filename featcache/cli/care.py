"""featcache info, ls, verify, repair, rm, gc: looking after the cache"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from featcache.cli.console import agreed, answer, command, say, show, size_text, table
from featcache.cli.options import Cache, FeaturesName, Json
from featcache.errors import DamagedFile, FeatcacheError

if TYPE_CHECKING:
    from featcache.cache import Entry
    from featcache.features import Features
    from featcache.store import Problem

SomeFeatures = Annotated[
    str | None, typer.Argument(help="A path or a name.", show_default="everything in the cache")
]


def register(app: typer.Typer) -> None:
    for name, function in (
        ("info", info), ("ls", ls), ("verify", verify), ("repair", repair), ("rm", rm), ("gc", gc),
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
    rows = [_row(entry) for entry in opened.entries()]
    if json:
        answer({"cache": str(opened.directory), "features": rows})
    elif rows:
        cells = [
            (r["name"], r["rows"], r["width"], size_text(r["bytes"]), r["state"], r["recipe"])
            for r in rows
        ]
        table(cells, ("features", "rows", "width", "on disk", "state", "recipe"))
    else:
        show(f"the cache {opened.directory} is empty: `featcache extract` fills it")


def _row(entry: Entry) -> dict[str, Any]:
    from featcache.cache import folder_size
    from featcache.features import open_features

    parts = len(list((entry.directory / "parts").glob("p-*.h5")))
    row: dict[str, Any] = {"name": entry.name, "rows": 0, "width": 0, "parts": parts}
    row |= {"bytes": folder_size(entry.directory), "recipe": entry.summary}
    row["state"] = "interrupted" if parts else "empty"
    if entry.packed.exists():
        try:
            found = open_features(entry.packed)
            row |= {"rows": len(found), "width": found.width, "state": "ready"}
        except FeatcacheError as error:
            row["state"] = f"damaged: {error}"
    return row


def verify(features: SomeFeatures = None, cache: Cache = None, json: Json = False) -> None:
    """Check every byte against its checksums; exit code 4 where damage is found."""
    entries = _entries(features, cache)
    found = {entry: entry.store().verify() for entry in entries}
    problems = [problem for listed in found.values() for problem in listed]
    if json:
        answer({"checked": [e.name for e in entries], "problems": [_plain(p) for p in problems]})
    for entry, listed in found.items():
        if not json:
            show(f"{entry.name}  {'damaged' if listed else 'sound'}")
        for problem in listed:
            say(f"  {problem.path}: {problem.reason}{_rows_text(problem)}")
    if problems:
        if json:
            raise typer.Exit(DamagedFile.exit_code)
        raise DamagedFile(
            f"{len(problems)} damaged files. `featcache repair` keeps the good rows, then the same "
            f"`featcache extract` computes the rest"
        )


def _plain(problem: Problem) -> dict[str, Any]:
    return {"path": str(problem.path), "reason": problem.reason, "rows": problem.rows}


def _rows_text(problem: Problem) -> str:
    if not problem.rows:
        return ""
    more = "..." if len(problem.rows) > 8 else ""
    return f" (rows {', '.join(str(row) for row in problem.rows[:8])}{more})"


def repair(features: FeaturesName, cache: Cache = None, json: Json = False) -> None:
    """Keep the good rows of damaged files; the next extract recomputes the rest."""
    entry = _entries(features, cache)[0]
    result = entry.store().repair()
    if json:
        answer({"features": entry.name, "kept": result.kept, "lost": result.lost,
                "moved": [str(path) for path in result.moved]})  # fmt: skip
        return
    if not result.moved:
        show(f"{entry.name} is sound: nothing to repair")
        return
    show(f"{entry.name}: {result.kept:,} good rows kept, {result.lost:,} rows lost")
    for path in result.moved:
        show(f"moved aside: {path}")
    show("Run the same `featcache extract` again: it computes only what is missing.")


def rm(
    features: FeaturesName,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    cache: Cache = None,
    json: Json = False,
) -> None:
    """Delete the features of one data set under one recipe, with the heads beside them."""
    from featcache.cache import FeatureCache, folder_size

    opened = FeatureCache.open(cache)
    entry = opened.find_whole(features)
    size = size_text(folder_size(entry.directory))
    if not yes and not agreed(f"Delete {entry.name} ({size})?"):
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

    opened = FeatureCache.open(cache)
    return [opened.find(features)] if features else opened.entries()
