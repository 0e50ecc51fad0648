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

from featcache.backbones import Network, Tap
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
    default_batch,
    find_graph,
    graph_key,
)
from featcache.runtimes.kept import drafted_graph, keep_graph


@dataclass(frozen=True, slots=True)
class Proven:
    """A runtime, and for each tap its thinned probe vectors (8, k) and its largest error against
    live Keras.

    `versions` are those of the libraries that made and proved the graph; `from_kept` says that an
    earlier run did so; `remarks` is what the user should know.
    """

    runtime: Runtime
    taps: tuple[Tap, ...]
    probes: list[np.ndarray]
    parities: list[float]
    versions: dict[str, str]
    from_kept: bool = False
    remarks: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Order:
    """What is to be opened."""

    choice: Choice
    network: Network
    recipe: Recipe
    batch: int | None

    @property
    def shape(self) -> tuple[int, int, int, int]:
        size = self.network.size
        return (self.batch or default_batch(self.choice.name, size), *size, 3)

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


def open_proven(name: str, network: Network, recipe: Recipe, *, batch: int | None) -> Proven:
    """A runtime for a network that has proven itself on all its taps, now or in an earlier run.

    `recipe` is that of any of the taps; `batch` None is the best of the runtime that is used.
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
    probes = _probes(runtime, order)
    bound = tolerance(order.recipe.precision)
    for probe, kept in zip(probes, graph.probes, strict=True):
        if probe.shape != kept.shape or not measure_error(probe, kept) <= bound:
            return None
    taps = order.network.taps
    return Proven(runtime, taps, probes, graph.parities, graph.versions, from_kept=True)


def _anew(order: _Order) -> Proven:
    """Convert the network, prove the very file that is kept, and keep it."""
    from featcache.runtimes.openvino import convert_network, save_graph, versions

    graph = convert_network(order.network)
    with drafted_graph(order.key, lambda path: save_graph(graph, path)) as (draft, remarks):
        runtime, probes, parities = _proved(order, draft)
        taps = order.network.taps
        proven = Proven(runtime, taps, probes, parities, versions(), remarks=remarks)
        if not remarks:
            remarks += keep_graph(order.key, KeptGraph(draft, probes, parities, proven.versions))
        return proven


def _proved(order: _Order, path: Path) -> tuple[Runtime, list[np.ndarray], list[float]]:
    """The compiled graph, and for each tap its thinned probe and its error against live Keras."""
    pixels = probe_pixels(order.recipe.decoding)
    live = order.network.live(pixels.astype(np.float32))
    runtime = order.load(path, "float32")
    vectors = run_padded(runtime, pixels)
    parities = _parities(vectors, live, runtime)
    if order.recipe.precision != "float32":
        runtime = order.load(path, order.recipe.precision)
        vectors = run_padded(runtime, pixels)
        parities = [measure_error(*pair) for pair in zip(vectors, live, strict=True)]
    return runtime, [thinned(tap) for tap in vectors], parities


def _parities(vectors: list[np.ndarray], live: list[np.ndarray], runtime: Runtime) -> list[float]:
    return [check_parity(*pair, runtime.name) for pair in zip(vectors, live, strict=True)]


def _probes(runtime: Runtime, order: _Order) -> list[np.ndarray]:
    pixels = probe_pixels(order.recipe.decoding)
    return [thinned(tap) for tap in run_padded(runtime, pixels)]


def _tensorflow(order: _Order) -> Proven:
    from featcache.runtimes.fitting import compile_fitting

    precision, pixel_type = order.recipe.precision, order.recipe.decoding.pixel_type
    pixels = probe_pixels(order.recipe.decoding)
    live = order.network.live(pixels.astype(np.float32))
    batch = order.shape[0]
    runtime = compile_fitting(order.network, order.choice, batch=batch, pixel_type=pixel_type)
    vectors = run_padded(runtime, pixels)
    parities = _parities(vectors, live, runtime)
    if precision != "float32":
        runtime = compile_fitting(
            order.network, order.choice, batch=batch, pixel_type=pixel_type, precision=precision
        )
        vectors = run_padded(runtime, pixels)
        parities = [measure_error(*pair) for pair in zip(vectors, live, strict=True)]
    return Proven(
        runtime=runtime,
        taps=order.network.taps,
        probes=[thinned(tap) for tap in vectors],
        parities=parities,
        versions=runtime.versions,
        remarks=list(runtime.remarks),
    )
