"""Proof: a runtime that has shown, on the probe, that it computes what live Keras computes.

    kept graph --probe--> as when it was kept?             no Keras
    network --convert, compile, probe--> as live Keras?    kept for the next run

In float32 the answer is yes to the network's own rounding (`rounding.py`), or the graph is not
used. In a reduced precision the graph is proven in float32 first; then its error is measured,
stored and told.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from featcache.backbones.network import Network, Tap
from featcache.errors import FeatcacheError
from featcache.recipe import Recipe
from featcache.runtimes.choice import RuntimeChoice, check_precision, choose_runtime, default_batch
from featcache.runtimes.kept_graphs import (
    KeptGraph,
    drafted_graph,
    find_graph,
    graph_key,
    keep_graph,
)
from featcache.runtimes.probe import measure_error, probe_pixels, thinned
from featcache.runtimes.rounding import allowed_error, check_parity, rounding_of
from featcache.runtimes.runtime import Runtime, run_padded


@dataclass(frozen=True, slots=True)
class Proven:
    """A runtime that computes what live Keras computes.

    For each tap it has the thinned probe vectors (8, k) in `probes`, their largest error against
    live Keras in `parities`, and the network's own rounding in float32 in `roundings`.

    `versions` are those of the libraries that made and proved the graph; `from_kept` says that an
    earlier run did so; `remarks` is what the user should know.
    """

    runtime: Runtime
    taps: tuple[Tap, ...]
    probes: list[np.ndarray]
    parities: list[float]
    roundings: list[float]
    versions: dict[str, str]
    from_kept: bool = False
    remarks: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Order:
    """What is to be opened."""

    choice: RuntimeChoice
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


@dataclass(frozen=True, slots=True)
class _Reference:
    """What a runtime is compared with: for each tap, what live Keras gives for the probe's pixels,
    and the rounding of that.
    """

    pixels: np.ndarray
    live: list[np.ndarray]
    roundings: list[float]

    @classmethod
    def of(cls, network: Network, recipe: Recipe) -> _Reference:
        pixels = probe_pixels(recipe.decoding)
        live = network.live(pixels.astype(np.float32))
        return cls(pixels, live, rounding_of(network, pixels.astype(np.float32), live))


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
    order = _Order(choice, network, recipe, batch)
    if choice.name == "openvino":
        proven = _from_kept(order)
        if proven is not None:
            return proven
    # A network that cannot be built, or magnifies rounding too much, is no fault of a runtime.
    reference = _Reference.of(network, recipe)
    allowed_error(*reference.roundings)
    if choice.name == "openvino":
        try:
            return _anew(order, reference)
        except FeatcacheError as error:
            if choice.asked:
                raise
            reason = f"auto: TensorFlow, since {error}"
            order = replace(order, choice=replace(choice, name="tensorflow", reason=reason))
    return _tensorflow(order, reference)


def _from_kept(order: _Order) -> Proven | None:
    """A kept graph that still gives its kept probe; None where there is none, and it is made."""
    graph = find_graph(order.key)
    if graph is None or len(graph.probes) != len(order.network.taps):
        return None
    try:
        runtime = order.load(graph.path, order.recipe.precision)
    except FeatcacheError:
        return None  # another file than was hashed, or another OpenVINO: it is made again
    pixels = probe_pixels(order.recipe.decoding)
    roundings = rounding_of(order.network, pixels.astype(np.float32))
    probes = [thinned(tap) for tap in run_padded(runtime, pixels)]
    for probe, kept, rounding in zip(probes, graph.probes, roundings, strict=True):
        bound = allowed_error(rounding, precision=order.recipe.precision)
        if probe.shape != kept.shape or not measure_error(probe, kept) <= bound:
            return None
    return Proven(
        runtime=runtime,
        taps=order.network.taps,
        probes=probes,
        parities=graph.parities,
        roundings=roundings,
        versions=graph.versions,
        from_kept=True,
    )


def _anew(order: _Order, reference: _Reference) -> Proven:
    """Convert the network, prove the very file that is kept, and keep it."""
    from featcache.runtimes.openvino import convert_network, save_graph, versions

    graph = convert_network(order.network)
    with drafted_graph(order.key, lambda path: save_graph(graph, path)) as (draft, remarks):
        proven = _proved(order, reference, lambda precision: order.load(draft, precision))
        proven = replace(proven, versions=versions(), remarks=remarks)
        if not remarks:
            kept = KeptGraph(draft, proven.probes, proven.parities, proven.versions)
            remarks += keep_graph(order.key, kept)
        return proven


def _tensorflow(order: _Order, reference: _Reference) -> Proven:
    from featcache.runtimes.tensorflow import compile_fitting

    def load(precision: str) -> Runtime:
        return compile_fitting(
            order.network,
            order.choice,
            batch=order.shape[0],
            pixel_type=order.recipe.decoding.pixel_type,
            precision=precision,
        )

    return _proved(order, reference, load)


def _proved(order: _Order, reference: _Reference, load: Callable[[str], Runtime]) -> Proven:
    """What `load` gives in the recipe's precision, once it agreed with live Keras in float32."""
    runtime = load("float32")
    vectors = run_padded(runtime, reference.pixels)
    parities = [
        check_parity(tap, live, runtime.name, rounding=rounding)
        for tap, live, rounding in zip(vectors, reference.live, reference.roundings, strict=True)
    ]
    if order.recipe.precision != "float32":
        runtime = load(order.recipe.precision)
        vectors = run_padded(runtime, reference.pixels)
        parities = [measure_error(*pair) for pair in zip(vectors, reference.live, strict=True)]
    return Proven(
        runtime=runtime,
        taps=order.network.taps,
        probes=[thinned(tap) for tap in vectors],
        parities=parities,
        roundings=reference.roundings,
        versions=runtime.versions,
        remarks=list(runtime.remarks),
    )
