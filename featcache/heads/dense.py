"""The head `dense`: layers trained by Keras on cached vectors, used with numpy alone.

What is kept is our own list of layers (plain JSON) and their arrays; nothing of Keras's is
deserialised. `dense_training` has the training.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from featcache.errors import FeatcacheError, above_zero, at_least, one_of, share
from featcache.heads.model import floats, in_blocks
from featcache.training.options import LearningOptions
from featcache.training.steps import softmax


def _sigmoid(x: np.ndarray) -> np.ndarray:
    # exp(-|x|) never overflows.
    small = np.exp(-np.abs(x))
    result: np.ndarray = np.where(x >= 0, 1, small) / (1 + small)
    return result


#: Activations of hidden layers, under Keras's names.
ACTIVATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "linear": lambda x: x,
    "relu": lambda x: np.maximum(x, 0),
    "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    "silu": lambda x: x * _sigmoid(x),
    "sigmoid": _sigmoid,
    "tanh": np.tanh,
}
#: The arrays of each layer, and how their shapes follow from its inputs and units.
ARRAYS = {
    "standardize": ("mean", "scale"),
    "dense": ("kernel", "bias"),
    "batch_norm": ("gamma", "beta", "mean", "variance"),
    "dropout": (),
}


@dataclass(frozen=True)
class DenseOptions:
    """Options of `dense`; a hidden layer is Dense, BatchNorm, Dropout; then comes the output.

    Parameters
    ----------
    hidden: units of the hidden layers, such as (1024, 64); none: the output layer alone.
    dropout: share dropped after each hidden layer, or of the vectors where there is none.
    batch_norm: normalise after each hidden layer, or the vectors where there is none.
    steps_per_epoch: batches in an epoch; None: every image once.
    class_weight: "balanced" makes every class count the same, "none" every row.
    patience: stop after so many epochs without a better validation loss; None: never.
    stop_at: stop when training and validation accuracy both reach it; None: never.
    standardize: subtract each column's mean and divide by its deviation first.
    binary_sigmoid: with two classes, one output with a sigmoid in place of two with a softmax.

    The epoch with the best validation loss is the one that is kept.
    """

    hidden: int | Sequence[int] = ()
    dropout: float = 0.0
    batch_norm: bool = False
    activation: str = "relu"
    optimizer: str = "adam"
    learning_rate: float = 1e-3
    epochs: int = 20
    batch_size: int = 100
    steps_per_epoch: int | None = None
    label_smoothing: float = 0.0
    class_weight: str = "none"
    patience: int | None = None
    stop_at: float | None = None
    standardize: bool = False
    binary_sigmoid: bool = False

    def __post_init__(self) -> None:
        for units in self.units:
            at_least("--hidden", units, 1)
        share("--dropout", self.dropout)
        one_of("--activation", self.activation, tuple(ACTIVATIONS))
        one_of("--class-weight", self.class_weight, ("none", "balanced"))
        _ = self.learning

    @property
    def learning(self) -> LearningOptions:
        """Those of them that any training has, checked."""
        names = {field.name for field in fields(LearningOptions)} - {"seed"}
        return LearningOptions(**{name: getattr(self, name) for name in names})

    @property
    def units(self) -> tuple[int, ...]:
        """`hidden` as a tuple."""
        return (self.hidden,) if isinstance(self.hidden, int) else tuple(self.hidden)

    def layers(self, classes: int) -> list[dict[str, Any]]:
        """The list of layers for so many classes."""
        first: list[dict[str, Any]] = [{"layer": "standardize"}] if self.standardize else []
        noise: list[dict[str, Any]] = [{"layer": "batch_norm", "epsilon": 1e-3}]
        noise = noise * self.batch_norm + [{"layer": "dropout", "rate": self.dropout}]
        if not self.dropout:
            noise.pop()
        if self.binary_sigmoid and classes != 2:
            raise FeatcacheError(
                f"--binary-sigmoid with {classes} classes: one sigmoid tells two classes apart; "
                f"leave the option out, and the output is a softmax"
            )
        last = (1, "sigmoid") if self.binary_sigmoid else (classes, "softmax")
        blocks = [[_dense(units, self.activation), *noise] for units in self.units] or [noise]
        return [*first, *[layer for block in blocks for layer in block], _dense(*last)]


def _dense(units: int, activation: str) -> dict[str, Any]:
    return {"layer": "dense", "units": units, "activation": activation}


@dataclass(frozen=True, eq=False)
class DenseHead:
    """A fitted dense head.

    Attributes
    ----------
    arrays: {"0.kernel": (D, units) float32, "0.bias": ..., "1.gamma": ...}, by layer number.
    settings: `layers`, the list of them; the options, parameter counts and the history.
    width: numbers in a vector, D.
    """

    arrays: dict[str, np.ndarray]
    settings: dict[str, Any]
    width: int

    @property
    def layers(self) -> list[dict[str, Any]]:
        """What each layer is, from the vectors to the output."""
        layers: list[dict[str, Any]] = self.settings["layers"]
        return layers

    @property
    def outputs(self) -> int:
        return max(2, int(self.layers[-1]["units"]))

    def predict_proba(self, vectors: np.ndarray) -> np.ndarray:
        """Class probabilities (n, K), float32, of (n, D) vectors; works in blocks of rows."""
        return in_blocks(vectors, self.outputs, self._forward)

    def logits(self, rows: np.ndarray) -> np.ndarray:
        """(n, K) of (n, D) float32 rows, all at once; (n, 1) where the output is one sigmoid."""
        *hidden, last = enumerate(self.layers)
        for number, layer in hidden:
            rows = _apply(layer, self._arrays(number), rows)
        kernel, bias = self._arrays(last[0])
        found: np.ndarray = rows @ kernel + bias
        return found

    def passed_on(self, errors: np.ndarray) -> np.ndarray:
        """The largest errors of the logits, (n, K), where those of the vectors are `errors` (n, D).

        A layer adds up errors by the sizes of its weights; no activation stretches them, but silu
        by a tenth.
        """
        for number, layer in enumerate(self.layers):
            arrays = self._arrays(number)
            if layer["layer"] == "dense":
                errors = errors @ np.abs(arrays[0])
            elif layer["layer"] == "standardize":
                errors = errors / arrays[1]
            elif layer["layer"] == "batch_norm":
                errors = errors * np.abs(arrays[0]) / np.sqrt(arrays[3] + layer["epsilon"])
        return errors

    def _forward(self, rows: np.ndarray) -> np.ndarray:
        logits = self.logits(rows)
        if logits.shape[1] > 1:
            return softmax(logits)
        second = _sigmoid(logits)
        return np.concatenate([1 - second, second], axis=1)

    def _arrays(self, number: int) -> list[np.ndarray]:
        return [self.arrays[f"{number}.{name}"] for name in ARRAYS[self.layers[number]["layer"]]]

    def state(self) -> dict[str, np.ndarray]:
        return dict(self.arrays)

    @classmethod
    def from_state(cls, state: dict[str, np.ndarray], settings: dict[str, Any]) -> DenseHead:
        layers = _checked_layers(settings["layers"])
        width = len(state[next(iter(_shapes(layers, 0)))])
        arrays = floats(state, _shapes(layers, width))
        for number, layer in enumerate(layers):
            if layer["layer"] == "standardize" and not (arrays[f"{number}.scale"] > 0).all():
                raise FeatcacheError(f"the array '{number}.scale' has values that are not above 0")
            if layer["layer"] == "batch_norm" and not (arrays[f"{number}.variance"] >= 0).all():
                raise FeatcacheError(f"the array '{number}.variance' has values below 0")
        return cls(arrays, settings, width)


def _apply(layer: dict[str, Any], arrays: list[np.ndarray], rows: np.ndarray) -> np.ndarray:
    """A hidden layer, as it is when nothing is trained."""
    if layer["layer"] == "standardize":
        mean, scale = arrays
        centred: np.ndarray = (rows - mean) / scale
        return centred
    if layer["layer"] == "batch_norm":
        gamma, beta, mean, variance = (array.astype(np.float64) for array in arrays)
        factor = gamma / np.sqrt(variance + layer["epsilon"])
        offset = (beta - mean * factor).astype(np.float32)
        normalised: np.ndarray = rows * factor.astype(np.float32) + offset
        return normalised
    if layer["layer"] == "dropout":
        return rows
    kernel, bias = arrays
    return ACTIVATIONS[layer["activation"]](rows @ kernel + bias)


def _checked_layers(layers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The list of layers of a saved head, if it is one that `DenseOptions.layers` could give."""
    *hidden, last = layers
    output = (last["layer"], last["activation"], last["units"] == 1)
    if output not in (("dense", "softmax", False), ("dense", "sigmoid", True)):
        raise FeatcacheError(f"unknown output layer {last}")
    for layer in layers:
        if layer["layer"] not in ARRAYS:
            raise FeatcacheError(f"unknown layer {layer['layer']!r}: upgrade featcache")
        if layer["layer"] == "dense":
            at_least("units", layer["units"], 1)
        if layer["layer"] == "batch_norm":
            above_zero("epsilon", layer["epsilon"], "0.001")
    for layer in hidden:
        if layer["layer"] == "dense" and layer["activation"] not in ACTIVATIONS:
            raise FeatcacheError(f"unknown activation {layer['activation']!r}: upgrade featcache")
    return layers


def _shapes(layers: list[dict[str, Any]], width: int) -> dict[str, tuple[int | None, ...]]:
    """The shape of every array of the layers, for vectors of `width` numbers."""
    shapes: dict[str, tuple[int | None, ...]] = {}
    for number, layer in enumerate(layers):
        if layer["layer"] == "dense":
            shapes[f"{number}.kernel"] = (width, layer["units"])
            width = layer["units"]
        for name in ARRAYS[layer["layer"]]:
            shapes.setdefault(f"{number}.{name}", (width,))
    return shapes
