"""Runtimes: what runs a network. Each is a function from a batch to one array for each tap."""

from featcache.runtimes.choice import (
    RUNTIMES,
    RuntimeChoice,
    check_precision,
    choose_runtime,
    default_batch,
)
from featcache.runtimes.kept_graphs import KeptGraph, delete_unused_graphs, find_graph, graph_key
from featcache.runtimes.runtime import Runtime
from featcache.runtimes.throughput import open_runtime

__all__ = [
    "RUNTIMES",
    "RuntimeChoice",
    "KeptGraph",
    "Runtime",
    "check_precision",
    "choose_runtime",
    "default_batch",
    "delete_unused_graphs",
    "find_graph",
    "graph_key",
    "open_runtime",
]
