"""What of a SavedModel can be reached: its functions and graph followed from where they start.

Only its protocol buffers are looked at; TensorFlow has loaded nothing yet.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from featcache.backbones.user_models.allowed_operations import ALLOWED_OPERATIONS

#: Operations that read a file, and the place of its name among their inputs.
_READERS = {"RestoreV2": 0, "InitializeTableFromTextFile": 1, "InitializeTableFromTextFileV2": 1}


@dataclass(frozen=True, slots=True)
class GraphStart:
    """Where something starts to run.

    Attributes
    ----------
    label: what it is, for a message.
    functions: that are called.
    tensors: of the graph outside of functions that are fetched (TF1).
    own_files: (function, tensor) pairs that hold the path of a file of the model's own; the
        function is one of `functions`, or "" outside of them.
    """

    label: str
    functions: tuple[str, ...] = ()
    tensors: tuple[str, ...] = ()
    own_files: frozenset[tuple[str, str]] = frozenset()


class Program:
    """Everything in a SavedModel's graph that TensorFlow could run.

    `functions` are its library by name, `nodes` those outside of functions, by name: TF1's graph,
    and nothing for TF2, which runs functions alone.
    """

    def __init__(self, library: Any, nodes: Iterable[Any]) -> None:
        self.functions = {each.signature.name: each for each in library.function}
        self.nodes = {node.name: node for node in nodes}
        self._named = _names(library)
        self._clean: set[str] = set()

    def everything(self) -> Iterator[tuple[str, Any]]:
        """All nodes, each with the name of its function, "" outside of functions."""
        yield from (("", node) for node in self.nodes.values())
        for name, function in self.functions.items():
            yield from ((name, node) for node in function.node_def)

    def problem(self, start: GraphStart) -> str:
        """The first operation reached that is not allowed, and where; "" where all are."""
        for function, node in self._reached(start):
            if node.op in ALLOWED_OPERATIONS or node.op in self.functions:
                continue
            if not _reads_own_file(function, node, start.own_files):
                return f"{place(function, node)}, reached from {start.label}"
        return ""

    def _reached(self, start: GraphStart) -> Iterator[tuple[str, Any]]:
        """Every node that runs, but for those of functions that were found clean before."""
        called = set(start.functions)
        for node in self._fetched(start.tensors):
            yield "", node
            called |= self._called(node.op, node.attr)
        seen: set[str] = set()
        while waiting := called - seen - self._clean:
            seen |= waiting
            for name in waiting & self.functions.keys():
                function = self.functions[name]
                called |= self._called(name, function.attr)
                for node in function.node_def:
                    yield name, node
                    called |= self._called(node.op, node.attr)
        # Reached only where nobody stopped on the way: all of it was allowed.
        self._clean |= seen - {function for function, _ in start.own_files}

    def _fetched(self, tensors: Iterable[str]) -> Iterator[Any]:
        """The nodes that are computed where these tensors or operations are asked for."""
        waiting, seen = [node_name(tensor) for tensor in tensors], set()
        while waiting:
            name = waiting.pop()
            if name in self.nodes and name not in seen:
                seen.add(name)
                yield self.nodes[name]
                waiting += map(node_name, self.nodes[name].input)

    def _called(self, name: str, attributes: Mapping[str, Any]) -> set[str]:
        """The functions that an operation or function names, by its own name or in an attribute."""
        return set().union(*(self._named.get(each, ()) for each in (name, *_texts(attributes))))


def place(function: str, node: Any) -> str:
    """An operation and where it stands, for a message; names are the file's, so they are quoted."""
    inside = f"the function {function[:80]!r}" if function else "its graph"
    return f"{node.op[:80]!r} (at {node.name[:80]!r} in {inside})"


def node_name(tensor: str) -> str:
    """The node that a tensor ("node:0"), an operation ("node") or an input ("^node") is of."""
    return tensor.removeprefix("^").split(":")[0]


def _names(library: Any) -> dict[str, set[str]]:
    """Function names by everything that may stand for them.

    That are their own names, those of functions and operations whose gradients they are, and the
    interface that they implement: TensorFlow puts one implementation in the place of another.
    """
    named: dict[str, set[str]] = defaultdict(set)
    for function in library.function:
        named[function.signature.name].add(function.signature.name)
        if "api_implements" in function.attr:
            named[_text(function.attr["api_implements"].s)].add(function.signature.name)
    for gradient in library.gradient:
        named[gradient.function_name].add(gradient.gradient_func)
    for gradient in library.registered_gradients:
        named[gradient.registered_op_type].add(gradient.gradient_func)
    return named


def _texts(attributes: Mapping[str, Any]) -> Iterator[str]:
    """Every text in the attributes: functions' names, those in lists and in functions' own too."""
    for value in attributes.values():
        for function in (value.func, *value.list.func):
            yield function.name
            yield from _texts(function.attr)
        yield from map(_text, (value.s, *value.list.s))


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")


def _reads_own_file(function: str, node: Any, own_files: frozenset[tuple[str, str]]) -> bool:
    place = _READERS.get(node.op)
    if place is None or place >= len(node.input):
        return False
    tensor = node.input[place].removesuffix(":0")
    return (function, tensor) in own_files
