"""The graph of a SavedModel: looked at before TensorFlow runs any of it, then loaded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from featcache.backbones.keras_import import import_tensorflow
from featcache.backbones.user_model import one_line
from featcache.errors import FeatcacheError

#: Operations that reach out of the graph; no network of images needs them.
_REACHING = {"ReadFile", "WriteFile", "PyFunc", "PyFuncStateless", "EagerPyFunc", "PrintV2"}


def load_graph(path: Path) -> Any:
    """The SavedModel as an object; raises `FeatcacheError` where it cannot be loaded."""
    tensorflow = import_tensorflow()
    tags = _check_graph(path)
    try:
        return tensorflow.saved_model.load(str(path), tags=tags)
    except Exception as error:
        # TensorFlow raises its own errors, OSError, KeyError, ValueError, as its protocol breaks.
        raise FeatcacheError(f"TensorFlow cannot load {path}: {one_line(error)}") from error


def _check_graph(path: Path) -> list[str]:
    """The tags of the graph to load, after a look at the operations of all that is in the file.

    Raises `FeatcacheError` where the file is damaged, or an operation reaches out of the graph.
    """
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    stored = SavedModel()
    try:
        stored.ParseFromString((path / "saved_model.pb").read_bytes())
    except Exception as error:
        # OSError, or what protobuf raises for bytes that are no message of its.
        raise FeatcacheError(f"{path}/saved_model.pb is damaged: {one_line(error)}") from error
    if not stored.meta_graphs:
        raise FeatcacheError(f"{path}/saved_model.pb is damaged: it holds no graph")
    for graph in stored.meta_graphs:
        reaching = _REACHING.intersection(_operations(graph.graph_def))
        if reaching:
            raise FeatcacheError(
                f"{path} was not loaded: its graph has operations that reach out of it, "
                f"{', '.join(sorted(reaching))}: export the network of images alone"
            )
    return _tags([list(graph.meta_info_def.tags) for graph in stored.meta_graphs])


def _operations(graph: Any) -> Iterator[str]:
    yield from (node.op for node in graph.node)
    for function in graph.library.function:
        yield from (node.op for node in function.node_def)


def _tags(found: list[list[str]]) -> list[str]:
    """Of several graphs the one that infers: "serve", or TF1 modules' own, which has no tags."""
    for wanted in (["serve"], []):
        if wanted in found:
            return wanted
    return next((tags for tags in found if "train" not in tags), found[0])
