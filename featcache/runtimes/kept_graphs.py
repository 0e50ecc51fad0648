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
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from featcache.backbones.network import Network
from featcache.errors import FeatcacheError, StorageFailure
from featcache.files.folders import (
    draft_name,
    make_folder,
    move_folder,
    private_folder,
    remove_folder,
    scratch_folder,
)
from featcache.files.home import home, is_record, recall, tag_home, unused, write_record
from featcache.files.write import finish_folder, remove, touch
from featcache.recipe import NETWORK_RULES
from featcache.runtimes.openvino_import import import_openvino

_GRAPH, _WEIGHTS, _PROOF = "graph.xml", "graph.bin", "proof"
_FILES = (_GRAPH, _WEIGHTS)

#: Names of ours in the home: graphs and their drafts, also of earlier versions; notes and theirs.
_GRAPH_NAME = re.compile(r"[0-9a-f]{64}|\.tmp-[0-9a-f]+")
_NOTE_NAME = re.compile(r"[0-9a-f]{64}\.note|\.tmp-[0-9a-f]+")

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
        NETWORK_RULES,
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
    graph = recall(folder / _PROOF, partial(_checked, folder))
    if graph:
        touch(folder, home())
    return graph


def _checked(folder: Path, record: dict[str, Any]) -> KeptGraph | None:
    """The graph that a proof tells of, with as many parities as probes."""
    probes = [
        np.frombuffer(base64.b64decode(probe), "<f4").reshape(8, -1) for probe in record["probes"]
    ]
    parities = [float(parity) for _, parity in zip(probes, record["parities"], strict=True)]
    versions = {str(name): str(version) for name, version in record["versions"].items()}
    # OpenVINO takes as long to import as its graph to check: both at once, on two cores.
    with ThreadPoolExecutor(1) as second:
        second.submit(import_openvino)
        is_whole = _is_whole(folder, record["files"])
    return KeptGraph(folder / _GRAPH, probes, parities, versions) if is_whole else None


def _is_whole(folder: Path, digests: dict[str, str]) -> bool:
    try:
        return all(_digest(folder / name) == digests[name] for name in _FILES)
    except OSError:
        return False


@contextmanager
def drafted_graph(key: str, save: Callable[[Path], None]) -> Iterator[tuple[Path, list[str]]]:
    """A new graph's file, for `keep_graph`, and what to tell the user; it is deleted at the end.

    `save` writes the graph to a path. Where the home cannot hold it, it lies in the system's
    temporary folder, and cannot be kept. Raises `StorageFailure` where that is full, too.
    """
    with ExitStack() as draft:
        remarks: list[str] = []
        try:
            path = draft.enter_context(_draft_at_home(key)) / _GRAPH
            save(path)
        except (OSError, FeatcacheError) as error:
            draft.close()
            remarks.append(_not_kept(error))
            path = draft.enter_context(scratch_folder()) / _GRAPH
            _save_there(save, path, remarks[0])
        yield path, remarks


def _draft_at_home(key: str) -> AbstractContextManager[Path]:
    graphs = _folder("")
    make_folder(graphs, home())
    tag_home()
    return private_folder(graphs, key, base=home())


def _save_there(save: Callable[[Path], None], path: Path, remark: str) -> None:
    try:
        save(path)
    except OSError as error:
        raise StorageFailure(f"no room for the compiled network: {remark}; {error}") from error


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
        finish_folder(draft, _FILES)
        _put(draft, target)
    except (OSError, FeatcacheError) as error:
        return [_not_kept(error)]
    return []


def _put(draft: Path, target: Path) -> None:
    """Rename a folder to a name that a damaged one may have, or one of a quicker process."""
    with contextlib.suppress(FileNotFoundError):
        earlier = target.with_name(draft_name(target.name))
        move_folder(target, earlier, home())
        _delete_graph(earlier)
    try:
        move_folder(draft, target, home())
    except OSError:
        if not target.exists():
            raise
        # Another process put its own there within this moment: it is as good as ours.


def delete_unused_graphs() -> tuple[int, int]:
    """Delete graphs and notes that were not used for a month; gives how many, and their bytes.

    Only those that are recognised: the names are ours, and so is what is in them.
    """
    count = size = 0
    for path in unused(_folder("")):
        freed = _delete_graph(path) if _GRAPH_NAME.fullmatch(path.name) else None
        count, size = count + (freed is not None), size + (freed or 0)
    for path in unused(home() / "notes"):
        length = path.lstat().st_size
        if _NOTE_NAME.fullmatch(path.name) and remove(path, is_record, base=home()):
            count, size = count + 1, size + length
    return count, size


def _delete_graph(folder: Path) -> int | None:
    """Delete the files of a graph and its folder; their bytes, None where it is none of ours."""
    if folder.is_symlink() or not folder.is_dir():
        return None
    kinds = {_PROOF: is_record, _GRAPH: _is_graph, _WEIGHTS: lambda file: True}
    sizes = {path.name: path.lstat().st_size for path in folder.iterdir()}
    if not sizes.keys() <= kinds.keys():
        return None
    freed = sum(
        sizes[name] for name, is_ours in kinds.items()
        if name in sizes and remove(folder / name, is_ours, base=home())
    )  # fmt: skip
    return freed if remove_folder(folder, home()) else None


def _is_graph(file: BinaryIO) -> bool:
    beginning = file.read(5)
    return not beginning or beginning == b"<?xml"


def _not_kept(error: Exception) -> str:
    reason = getattr(error, "strerror", None) or error
    return f"the compiled network could not be kept for the next run in {home()}: {reason}"


def _folder(name: str) -> Path:
    return home() / "graphs" / name


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        # Twice as fast as SHA-256 where the processor has no instructions for that.
        return hashlib.file_digest(file, "blake2b").hexdigest()
