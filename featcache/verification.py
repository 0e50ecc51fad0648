"""Verification: everything that was written here, looked at byte by byte.

Features and their parts, the heads beside them, folders of fine-tuned backbones. Damage in one
of them does not keep the others from being checked.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from featcache.backbones.tuned_record import (
    HEAD,
    RECORD,
    file_problems,
    has_ended_well,
    is_digested,
    read_tuned_record,
)
from featcache.errors import DamagedFile, FeatcacheError, StorageFailure
from featcache.features.cache import FeatureCache
from featcache.features.finding import PACKED, Entry
from featcache.features.store.care import verify_file
from featcache.features.store.records import Problem, RepairResult
from featcache.heads.head import Head

#: Of what has no digest, because an earlier version wrote it.
NO_DIGEST = "version 1, which has no digest: written again, it has one"


@dataclass(frozen=True, slots=True)
class Looked:
    """What was looked at, and what was found.

    Attributes
    ----------
    kind: "features", "head" or "tuned".
    state: "sound", "damaged", "interrupted" (rows in parts, and no `features.h5` yet), "empty" or
        "unfinished" (a fine-tuning that was interrupted while it was written), "not checked" (the
        only remark says why: a file of a newer format, a pipe, a disk that cannot be read).
    files, rows, heads: how many there are.
    """

    name: str
    kind: str
    state: str
    files: int = 0
    rows: int = 0
    heads: int = 0
    problems: list[Problem] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        plain = asdict(self)
        plain["problems"] = [{**each, "path": str(each["path"])} for each in plain["problems"]]
        return plain


def verify_cache(cache: FeatureCache) -> Iterator[Looked]:
    """Every entry of a cache, one after the other.

    Raises `FeatcacheError` where there is no such folder: checking nothing is an error.
    """
    if not cache.directory.is_dir():
        raise FeatcacheError(
            f"there is no cache {cache.directory}, so nothing was checked: name one with --cache"
        )
    return map(verify_entry, cache.entries())


def verify_path(path: Path) -> Looked | None:
    """A file of features outside of a cache, a head, or the folder of a fine-tuned backbone.

    None where a path is none of these. Raises `FeatcacheError` where a file is not ours.
    """
    if path.is_dir() and (path / RECORD).is_file():
        return _verify_tuned(path)
    if not path.is_file() or path.name == PACKED or path.parent.name == "parts":
        return None
    if path.suffix == ".h5":
        problem = verify_file(path)
        return _of_file(path, "features", [problem] if problem else [])
    problems, remarks = _verify_head(path)
    return replace(_of_file(path, "head", problems), heads=1, remarks=remarks)


def _of_file(path: Path, kind: str, problems: list[Problem]) -> Looked:
    state = "damaged" if problems else "sound"
    return Looked(name=str(path), kind=kind, state=state, files=1, problems=problems)


def verify_entry(entry: Entry) -> Looked:
    """The features of one data set under one recipe: its files, parts, and the heads beside.

    Never raises: the others are to be checked, too.
    """
    try:
        return _verify_entry(entry)
    except FeatcacheError as error:
        return Looked(entry.name, "features", "not checked", remarks=[str(error)])


def _verify_entry(entry: Entry) -> Looked:
    store = entry.store()
    snapshot = store.snapshot()  # raises where a file is newer: nothing is wrong with that
    problems, remarks = store.verify(), []
    heads = sorted(entry.directory.glob("*.head"))
    for head in heads:
        found, said = _verify_neighbour(head)
        problems += found
        remarks += said
    state = "sound" if snapshot.packed else "interrupted" if len(snapshot) else "empty"
    return Looked(
        name=entry.name,
        kind="features",
        state="damaged" if problems else state,
        files=len(snapshot.files) + len(snapshot.problems),
        rows=len(snapshot),
        heads=len(heads),
        problems=problems,
        remarks=remarks,
    )


def repair_entry(entry: Entry) -> RepairResult:
    """Keep the good rows of damaged files; these, and damaged heads, go to the quarantine."""
    store = entry.store()
    result = store.repair()
    heads = [path for path in sorted(entry.directory.glob("*.head")) if _verify_neighbour(path)[0]]
    return replace(result, moved=[*result.moved, *map(store.put_aside, heads)])


def _verify_head(path: Path) -> tuple[list[Problem], list[str]]:
    """What is wrong with a head, and remarks; raises `FeatcacheError` where it is not ours."""
    try:
        head = Head.load(path)
    except (DamagedFile, StorageFailure) as error:
        return [Problem(path, _reason(error, path), [])], []
    return [], [] if head.is_digested else [f"{path}: a head of {NO_DIGEST}"]


def _verify_neighbour(path: Path) -> tuple[list[Problem], list[str]]:
    """As `_verify_head`; a file that is newer or not ours is no damage, and said."""
    try:
        return _verify_head(path)
    except FeatcacheError as error:
        return [], [str(error)]


def _verify_tuned(folder: Path) -> Looked:
    problems: list[Problem] = []
    remarks: list[str] = []
    state, files = "sound", 1
    try:
        record = read_tuned_record(folder) or {}
        if not is_digested(record):
            remarks.append(f"{folder / RECORD}: a record of {NO_DIGEST}")
            if (folder / HEAD).is_file():
                problems, said = _verify_neighbour(folder / HEAD)
                remarks += said
        else:
            files += len(record["files"])
            state = "sound" if has_ended_well(record) else "unfinished"
            problems += [Problem(*each, []) for each in file_problems(folder, record)]
    except DamagedFile as error:
        problems.append(Problem(folder / RECORD, _reason(error, folder / RECORD), []))
    return Looked(
        name=str(folder),
        kind="tuned",
        state="damaged" if problems else state,
        files=files,
        heads=int((folder / HEAD).is_file()),
        problems=problems,
        remarks=remarks,
    )


def _reason(error: Exception, path: Path) -> str:
    return str(error).removeprefix(f"{path}: ")
