"""featcache verify, repair: what is damaged, and what can be kept of it"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from featcache.cli import options as o
from featcache.cli.console import answer, command, say, show
from featcache.errors import DamagedFile, FeatcacheError
from featcache.files.home import expanded

if TYPE_CHECKING:
    from collections.abc import Iterator

    from featcache.features.finding import Entry
    from featcache.features.store.records import Problem
    from featcache.verification import Looked

SomeVerified = Annotated[
    str | None,
    typer.Argument(
        help="A path or a name; the path of a head or of a fine-tuned backbone too.",
        show_default="everything in the cache",
    ),
]


def register(app: typer.Typer) -> None:
    for name, function in (("verify", verify), ("repair", repair)):
        app.command(name)(command(function))


def verify(features: SomeVerified = None, cache: o.Cache = None, json: o.Json = False) -> None:
    """Check every byte against its checksums; exit code 4 where damage is found.

    Looks at features, their parts and the heads beside them; given a path, also at a head or the
    folder of a fine-tuned backbone, wherever it lies.
    """
    looked = []
    for found in _verified(features, cache):
        looked.append(found)
        if not json:
            show(f"{found.name}  {found.state}{_count_text(found)}")
        for problem in found.problems:
            say(f"  {problem.path}: {problem.reason}{_rows_text(problem)}")
        for remark in found.remarks:
            say(f"  note: {remark}")
    problems = [problem for found in looked for problem in found.problems]
    if json:
        records = [found.to_dict() for found in looked]
        answer({"checked": [found.name for found in looked],
                "problems": [problem for record in records for problem in record["problems"]],
                "looked_at": records})  # fmt: skip
    elif not looked:
        show("the cache is empty: there was nothing to check")
    else:
        show(_summary(looked))
    if problems:
        if json:
            raise typer.Exit(DamagedFile.exit_code)
        raise DamagedFile(f"{len(problems)} damaged files{_advice(looked)}")
    if unchecked := [found.name for found in looked if found.state == "not checked"]:
        if json:
            raise typer.Exit(FeatcacheError.exit_code)
        raise FeatcacheError(f"{', '.join(unchecked)}: could not be checked; the notes say why")


def _verified(features: str | None, cache: str | Path | None) -> Iterator[Looked]:
    """What was looked at, one after the other."""
    from featcache.features.cache import FeatureCache
    from featcache.verification import verify_cache, verify_entry, verify_path

    if features is None:
        yield from verify_cache(FeatureCache.open(cache))
    else:
        yield verify_path(expanded(features)) or verify_entry(entry_of(features, cache))


def _count_text(looked: Looked) -> str:
    """How much was looked at, in brackets."""
    counts = [
        f"{count:,} {word}{'' if count == 1 else 's'}"
        for count, word in ((looked.rows, "row"), (looked.files, "file"), (looked.heads, "head"))
        if count
    ]
    return f" ({', '.join(counts)})" if counts else ""


def _summary(looked: list[Looked]) -> str:
    files, rows, heads = (
        sum(getattr(each, name) for each in looked) for name in ("files", "rows", "heads")
    )
    damaged = sum(each.state == "damaged" for each in looked)
    return (
        f"looked at {len(looked)}: {files:,} files, {rows:,} rows, {heads:,} heads; "
        f"{damaged or 'none'} damaged"
    )


def _advice(looked: list[Looked]) -> str:
    """What to do, where features are among what is damaged."""
    if all(found.kind != "features" for found in looked if found.problems):
        return ""
    return (
        ". `featcache repair` keeps the good rows of features, then the same `featcache extract` "
        "computes the rest"
    )


def _rows_text(problem: Problem) -> str:
    if not problem.rows:
        return ""
    more = "..." if len(problem.rows) > 8 else ""
    return f" (rows {', '.join(str(row) for row in problem.rows[:8])}{more})"


def repair(features: o.FeaturesName, cache: o.Cache = None, json: o.Json = False) -> None:
    """Keep the good rows of damaged files; the next extract recomputes the rest."""
    from featcache.verification import repair_entry

    entry = entry_of(features, cache)
    result = repair_entry(entry)
    if json:
        answer({"features": entry.name, "kept": result.kept, "lost": result.lost,
                "moved": [str(path) for path in result.moved]})  # fmt: skip
        return
    if not (result.moved or result.kept):
        show(f"{entry.name} is sound: nothing to repair")
        return
    heads = [path for path in result.moved if path.suffix == ".head"]
    for path in result.moved:
        show(f"moved aside: {path}{' (fit it again)' if path in heads else ''}")
    if heads == result.moved and not result.kept:
        return
    show(f"{entry.name}: {result.kept:,} good rows kept, {result.lost:,} rows lost")
    if not result.kept:
        show("Damaged beyond what can be told apart: no row of these files could be kept.")
    show("Run the same `featcache extract` again: it computes only what is missing.")


def entry_of(features: str, cache: str | Path | None) -> Entry:
    """The entry that is meant: by its name, or by the path of one of its files, sound or not."""
    from featcache.features.cache import FeatureCache
    from featcache.features.finding import PARTS, Entry, is_keyed
    from featcache.files.write import holds_features

    path = expanded(features).absolute()
    folder = path.parent.parent if path.parent.name == PARTS else path.parent
    # Its name and place identify it, even where its bytes are damaged.
    if path.is_file() and path.suffix == ".h5" and (holds_features(path) or is_keyed(folder)):
        return Entry(folder)
    return FeatureCache.open(cache).find(features)
