"""Where a SavedModel starts to run: what loading it runs, and what a call of its functions does.

TF2's is a graph of objects with functions, TF1's one graph in which tensors are asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from featcache.backbones.user_models.saved_reach import GraphStart, node_name

#: The function or signature of a model's own that may be called, and its starts. None stands for
#: something that is no function.
Calls = dict[str, list[GraphStart | None]]

#: TF1's collections whose operations initialise it, and the signature that does.
_INITIALISERS = ("saved_model_main_op", "legacy_init_op", "table_initializer")
_INIT_SIGNATURE = "__saved_model_init_op"


def loading_starts(meta: Any, *, objects: bool) -> Iterator[GraphStart]:
    """What TensorFlow runs when it loads a graph; `objects` says that it is TF2's."""
    return _object_loading(meta.object_graph_def, meta) if objects else _graph_loading(meta)


def call_starts(meta: Any, *, objects: bool) -> Calls:
    """What a call of each signature, and of the object's own ``__call__``, starts with."""
    return _object_calls(meta.object_graph_def) if objects else _graph_calls(meta)


def _object_loading(graph: Any, meta: Any) -> Iterator[GraphStart]:
    """Functions that restore variables and tables, and create, fill and delete resources.

    They go by names like _initialize: so all whose names begin so are taken for such.
    """
    functions = {each.signature.name: each for each in meta.graph_def.library.function}
    for owner in graph.nodes:
        for child in (*owner.children, *owner.dependencies):
            if child.local_name.startswith("_") and child.local_name != "__call__":
                label = f"{child.local_name[:80]!r}, which runs when it is loaded"
                for name in _functions(graph, child.node_id) or ():
                    own_files = _assets_of(graph, functions, name)
                    yield GraphStart(label, (name,), own_files=own_files)
        for saved in owner.saveable_objects.values():
            for label, number in (
                ("restore_function", saved.restore_function),
                ("save_function", saved.save_function),
            ):
                yield GraphStart(label, tuple(_functions(graph, number) or ()))


def _functions(graph: Any, number: int) -> list[str] | None:
    """The functions that an object of the graph stands for; None where it is something else."""
    if not 0 <= number < len(graph.nodes):
        return None
    node = graph.nodes[number]
    if node.registered_name:
        return None
    kind = node.WhichOneof("kind")
    if kind == "function":
        return list(node.function.concrete_functions)
    if kind == "bare_concrete_function":
        return [node.bare_concrete_function.concrete_function_name]
    return None


def _assets_of(graph: Any, functions: dict[str, Any], name: str) -> frozenset[tuple[str, str]]:
    """The function's arguments that TensorFlow binds to the paths of the model's assets."""
    if name not in functions or name not in graph.concrete_functions:
        return frozenset()
    bound = graph.concrete_functions[name].bound_inputs
    arguments = [each.name for each in functions[name].signature.input_arg]
    captured = arguments[len(arguments) - len(bound) :] if len(bound) <= len(arguments) else []
    return frozenset(
        (name, argument)
        for argument, number in zip(captured, bound, strict=False)
        if 0 <= number < len(graph.nodes) and graph.nodes[number].WhichOneof("kind") == "asset"
    )


def _object_calls(graph: Any) -> Calls:
    calls: Calls = {}
    for child in graph.nodes[0].children if graph.nodes else ():
        if child.local_name == "__call__":
            _add_call(calls, graph, "__call__", child.node_id)
        elif child.local_name == "signatures" and 0 <= child.node_id < len(graph.nodes):
            holder = graph.nodes[child.node_id]
            for signature in holder.children:
                _add_call(calls, graph, signature.local_name, signature.node_id)
    return calls


def _add_call(calls: Calls, graph: Any, name: str, number: int) -> None:
    """A name may stand for several objects, of which TensorFlow takes one: all have to do."""
    functions = _functions(graph, number)
    start = None if functions is None else GraphStart(f"{name[:80]!r}", tuple(functions))
    calls.setdefault(name, []).append(start)


def _graph_loading(meta: Any) -> Iterator[GraphStart]:
    """The operations that restore a TF1 graph's variables, and that initialise it."""
    saver = meta.saver_def
    if saver.restore_op_name:
        own_file = ("", saver.filename_tensor_name.removesuffix(":0"))
        yield GraphStart(
            "its restore operation",
            tensors=(saver.restore_op_name,),
            own_files=frozenset([own_file]),
        )
    assets = frozenset(("", each.tensor_info.name.removesuffix(":0")) for each in asset_files(meta))
    named = [name for key in _INITIALISERS for name in meta.collection_def[key].node_list.value]
    if _INIT_SIGNATURE in meta.signature_def:
        named += _outputs(meta.signature_def[_INIT_SIGNATURE])
    yield GraphStart(
        "its initialisers", tensors=(*named, *_local_initialisers(meta)), own_files=assets
    )


def _local_initialisers(meta: Any) -> Iterator[str]:
    """The initialisers of local variables, which run where there is no other initialiser."""
    from tensorflow.core.framework.variable_pb2 import VariableDef

    for stored in meta.collection_def["local_variables"].bytes_list.value:
        yield VariableDef.FromString(stored).initializer_name


def _graph_calls(meta: Any) -> Calls:
    return {
        name: [GraphStart(f"{name[:80]!r}", tensors=tuple(_outputs(signature)))]
        for name, signature in meta.signature_def.items()
    }


def _outputs(signature: Any) -> Iterator[str]:
    """The tensors of a signature's outputs, those of sparse and composite ones too."""
    infos = [*signature.outputs.values()]
    while infos:
        info = infos.pop()
        sparse = info.coo_sparse
        names = (
            info.name,
            sparse.values_tensor_name,
            sparse.indices_tensor_name,
            sparse.dense_shape_tensor_name,
        )
        yield from filter(node_name, names)
        infos += info.composite_tensor.components


def asset_files(meta: Any) -> Iterable[Any]:
    """The files of the model's own that its graph names, as TensorFlow looks for them."""
    if meta.asset_file_def:
        return meta.asset_file_def  # type: ignore[no-any-return]
    from tensorflow.core.protobuf.meta_graph_pb2 import AssetFileDef

    packed = meta.collection_def["saved_model_assets"].any_list.value
    return [AssetFileDef.FromString(each.value) for each in packed]
