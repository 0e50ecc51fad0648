"""Kept graphs: converted networks with the proof that they compute what live Keras computes.

    <home>/graphs/<key>/   graph.xml  graph.bin  proof

The key is made of everything that makes a graph, but for the batch: it is given when the graph is
loaded. A graph appears in one step and is never changed; a damaged one counts as missing.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import shutil
import tempfile
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from featcache.backbones import Network
from featcache.errors import StorageFailure
from featcache.home import home, read_record, sync, touch, unused, write_record
from featcache.recipe import PIPELINE
from featcache.runtimes.openvino_import import import_openvino

_GRAPH = "graph.xml"
_FILES = (_GRAPH, "graph.bin")
_PROOF = "proof"
_DRAFT = ".tmp-"

#: Counts the ways in which graphs were made: 2, since their outputs are named by their places.
_FORM = 2


@dataclass(frozen=True, slots=True)
class KeptGraph:
    """A graph's file and its proof.

    Attributes
    ----------
    path: of the graph, as OpenVINO reads it.
    probes: for each tap its thinned probe vectors, (8, k) float32.
    parities: for each tap its largest error on the probe against live Keras.
    versions: of the libraries that it was made and proven with.
    """

    path: Path
    probes: list[np.ndarray[Any, Any]]
    parities: list[float]
    versions: dict[str, str]


def graph_key(network: Network, *, pixel_type: str, precision: str) -> str:
    """SHA-256 of everything that makes a graph and its proof, in hex."""
    parts: list[Any] = [
        PIPELINE,
        _FORM,
        network.backbone.name,
        [(tap.layer, tap.pooling, tap.weights) for tap in network.taps],
        network.size,
        repr(network.backbone.scaling),
        pixel_type,
        precision,
        version("openvino"),
    ]
    return hashlib.sha256(json.dumps(parts).encode("ascii")).hexdigest()


def find_graph(key: str) -> KeptGraph | None:
    """The kept graph, checked byte for byte; None where there is none, or it is damaged."""
    folder = _folder(key)
    record = read_record(folder / _PROOF)
    if record is None:
        return None
    # OpenVINO takes as long to import as its graph to check: both at once, on two cores.
    with ThreadPoolExecutor(1) as second:
        second.submit(import_openvino)
        if not _is_whole(folder, record["files"]):
            return None
    touch(folder)
    return KeptGraph(
        path=folder / _GRAPH,
        probes=[
            np.frombuffer(base64.b64decode(probe), "<f4").reshape(8, -1)
            for probe in record["probes"]
        ],
        parities=[float(parity) for parity in record["parities"]],
        versions=dict(record["versions"]),
    )


def _is_whole(folder: Path, digests: dict[str, str]) -> bool:
    try:
        return all(_digest(folder / name) == digests[name] for name in _FILES)
    except OSError:
        return False


def draft_graph(save: Callable[[Path], None]) -> tuple[Path, list[str]]:
    """A new graph's file, for `keep_graph` and `discard_draft`, and what the user should know.

    `save` writes the graph to a path. Where the home cannot hold it, it lies in the system's
    temporary folder, and cannot be kept. Raises `StorageFailure` where that is full, too.
    """
    draft = _folder(f"{_DRAFT}{uuid.uuid4().hex}") / _GRAPH
    try:
        draft.parent.mkdir(parents=True)
        _saved(draft, save)
    except OSError as error:
        remark = _not_kept(error)
    else:
        return draft, []
    try:
        return _saved(Path(tempfile.mkdtemp(prefix="featcache-")) / _GRAPH, save), [remark]
    except OSError as error:
        raise StorageFailure(f"no room for the compiled network: {remark}; {error}") from error


def _saved(path: Path, save: Callable[[Path], None]) -> Path:
    try:
        save(path)
    except BaseException:
        discard_draft(path)
        raise
    return path


def keep_graph(key: str, graph: KeptGraph) -> list[str]:
    """Give a draft its name, for good; gives what the user should know where it cannot be done.

    Two processes may do so at once: their graphs are worth the same, and one of them stays.
    """
    draft, target = graph.path.parent, _folder(key)
    try:
        record = {
            "files": {name: _digest(draft / name) for name in _FILES},
            "probes": [
                base64.b64encode(probe.astype("<f4").tobytes()).decode("ascii")
                for probe in graph.probes
            ],
            "parities": graph.parities,
            "versions": graph.versions,
        }
        write_record(draft / _PROOF, record)
        for path in (*(draft / name for name in _FILES), draft):
            sync(path)
        _put(draft, target)
        sync(target.parent)
    except OSError as error:
        return [_not_kept(error)]
    return []


def discard_draft(path: Path) -> None:
    """Delete what `draft_graph` made and nobody kept."""
    shutil.rmtree(path.parent, ignore_errors=True)


def _put(draft: Path, target: Path) -> None:
    """Rename a folder to a name that a damaged one may have, or one of a quicker process."""
    with contextlib.suppress(FileNotFoundError):
        earlier = target.with_name(f"{_DRAFT}{uuid.uuid4().hex}")
        target.rename(earlier)
        shutil.rmtree(earlier, ignore_errors=True)
    try:
        draft.rename(target)
    except OSError:
        if not target.exists():
            raise
        # Another process put its own there within this moment: it is as good as ours.


def delete_unused_graphs() -> tuple[int, int]:
    """Delete graphs and notes that were not used for a month; gives how many, and their bytes."""
    count = size = 0
    for path in [*unused(home() / "graphs"), *unused(home() / "notes")]:
        inside = [*path.iterdir()] if path.is_dir() else [path]
        size += sum(each.lstat().st_size for each in inside)
        count += 1
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    return count, size


def _not_kept(error: OSError) -> str:
    reason = error.strerror or error
    return f"the compiled network could not be kept for the next run in {home()}: {reason}"


def _folder(name: str) -> Path:
    return home() / "graphs" / name


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        # Twice as fast as SHA-256 where the processor has no instructions for that.
        return hashlib.file_digest(file, "blake2b").hexdigest()
