"""Tuned record: what lies in the folder of a fine-tuned backbone, with digests of its files.

``finetuned.json``, version 2: "digest" is SHA-256 of the record itself with that place as zeros;
"files" holds SHA-256 of each file by its name. It is written before the first file, naming none,
and again last: between the two the folder is unfinished, and never looks damaged. Records of
version 1 have no digests.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from featcache.errors import DamagedFile, FeatcacheError, StorageFailure
from featcache.files.home import expanded, keep, note_path, recall
from featcache.files.small_files import (
    ZEROS,
    FileStamp,
    digest_of_file,
    is_sound,
    parse_json,
    read_small,
    sealed,
)
from featcache.files.write import write_whole

RECORD = "finetuned.json"
FORMAT = "featcache-finetuned"
VERSION = 2
WEIGHTS, MODEL = "backbone.weights.h5", "backbone.keras"
HEAD, CLASSIFIER, CLASSES = "finetuned.head", "classifier.keras", "classes.txt"
#: In the record of a fine-tuning that was finished.
AGREEMENT = "agreement"
#: One of these stands in every record of ours, whichever single byte was flipped.
_MARKS = (FORMAT.encode("ascii"), b'"digest"')


def read_tuned_record(folder: Path) -> dict[str, Any] | None:
    """The record of the fine-tuning that a folder holds; None where it holds none.

    Raises `DamagedFile` where it is not what was written, `FeatcacheError` where it is not ours
    or newer than this featcache.
    """
    path = folder / RECORD
    if not path.is_file():
        return None
    content = b""
    try:
        content = read_small(path)
        sound = is_sound(content)
        record: dict[str, Any] = parse_json(content)
        if not isinstance(record, dict) or not isinstance(record.get("settings", {}), dict):
            raise TypeError("it is no JSON object with settings")
        made = (record["format"], record["version"])
        if sound is None:
            sound = made != (FORMAT, VERSION)
        if not sound or (made == (FORMAT, VERSION) and not _is_inside(record)):
            raise ValueError("it does not match its digest")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        is_ours = any(mark in content for mark in _MARKS)
        kind = DamagedFile if is_ours else FeatcacheError
        raise kind(
            f"{path}: not {'the' if is_ours else 'a'} record of a fine-tuning"
            f"{' that was written' if is_ours else ''}: {error!r}"
        ) from error
    if made not in ((FORMAT, 1), (FORMAT, VERSION)):
        raise FeatcacheError(
            f"{path}: a record of format {made[0]} {made[1]}; this featcache reads {FORMAT} "
            f"1 to {VERSION}: upgrade it"
        )
    return record


def write_tuned_record(folder: Path, values: dict[str, Any], files: Iterable[str] = ()) -> Path:
    """Write the record, with the digests of the files that are named."""
    record = {
        **values,
        "format": FORMAT,
        "version": VERSION,
        "digest": ZEROS,
        "files": {name: digest_of_file(folder / name) for name in files},
    }
    target = folder / RECORD
    text = json.dumps(record, indent=1, sort_keys=True)
    write_whole(target, sealed(text.encode("ascii")), base=folder)
    return target


def has_ended_well(record: dict[str, Any]) -> bool:
    """Whether the fine-tuning of a record ended well."""
    return AGREEMENT in record


def is_digested(record: dict[str, Any]) -> bool:
    """Whether a record has digests of its files; those of version 1 have none."""
    return bool(record["version"] >= 2)


def check_weights(path: str | Path) -> None:
    """Check weights in the folder of a fine-tuned backbone against what was written.

    Hashed once for every stamp of the file. Raises `DamagedFile`, and `FeatcacheError` where the
    fine-tuning was interrupted while it was written.
    """
    path = expanded(path)
    record = read_tuned_record(path.parent) if path.name in (WEIGHTS, MODEL) else None
    if record is None or not is_digested(record):
        return
    if path.name not in record["files"] and not has_ended_well(record):
        raise FeatcacheError(
            f"{path.parent}: a fine-tuning that was interrupted while it was written: run the "
            f"same `featcache finetune` again"
        )
    if problem := _problem(path, record["files"].get(path.name), _known_digest):
        raise DamagedFile(f"{path}: {problem}")


def file_problems(folder: Path, record: dict[str, Any]) -> list[tuple[Path, str]]:
    """The files of a folder that are not those that its record names, and why; all are hashed."""
    files = record["files"]
    needed = [MODEL if MODEL in files else WEIGHTS, HEAD, CLASSIFIER, CLASSES]
    names = dict.fromkeys([*files, *(needed if has_ended_well(record) else [])])
    found = [
        (folder / name, _problem(folder / name, files.get(name), digest_of_file)) for name in names
    ]
    return [(path, problem) for path, problem in found if problem]


def _is_inside(record: dict[str, Any]) -> bool:
    """Whether the files of a record are names in its own folder: it cannot point elsewhere."""
    ours = {WEIGHTS, MODEL, HEAD, CLASSIFIER, CLASSES}
    return set(record["files"]) <= ours


def _problem(path: Path, expected: str | None, digest: Callable[[Path], str]) -> str:
    """What is wrong with a file, "" = nothing."""
    if expected is None:
        return f"{RECORD} has no digest of it"
    try:
        found = digest(path)
    except FileNotFoundError:
        return "the file is gone: copy the folder again, or run the same `featcache finetune`"
    except OSError as error:
        raise StorageFailure(f"{path}: {error.strerror}") from error
    if found == expected:
        return ""
    return (
        "its bytes are not those that were written: copy the folder again, or delete it and run "
        "the same `featcache finetune`"
    )


def _known_digest(path: Path) -> str:
    """The digest of a file, out of a note where its stamp is the same as when it was hashed."""
    stamp, began = FileStamp.of(path.stat()), time.time_ns()
    note = note_path("digest", str(path.absolute()), asdict(stamp))
    if known := recall(note, lambda record: str(record["sha256"])):
        return known
    digest = digest_of_file(path)
    if stamp.is_settled(began):
        keep(note, {"sha256": digest})
    return digest
