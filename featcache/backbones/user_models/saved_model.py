"""A TensorFlow SavedModel as a backbone, as TF-Hub and Kaggle ship them and Keras exports them.

Its functions are called as they were saved, so neither `tensorflow_hub` nor the code that made
the model is needed. What can be tapped are the outputs of the one function that is used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from featcache.backbones.keras_import import import_keras, import_tensorflow
from featcache.backbones.user_models.saved_graph import load_graph
from featcache.backbones.user_models.user_model import (
    UserModel,
    input_problem,
    one_line,
    settle_scale,
    settle_size,
)
from featcache.errors import FeatcacheError

#: Signatures by preference: TF-Hub's for images, TensorFlow Serving's, TF1 modules', Keras's.
_SIGNATURES = ("image_feature_vector", "feature_vector", "serving_default", "default", "serve")

#: Names of the output that is meant where a function has several.
_FEATURES = ("default", "feature_vector", "pooled", "pooled_features", "features", "embedding")

#: How far a row may move when other images are beside it: rounding is a hundred times less.
_SAME_ROW = 1e-3


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One function of a SavedModel: float32 or uint8 images in, named tensors out.

    `shape` is (None, height, width, 3), sides None where they are free; `variables` are those that
    the function reads.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str
    call: Callable[[Any], dict[str, Any]]
    variables: tuple[Any, ...]


def open_saved_model(
    path: Path, digest: str, *, size: tuple[int, int] | None, scale: str | None
) -> UserModel:
    """Open a SavedModel that the user trusts; its outputs can be tapped by name."""
    graph = load_graph(path)
    root = graph.root
    endpoint = _choose(path, root, size)
    graph.check_call(endpoint.name)
    settled = settle_size(path, (endpoint.shape[1], endpoint.shape[2]), size)
    known = f"{endpoint.name!r} takes uint8 pixels" if endpoint.dtype == "uint8" else ""
    scaling, remarks = settle_scale(path, scale, known)
    rows = _row_shapes(path, endpoint, settled)
    keras = import_keras()
    layer = _keras_layer(endpoint, rows, root)
    pixels = keras.Input((*settled, 3), dtype="float32", name="pixels")
    tensors = layer(pixels)
    return UserModel(
        path=path,
        digest=digest,
        size=settled,
        scaling=scaling,
        network=keras.Model(pixels, tensors),
        tensors=tensors,
        feature=_feature(tuple(rows)),
        taps=False,
        finetune=False,  # its variables would learn, but nothing could write them again
        remarks=remarks,
    )


def _choose(path: Path, root: Any, size: tuple[int, int] | None) -> Endpoint:
    """The function to use: a signature by preference, else the object's own call.

    Raises `FeatcacheError` that lists every function and why it will not do.
    """
    usable: dict[str, Endpoint] = {}
    problems: list[str] = []
    for endpoint in _endpoints(path, root):
        if isinstance(endpoint, str):
            problems.append(endpoint)
        elif endpoint.name not in usable:
            usable[endpoint.name] = endpoint
    fitting = [each for each in usable.values() if _fits(each, size)] or [*usable.values()]
    for name in (*_SIGNATURES, "__call__"):
        for endpoint in fitting:
            if endpoint.name == name:
                return endpoint
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        names = ", ".join(endpoint.name for endpoint in fitting)
        raise FeatcacheError(f"{path} has several signatures, {names}: save it with one of them")
    raise FeatcacheError(
        f"{path} has no signature that takes one batch of RGB images:",
        problems or ["it has none"],
        "Export it again with one input of shape (None, height, width, 3), float32 or uint8",
    )


def _endpoints(path: Path, root: Any) -> list[Endpoint | str]:
    """Every function as an endpoint, or as a sentence that says why it is none."""
    try:
        return [*_signatures(root), *_own_calls(root)]
    except Exception as error:
        # Objects can be saved under any names, also where functions are expected.
        raise FeatcacheError(f"{path} has functions of no known form: {one_line(error)}") from error


def _fits(endpoint: Endpoint, size: tuple[int, int] | None) -> bool:
    sides = zip(endpoint.shape[1:3], size or (None, None), strict=True)
    return all(None in pair or pair[0] == pair[1] for pair in sides)


def _signatures(root: Any) -> Iterator[Endpoint | str]:
    """Every signature as an endpoint, or as a sentence that says why it is none."""
    for name, signature in root.signatures.items():
        positional, named = signature.structured_input_signature
        specs = {**{str(n): spec for n, spec in enumerate(positional)}, **named}
        if len(specs) != 1 or positional:
            yield f"{name}: it takes {len(specs)} inputs, {', '.join(map(str, specs))}"
            continue
        key, spec = next(iter(specs.items()))
        yield _endpoint(name, spec, partial(_call_named, signature, key), signature.variables)


def _call_named(signature: Any, key: str, pixels: Any) -> Any:
    return signature(**{key: pixels})


def _own_calls(root: Any) -> Iterator[Endpoint | str]:
    """The object's own call, as TF-Hub's models have it, in inference mode, for every shape."""
    function = vars(root).get("__call__")
    for concrete in getattr(function, "concrete_functions", ()):
        (images, *others), named = concrete.structured_input_signature
        training = [value for value in (*others, *named.values()) if isinstance(value, bool)]
        if True in training:
            continue
        keywords = {"training": False} if training or "training" in named else {}
        yield _endpoint("__call__", images, partial(function, **keywords), concrete.variables)


def _endpoint(
    name: str, spec: Any, call: Callable[[Any], Any], variables: tuple[Any, ...]
) -> Endpoint | str:
    tensorflow = import_tensorflow()
    if not isinstance(spec, tensorflow.TensorSpec):
        return f"{name}: its input is a {type(spec).__name__}, not a plain tensor"
    if spec.shape.rank is None:
        return f"{name}: its input is of unknown shape"
    shape, dtype = tuple(spec.shape), spec.dtype.name
    problem = input_problem(shape, dtype)
    if problem:
        return f"{name}: {problem}"

    def called(pixels: Any) -> dict[str, Any]:
        if dtype == "uint8":
            pixels = tensorflow.saturate_cast(tensorflow.round(pixels), "uint8")
        return _named(call(pixels))

    return Endpoint(name, shape, dtype, called, tuple(variables))


def _named(outputs: Any) -> dict[str, Any]:
    """A function's outputs by name; a tensor alone is TF-Hub's "default"."""
    if isinstance(outputs, dict):
        return {str(name): tensor for name, tensor in outputs.items()}
    if isinstance(outputs, (list, tuple)):
        return {f"output_{number}": tensor for number, tensor in enumerate(outputs)}
    return {"default": outputs}


def _row_shapes(
    path: Path, endpoint: Endpoint, size: tuple[int, int]
) -> dict[str, tuple[int, ...]]:
    """The shape of a row of each output that can be tapped, found out by running it twice.

    Raises `FeatcacheError` where it fails, or no output has one float32 row for each image.
    """
    tensorflow = import_tensorflow()
    # Not zeros: a row that depends on its neighbours has to show.
    images = np.random.default_rng(0).uniform(0, 1, (2, *size, 3)).astype(np.float32)
    try:
        one, two = (endpoint.call(tensorflow.constant(images[:count])) for count in (1, 2))
    except Exception as error:
        # Whatever its operations raise for images of this size.
        raise FeatcacheError(
            f"{path}: {endpoint.name!r} fails on images of {size[0]}x{size[1]}: {one_line(error)}"
        ) from error
    rows, problems = {}, []
    for name in sorted(one):
        problem = _output_problem(one[name], two[name])
        if problem:
            problems.append(f"{name}: {problem}")
        else:
            rows[name] = tuple(one[name].shape[1:])
    if not rows:
        raise FeatcacheError(f"{path}: no output of {endpoint.name!r} can be used:", problems)
    return rows


def _output_problem(one: Any, two: Any) -> str:
    """Why an output is not one float32 row for each image, told from one image and from two."""
    shapes = [tuple(getattr(tensor, "shape", ())) for tensor in (one, two)]
    if not all(hasattr(tensor, "dtype") for tensor in (one, two)):
        return f"it is a {type(one).__name__}, not a plain tensor"
    if one.dtype != "float32":
        return f"it is of type {one.dtype.name}, not float32"
    if shapes[0][:1] != (1,) or shapes[1][:1] != (2,) or len(shapes[0]) < 2:
        return f"one image gives {shapes[0]}, two give {shapes[1]}: not a row for each image"
    if shapes[0][1:] != shapes[1][1:]:
        return f"the shape of its rows depends on the batch: {shapes[0]}, {shapes[1]}"
    alone, beside = one.numpy()[0], two.numpy()[0]
    if np.abs(alone - beside).max() > _SAME_ROW * np.abs(alone).max():
        return "a row depends on the other images of its batch, as in training"
    return ""


def _feature(names: tuple[str, ...]) -> str:
    if len(names) == 1:
        return names[0]
    return next((name for name in _FEATURES if name in names), "")


def _keras_layer(endpoint: Endpoint, rows: dict[str, tuple[int, ...]], root: Any) -> Any:
    """A Keras layer that calls the endpoint; it owns the variables, so they can be trained."""
    keras = import_keras()

    class SavedModel(keras.layers.Layer):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__(name="saved_model")
            # Tables and other resources live only as long as the object they were loaded with.
            self.root = [root]
            self.kept = [
                keras.Variable(
                    variable,
                    trainable=variable.trainable,
                    dtype=variable.dtype.name,
                    name=variable.name.replace("/", "_").replace(":0", ""),
                )
                for variable in {id(each): each for each in endpoint.variables}.values()
            ]

        def call(self, pixels: Any, training: bool = False) -> dict[str, Any]:
            outputs = endpoint.call(pixels)
            for name, shape in rows.items():
                outputs[name].set_shape((pixels.shape[0], *shape))
            return {name: outputs[name] for name in rows}

        def compute_output_spec(self, pixels: Any, training: bool = False) -> dict[str, Any]:
            return {
                name: keras.KerasTensor((pixels.shape[0], *shape), "float32")
                for name, shape in rows.items()
            }

    return SavedModel()
