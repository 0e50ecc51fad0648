"""The graph of a SavedModel: looked at before TensorFlow loads any of it, then loaded.

TensorFlow runs parts of a model when it loads it: what fills variables and tables, and, to learn
the shapes of tensors, any operation whose inputs it knows already. The rest runs when it is called.
"""

from __future__ import annotations

import stat
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from featcache.backbones.keras_import import import_tensorflow
from featcache.backbones.user_models.allowed_operations import ALLOWED_OPERATIONS
from featcache.backbones.user_models.saved_reach import Program, place
from featcache.backbones.user_models.saved_starts import asset_files, call_starts, loading_starts
from featcache.backbones.user_models.user_model import one_line
from featcache.errors import FeatcacheError

#: What TensorFlow reads of a SavedModel's folder.
_FILES = ("saved_model.pb", "fingerprint.pb", "debug/*", "variables/*", "assets/**/*")

_WAY_OUT = (
    "only what networks compute with is run (docs/models.md): export the network of images alone"
)


@dataclass(frozen=True, slots=True)
class SavedGraph:
    """A SavedModel as an object, and for each function that can be called why it must not be.

    `problems` has "" for a function of which all that it reaches is allowed.
    """

    path: Path
    root: Any
    problems: dict[str, str]

    def check_call(self, name: str) -> None:
        """Raise `FeatcacheError` where a signature, or the object's own call, must not be run."""
        problem = self.problems.get(name, f"{name[:80]!r} is no function of its own")
        if problem:
            raise FeatcacheError(_refusal(self.path, problem))


def load_graph(path: Path) -> SavedGraph:
    """The SavedModel; raises `FeatcacheError` where it cannot be loaded, or must not be."""
    tensorflow = import_tensorflow()
    _check_files(path)
    stored = _parse(path)
    tags = _tags([list(graph.meta_info_def.tags) for graph in stored.meta_graphs])
    # As TensorFlow chooses among several of the same tags.
    meta = next(each for each in stored.meta_graphs if {*each.meta_info_def.tags} == {*tags})
    try:
        problems = _check_graph(path, meta, objects=_has_objects(stored))
    except FeatcacheError:
        raise
    except Exception as error:
        # What protobuf raises for messages inside of messages that are not its own.
        raise FeatcacheError(f"{path}/saved_model.pb is damaged: {one_line(error)}") from error
    try:
        root = tensorflow.saved_model.load(str(path), tags=tags)
    except Exception as error:
        # TensorFlow raises its own errors, OSError, KeyError, ValueError, as its protocol breaks.
        raise FeatcacheError(f"TensorFlow cannot load {path}: {one_line(error)}") from error
    return SavedGraph(path, root, problems)


def _check_files(path: Path) -> None:
    """Raise `FeatcacheError` for a pipe or device among its files, which would not end."""
    for file in (found for pattern in _FILES for found in path.glob(pattern)):
        if file.exists() and not stat.S_ISREG(file.stat().st_mode) and not file.is_dir():
            raise FeatcacheError(f"{file} is not a regular file: {path} was not loaded")


def _parse(path: Path) -> Any:
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    stored = SavedModel()
    try:
        stored.ParseFromString((path / "saved_model.pb").read_bytes())
    except Exception as error:
        # OSError, or what protobuf raises for bytes that are no message of its.
        raise FeatcacheError(f"{path}/saved_model.pb is damaged: {one_line(error)}") from error
    if not stored.meta_graphs:
        raise FeatcacheError(f"{path}/saved_model.pb is damaged: it holds no graph")
    return stored


def _has_objects(stored: Any) -> bool:
    """Whether TensorFlow loads it as a graph of objects (TF2), as it tells that itself."""
    return len(stored.meta_graphs) == 1 and stored.meta_graphs[0].HasField("object_graph_def")


def _check_graph(path: Path, meta: Any, *, objects: bool) -> dict[str, str]:
    """The problems of its functions; raises `FeatcacheError` for those of loading it."""
    for asset in asset_files(meta):
        _check_asset(path, asset.filename)
    # Of TF2's graph outside of functions TensorFlow reads constants alone.
    program = Program(meta.graph_def.library, () if objects else meta.graph_def.node)
    _check_everything(path, program)
    for start in loading_starts(meta, objects=objects):
        if problem := program.problem(start):
            raise FeatcacheError(_refusal(path, problem))
    problems = {}
    for name, starts in call_starts(meta, objects=objects).items():
        found = [program.problem(start) if start else "it is no function" for start in starts]
        problems[name] = next(filter(None, found), "")
    return problems


def _check_everything(path: Path, program: Program) -> None:
    """Raise `FeatcacheError` for what TensorFlow could run while it reads the graph, called or not.

    To learn shapes it computes every operation that it counts as stateless and whose inputs are
    constants. Those that are allowed may be; those that have a state run only where reached.
    """
    for name in program.functions:
        if _is_stateful(name) is not None:
            raise FeatcacheError(_refusal(path, f"its function {name!r} has an operation's name"))
    for function, node in program.everything():
        if node.op in program.functions or node.op in ALLOWED_OPERATIONS:
            continue
        if not _is_stateful(node.op):
            problem = f"{place(function, node)}, which can run as soon as it is read"
            raise FeatcacheError(_refusal(path, problem))


def _is_stateful(name: str) -> bool | None:
    """Whether TensorFlow counts an operation as having a state; None where it has none so named."""
    from tensorflow.python.framework import op_def_registry

    definition = op_def_registry.get(name)
    return None if definition is None else bool(definition.is_stateful)


def _check_asset(path: Path, name: str) -> None:
    """Raise `FeatcacheError` where an asset's name leads out of ``assets/``, or a link does."""
    folder, parts = path / "assets", PurePosixPath(name).parts
    steps = [folder.joinpath(*parts[:count]) for count in range(len(parts) + 1)]
    if not parts or name.startswith("/") or ".." in parts or "\0" in name:
        reason = "is not a name of a file in its folder assets"
    elif any(step.is_symlink() for step in steps):
        reason = "is a link: put the file itself in its place"
    else:
        return
    raise FeatcacheError(f"{path} was not loaded: its asset {name[:80]!r} {reason}")


def _refusal(path: Path, problem: str) -> str:
    return (
        f"{path} was not run: its graph has operations that reach out of it: {problem}; {_WAY_OUT}"
    )


def _tags(found: list[list[str]]) -> list[str]:
    """Of several graphs the one that infers: "serve", or TF1 modules' own, which has no tags."""
    for wanted in (["serve"], []):
        if wanted in found:
            return wanted
    return next((tags for tags in found if "train" not in tags), found[0])
