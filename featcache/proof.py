"""Proof: a runtime that has shown, on the probe, that it computes what live Keras computes.

    kept graph --probe--> as when it was kept?             no Keras
    network --convert, compile, probe--> as live Keras?    kept for the next run

In float32 the answer is yes to 1e-5, or the graph is not used. In a reduced precision the graph
is proven in float32 first; then its error is measured, stored and told.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from featcache.backbones import Network
from featcache.errors import FeatcacheError
from featcache.pipeline import run_padded
from featcache.probe import check_parity, measure_error, probe_pixels, thinned, tolerance
from featcache.recipe import Recipe
from featcache.runtimes import (
    Choice,
    KeptGraph,
    Runtime,
    check_precision,
    choose_runtime,
    find_graph,
    graph_key,
)
from featcache.runtimes.kept import discard_draft, draft_graph, keep_graph


@dataclass(frozen=True, slots=True)
class Proven:
    """A runtime, its thinned probe vectors (8, k), and its largest error against live Keras.

    `versions` are those of the libraries that made and proved the graph; `from_kept` says that an
    earlier run did so; `remarks` is what the user should know.
    """

    runtime: Runtime
    probe: np.ndarray
    parity: float
    versions: dict[str, str]
    from_kept: bool = False
    remarks: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Order:
    """What is to be opened."""

    choice: Choice
    network: Network
    recipe: Recipe
    batch: int

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return (self.batch, *self.network.size, 3)

    @property
    def key(self) -> str:
        return graph_key(
            self.network,
            pixel_type=self.recipe.decoding.pixel_type,
            precision=self.recipe.precision,
        )

    def load(self, path: Path, precision: str) -> Runtime:
        """The graph of a file, compiled by OpenVINO."""
        from featcache.runtimes.openvino import compile_graph, read_graph

        return compile_graph(
            read_graph(path),
            self.choice,
            shape=self.shape,
            pixel_type=self.recipe.decoding.pixel_type,
            precision=precision,
        )


def open_proven(name: str, network: Network, recipe: Recipe, *, batch: int) -> Proven:
    """A runtime for a network under a recipe that has proven itself, now or in an earlier run.

    Raises `FeatcacheError` where it differs from live Keras by more than rounding; under "auto"
    TensorFlow then takes the place of OpenVINO, and `runtime.choice` says why.
    """
    choice = choose_runtime(recipe.runtime or name)
    if recipe.runtime:
        choice = replace(choice, reason=f"the recipe says {recipe.precision} in {recipe.runtime}")
    check_precision(choice.name, recipe.precision)
    if choice.name == "openvino":
        order = _Order(choice, network, recipe, batch)
        proven = _from_kept(order)
        if proven is not None:
            return proven
        _ = network.model  # a network that cannot be built is no fault of OpenVINO's
        try:
            return _anew(order)
        except FeatcacheError as error:
            if choice.asked:
                raise
            choice = replace(choice, name="tensorflow", reason=f"auto: TensorFlow, since {error}")
    return _tensorflow(_Order(choice, network, recipe, batch))


def _from_kept(order: _Order) -> Proven | None:
    """A kept graph that still gives its kept probe; None where there is none, and it is made."""
    graph = find_graph(order.key)
    if graph is None:
        return None
    try:
        runtime = order.load(graph.path, order.recipe.precision)
    except FeatcacheError:
        return None  # another file than was hashed, or another OpenVINO: it is made again
    probe = thinned(run_padded(runtime, probe_pixels(order.recipe.decoding)))
    if probe.shape != graph.probe.shape:
        return None
    if not measure_error(probe, graph.probe) <= tolerance(order.recipe.precision):
        return None
    return Proven(runtime, probe, graph.parity, graph.versions, from_kept=True)


def _anew(order: _Order) -> Proven:
    """Convert the network, prove the very file that is kept, and keep it."""
    from featcache.runtimes.openvino import convert_network, save_graph, versions

    graph = convert_network(order.network)
    draft, remarks = draft_graph(lambda path: save_graph(graph, path))
    try:
        runtime, probe, parity = _proved(order, draft)
        proven = Proven(runtime, probe, parity, versions(), remarks=remarks)
        if not remarks:
            remarks += keep_graph(order.key, KeptGraph(draft, probe, parity, proven.versions))
        return proven
    finally:
        discard_draft(draft)


def _proved(order: _Order, path: Path) -> tuple[Runtime, np.ndarray, float]:
    """The compiled graph, its thinned probe, and its error against live Keras."""
    pixels = probe_pixels(order.recipe.decoding)
    live = order.network.live(pixels.astype(np.float32))
    runtime = order.load(path, "float32")
    vectors = run_padded(runtime, pixels)
    parity = check_parity(vectors, live, runtime.name)
    if order.recipe.precision != "float32":
        runtime = order.load(path, order.recipe.precision)
        vectors = run_padded(runtime, pixels)
        parity = measure_error(vectors, live)
    return runtime, thinned(vectors), parity


def _tensorflow(order: _Order) -> Proven:
    from featcache.runtimes.tensorflow import compile_network

    decoding = order.recipe.decoding
    pixels = probe_pixels(decoding)
    runtime = compile_network(
        order.network, order.choice, batch=order.batch, pixel_type=decoding.pixel_type
    )
    vectors = run_padded(runtime, pixels)
    parity = check_parity(vectors, order.network.live(pixels.astype(np.float32)), runtime.name)
    return Proven(runtime, thinned(vectors), parity, runtime.versions)
