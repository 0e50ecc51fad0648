"""A weights file as it lies on disk: how many arrays, of which shapes, and how they are loaded."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from featcache.backbones.hdf5_weights import StoredWeight, WeightsFile, check_weights_file
from featcache.backbones.layers import canonical_names, snake_case
from featcache.errors import FeatcacheError

_SUFFIXES = (".h5", ".hdf5", ".safetensors")

#: What a weight is called in Keras 1 and 2 -> in Keras 3.
_OLD_NAMES = {
    "w": "kernel",
    "b": "bias",
    "depthwise_kernel": "kernel",
    "pointwise_kernel": "kernel",
    "running_mean": "moving_mean",
    "running_std": "moving_variance",
}
_WEIGHT_NAME = re.compile(
    r"(?:^|[/_])((?:depthwise_|pointwise_)?kernel|bias|gamma|beta|(?:moving|running)_mean"
    r"|moving_variance|running_std|[wb])(?:_\d+)?(?::0)?$"
)


def open_stored(path: Path) -> ReadableWeights:
    """The file as what it is, checked.

    Raises `FeatcacheError` where it is missing, is not a weights file, or is not safe to open.
    """
    if not path.is_file():
        raise FeatcacheError(
            f"--weights {path}: there is no such file. Expected is imagenet, random, random:SEED "
            "or the path of a .weights.h5, .h5 or .safetensors file"
        )
    if path.suffix == ".safetensors":
        return SafetensorsFile(path, _safetensors_header(path))
    if path.suffix not in _SUFFIXES:
        raise FeatcacheError(
            f"--weights {path}: only weights-only files are read, .weights.h5, .h5 or "
            ".safetensors; a whole model can be saved as one by model.save_weights(...)"
        )
    checked = check_weights_file(path)
    return LegacyFile(checked) if checked.kind == "legacy" else KerasFile(checked)


@dataclass(frozen=True, slots=True)
class LegacyFile:
    """An ``.h5`` of Keras 1 or 2: layers in order, so order, shapes and kinds must all agree."""

    file: WeightsFile

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        return self.file.shapes

    def load(self, network: Any) -> None:
        names = canonical_names(network)
        wanted = [
            (names[layer.name], variable)
            for layer in network.layers
            for variable in (*layer.trainable_weights, *layer.non_trainable_weights)
        ]
        kinds = {_kind(name) for name in names.values()}
        for (layer, variable), stored in zip(wanted, self.file.weights, strict=True):
            _check_shape(layer, variable, stored)
            _check_place(layer, kinds, stored)
            mine, theirs = _weight_name(variable.name), _weight_name(stored.name)
            if mine and theirs and mine != theirs:
                raise FeatcacheError(f"layer {layer!r} has {variable.name}, there {stored.name}")
        for (_, variable), array in zip(wanted, self.file.read(), strict=True):
            variable.assign(array)
        settle(network)


@dataclass(frozen=True, slots=True)
class KerasFile:
    """A ``.weights.h5`` of Keras 3, loaded by Keras once it is known to be safe and complete."""

    file: WeightsFile

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        return self.file.shapes

    def load(self, network: Any) -> None:
        if not self.file.path.name.endswith(".weights.h5"):
            raise FeatcacheError("it is in the .weights.h5 layout: rename it to end so")
        self._check_places(network)
        try:
            with warnings.catch_warnings():
                # Keras only warns where a layer keeps its fresh random weights.
                warnings.simplefilter("error", UserWarning)
                network.load_weights(self.file.path)
        except (ValueError, KeyError, TypeError, OSError, RuntimeError, UserWarning) as error:
            text = " ".join(str(error).split())
            raise FeatcacheError(text[:400]) from error

    def _check_places(self, network: Any) -> None:
        """Each layer's place in the file holds its shapes, and no other layer of ours by name."""
        names = canonical_names(network)
        kinds = {_kind(name) for name in names.values()}
        stored = {weight.dataset: weight for weight in self.file.weights}
        for place, layer in _keras_places(network):
            for number, variable in enumerate(_own_weights(layer)):
                weight = stored.get(f"/layers/{place}/vars/{number}")
                if weight is None:
                    raise FeatcacheError(f"it lacks {variable.name} of layer {names[layer.name]!r}")
                _check_place(names[layer.name], kinds, weight)
                _check_shape(names[layer.name], variable, weight)


@dataclass(frozen=True, slots=True)
class SafetensorsFile:
    """A ``.safetensors`` file whose tensors are named as Keras paths, ``conv1_conv/kernel``."""

    path: Path
    header: dict[str, tuple[int, ...]]

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        return list(self.header.values())

    def load(self, network: Any) -> None:
        from safetensors import SafetensorError, safe_open

        wanted = canonical_paths(network)
        for name, variable in wanted.items():
            if name not in self.header:
                raise FeatcacheError(f"it has no tensor {name!r}")
            if self.header[name] != tuple(variable.shape):
                shapes = f"{tuple(variable.shape)}, in the file {self.header[name]}"
                raise FeatcacheError(f"tensor {name!r} should be of shape {shapes}")
        try:
            with safe_open(self.path, framework="numpy") as file:
                for name, variable in wanted.items():
                    variable.assign(file.get_tensor(name))
        except (SafetensorError, TypeError, ValueError) as error:
            raise FeatcacheError(f"its tensors could not be read: {error}") from error
        settle(network)


#: What can be loaded: each has `shapes`, and `load`, which raises `FeatcacheError` at the first
#: weight that disagrees with the network's.
ReadableWeights = LegacyFile | KerasFile | SafetensorsFile


def canonical_paths(network: Any) -> dict[str, Any]:
    """The weights of a network by path, ``layer/weight``, as a fresh session names them."""
    names, numbers = canonical_names(network), _nameless(network)
    paths: dict[str, Any] = {}
    for layer in network.layers:
        for variable in layer.weights:
            first, *middle, last = variable.path.split("/")
            path = [names.get(first, first), *middle, numbers.get(variable.path, last)]
            paths["/".join(path)] = variable
    return paths


def _nameless(network: Any) -> dict[str, str]:
    """Weights that Keras numbers through the process (ConvNeXt's layer scale), renumbered."""
    found = []
    for variable in network.weights:
        match = re.fullmatch(r"(?:.*/)?variable(?:_(\d+))?", variable.path)
        if match:
            found.append((int(match[1] or 0), variable.path))
    return {
        path: f"variable_{place}" if place else "variable"
        for place, (_, path) in enumerate(sorted(found))
    }


def settle(network: Any) -> None:
    """Let layers that derive values from their weights (Normalization) derive them again."""
    for layer in network.layers:
        if hasattr(layer, "finalize_state"):
            layer.finalize_state()


def _safetensors_header(path: Path) -> dict[str, tuple[int, ...]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            names = list(file.keys())
            return {name: tuple(file.get_slice(name).get_shape()) for name in names}
    except (SafetensorError, OSError) as error:
        raise FeatcacheError(f"{path}: not a safetensors file: {error}") from error


def _check_shape(layer: str, variable: Any, stored: StoredWeight) -> None:
    if tuple(variable.shape) != stored.shape:
        raise FeatcacheError(
            f"layer {layer!r}, {stored.layer!r} in the file: {variable.name} should be of shape "
            f"{tuple(variable.shape)}, and is of {stored.shape}"
        )


def _check_place(layer: str, kinds: set[str], stored: StoredWeight) -> None:
    """Keras 1 and 2 had other names for many layers; but a name of ours must be in its place."""
    there = _kind(stored.layer)
    if there and there != _kind(layer) and there in kinds:
        raise FeatcacheError(f"layer {layer!r} is {stored.layer!r} in the file, another layer")


def _own_weights(layer: Any) -> list[Any]:
    """The weights that lie at a layer's own place: all of them, but for layers of layers."""
    inner = list(layer._flatten_layers(include_self=False))
    return [] if inner else [*layer.trainable_weights, *layer.non_trainable_weights]


def _keras_places(network: Any) -> list[tuple[str, Any]]:
    """Where ``.weights.h5`` keeps each layer: its class, numbered in the network's order."""
    counts: dict[str, int] = {}
    places = []
    for layer in network.layers:
        kind = snake_case(type(layer).__name__)
        number = counts.get(kind, 0)
        counts[kind] = number + 1
        places.append((f"{kind}_{number}" if number else kind, layer))
    return places


def _kind(layer: str) -> str:
    """A layer's name without its number, case and punctuation."""
    return re.sub(r"[\W_]+", "", re.sub(r"_\d+$", "", layer)).lower()


def _weight_name(name: str) -> str:
    match = _WEIGHT_NAME.search(name.lower())
    return _OLD_NAMES.get(match[1], match[1]) if match else ""
