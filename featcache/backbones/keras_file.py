"""A ``.keras`` file as a backbone: its archive is checked, then Keras loads it in safe mode."""

from __future__ import annotations

import functools
import json
import shutil
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from featcache.backbones.keras_import import import_keras
from featcache.backbones.pixel_chain import Call, scales_itself
from featcache.backbones.user_model import UserModel, one_line, settle_scale, settle_size
from featcache.errors import FeatcacheError, StorageFailure
from featcache.store.foreign import check_weights_file

_CONFIG, _WEIGHTS = "config.json", "model.weights.h5"
_MEMBERS = {_CONFIG, "metadata.json", _WEIGHTS}
_MOST_CONFIG = 64_000_000

#: Keras stores its members as they are, so an honest file unpacks to about its own size.
_UNPACKED_PER_BYTE = 4

#: Layers that are Python code or other files, and what Keras's safe mode says no to.
_UNSAFE = {"Lambda", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer"}

#: Packages whose classes Keras finds by itself.
_KERAS_PACKAGES = ("keras", "keras_hub", "keras_cv", "keras_nlp", "builtins")

#: What Python's zipfile, zlib and json raise for bytes that are not theirs.
_BROKEN = (
    zipfile.BadZipFile, zlib.error, KeyError, ValueError, EOFError, OSError,
    RecursionError, RuntimeError, OverflowError, struct.error,
)  # fmt: skip

_WAY_OUT = (
    "Rewrite it as a layer that is registered with @keras.saving.register_keras_serializable() and "
    "import that from Python before featcache opens the file, or export the model as a SavedModel: "
    "model.export('folder')"
)


@dataclass(frozen=True, slots=True)
class Replay:
    """A loaded model called once more on pixels of a known size, every layer's output noted.

    `feature` is the name of the model's one output; "" where it has several.
    """

    network: Any
    tensors: dict[str, Any]
    feature: str
    calls: list[Call]


def open_keras_file(
    path: Path, digest: str, *, size: tuple[int, int] | None, scale: str | None
) -> UserModel:
    """Open a ``.keras`` file that the user trusts; every layer called once can be tapped."""
    check_archive(path)
    model = _load(path)
    settled = settle_size(path, _input_sides(path, model), size)
    replay = _replay(path, model, settled)
    scaling, remarks = settle_scale(path, scale, scales_itself(replay.network.input, replay.calls))
    return UserModel(
        path=path,
        digest=digest,
        size=settled,
        scaling=scaling,
        network=replay.network,
        tensors=replay.tensors,
        feature=replay.feature,
        taps=True,
        finetune=bool(replay.network.trainable_weights),
        remarks=(*remarks, *_softmax_remark(model, replay.feature)),
    )


def check_archive(path: Path) -> None:
    """Raise `FeatcacheError` where the file is not what Keras writes, or is not safe to load.

    Needs no Keras: names, sizes, the weights' HDF5 structure and the classes of all layers.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            _check_members(path, archive)
            config = json.loads(archive.read(_CONFIG))
            _check_weights(archive)
    except StorageFailure:
        raise
    except _BROKEN as error:
        raise FeatcacheError(
            f"{path} is not a whole .keras file: {one_line(error)}. Expected is what "
            "model.save('name.keras') of Keras 3 writes"
        ) from error
    for name, kind, part in _classes(config):
        _check_class(path, name, kind, part)


def _check_members(path: Path, archive: zipfile.ZipFile) -> None:
    members = archive.infolist()
    names = [member.filename for member in members]
    if set(names) != _MEMBERS or len(names) != len(_MEMBERS):
        raise ValueError(f"it holds {', '.join(sorted(names)[:6])}, not {', '.join(_MEMBERS)}")
    unpacked = sum(member.file_size for member in members)
    if unpacked > _UNPACKED_PER_BYTE * path.stat().st_size + _MOST_CONFIG:
        raise ValueError(f"it would unpack to {unpacked} bytes, far more than the file has")
    if archive.getinfo(_CONFIG).file_size > _MOST_CONFIG:
        raise ValueError(f"its {_CONFIG} is too long")


def _check_weights(archive: zipfile.ZipFile) -> None:
    """Walk the weights as any other weights file; HDF5 needs them unpacked."""
    with tempfile.TemporaryDirectory(prefix="featcache-") as folder:
        unpacked = Path(folder) / _WEIGHTS
        try:
            with archive.open(_WEIGHTS) as source, unpacked.open("wb") as target:
                shutil.copyfileobj(source, target, 1 << 20)
        except OSError as error:
            raise StorageFailure(f"no room to unpack the weights in {folder}: {error}") from error
        try:
            check_weights_file(unpacked)
        except FeatcacheError as error:
            # Its text names the unpacked file, which is gone when the user reads it.
            raise ValueError(f"its weights: {one_line(error.__cause__ or error)}") from error


def _classes(config: Any) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(name, class, part of the configuration) of everything that Keras would make."""
    if isinstance(config, list):
        for value in config:
            yield from _classes(value)
    elif isinstance(config, dict):
        if isinstance(config.get("class_name"), str):
            inner = config.get("config")
            name = inner.get("name", "") if isinstance(inner, dict) else ""
            yield str(name), config["class_name"], config
        for key, value in config.items():
            # Optimisers, losses and metrics are not loaded: what they are does not matter.
            if key != "compile_config":
                yield from _classes(value)


def _check_class(path: Path, name: str, kind: str, part: dict[str, Any]) -> None:
    if kind in _UNSAFE or kind == "__lambda__":
        raise FeatcacheError(
            f"{path}: layer {name or kind!r} is a {kind.strip('_')}, whose code would run unseen; "
            f"safe loading refuses it. {_WAY_OUT}"
        )
    package = str(part.get("module") or "").split(".")[0]
    registered = part.get("registered_name")
    if "module" not in part or package in _KERAS_PACKAGES or _is_registered(registered or kind):
        return
    raise FeatcacheError(
        f"{path}: layer {name!r} is of the class {registered or kind}, which Keras does not know "
        f"here. {_WAY_OUT}"
    )


def _is_registered(name: str) -> bool:
    return import_keras().saving.get_registered_object(name) is not None


def _load(path: Path) -> Any:
    keras = import_keras()
    try:
        model = keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:
        # A configuration can fail in any layer's own code; the text says in which.
        raise FeatcacheError(f"Keras cannot load {path}: {one_line(error)}") from error
    if not isinstance(model, (keras.Sequential, type(keras.Model(*_identity(keras))))):
        raise FeatcacheError(
            f"{path} holds a {type(model).__name__}, a model without a graph of layers: export it "
            "as a SavedModel: model.export('folder')"
        )
    for layer in model._flatten_layers():
        if layer.compute_dtype in ("float16", "bfloat16", "float64"):
            raise FeatcacheError(
                f"{path}: layer {layer.name!r} computes in {layer.compute_dtype}; featcache needs "
                "float32: load it, set layer.dtype_policy = 'float32' on its layers, save it again"
            )
    return model


def _identity(keras: Any) -> tuple[Any, Any]:
    """Input and output of the smallest graph of layers: Keras has no public name for its class."""
    pixels = keras.Input((1,))
    return pixels, keras.layers.Identity()(pixels)


def _input_sides(path: Path, model: Any) -> tuple[int | None, int | None]:
    """(height, width) of the model's one input; None where any will do."""
    inputs = getattr(model, "inputs", None) or []
    if len(inputs) != 1:
        names = ", ".join(tensor.name for tensor in inputs) or "none that is known"
        raise FeatcacheError(
            f"{path} has {len(inputs)} inputs ({names}): expected is one, a batch of RGB images"
        )
    shape, dtype = tuple(inputs[0].shape), inputs[0].dtype
    problem = input_problem(shape, dtype)
    if problem:
        raise FeatcacheError(f"{path}: {problem}")
    return shape[1], shape[2]


def input_problem(shape: tuple[int | None, ...], dtype: str) -> str:
    """Why an input of this shape and type is not a batch of RGB images; "" where it is."""
    if dtype not in ("float32", "uint8"):
        return f"its input is of type {dtype}: expected is float32 or uint8 pixels"
    if len(shape) != 4:
        return f"its input is of shape {shape}: expected is (batch, height, width, 3)"
    if shape[3] == 1:
        return "it takes grey images of one channel: only models of RGB images are supported"
    if shape[3] not in (3, None):
        return f"its input is of shape {shape}: expected are 3 channels, in the last place"
    if shape[0] is not None:
        return f"its batch is fixed to {shape[0]}: save it with a free batch size (None)"
    return ""


def _replay(path: Path, model: Any, size: tuple[int, int]) -> Replay:
    """Call the model's own layers, weights and all, on an input of fixed size."""
    keras = import_keras()
    calls: list[Call] = []

    def call(layer: Any, *inputs: Any, **options: Any) -> Any:
        output = layer(*inputs, **options)
        calls.append(Call(layer, (*inputs, *options.values()), output))
        return output

    pixels = keras.Input((*size, 3), dtype="float32", name="pixels")
    try:
        outputs = _called_again(model, pixels, call)
    except Exception as error:
        # As above: whatever a layer raises for a size that it cannot take.
        size_text = f"{size[0]}x{size[1]}"
        raise FeatcacheError(f"{path} cannot take {size_text}: {one_line(error)}") from error
    network = keras.Model(pixels, outputs[0] if len(outputs) == 1 else outputs)
    tensors = _tensors(calls)
    if len(outputs) != 1:
        return Replay(network, tensors, "", calls)
    names = [name for name, tensor in tensors.items() if tensor is outputs[0]]
    if not names:
        # Its last layer is called more than once.
        tensors["output"] = outputs[0]
    return Replay(network, tensors, names[0] if names else "output", calls)


def _called_again(model: Any, pixels: Any, call: Callable[..., Any]) -> list[Any]:
    """The outputs of the model's layers on `pixels`, each layer called through `call`."""
    keras = import_keras()
    if isinstance(model, keras.Sequential):
        return [functools.reduce(lambda tensor, layer: call(layer, tensor), model.layers, pixels)]
    again = keras.models.clone_model(
        model,
        keras.tree.pack_sequence_as(model.input, [pixels]),
        clone_function=lambda layer: layer,
        call_function=call,
    )
    return list(again.outputs)


def _tensors(calls: list[Call]) -> dict[str, Any]:
    """One output of each layer that is called once, by the name that the file gives it."""
    counts: dict[str, int] = {}
    for call in calls:
        counts[call.layer.name] = counts.get(call.layer.name, 0) + 1
    return {
        call.layer.name: call.output
        for call in calls
        if counts[call.layer.name] == 1 and hasattr(call.output, "shape")
    }


def _softmax_remark(model: Any, feature: str) -> tuple[str, ...]:
    last = model.layers[-1]
    while hasattr(last, "layers"):
        last = last.layers[-1]
    activation = getattr(getattr(last, "activation", None), "__name__", "")
    if feature and (activation == "softmax" or type(last).__name__ == "Softmax"):
        return (f"its output {feature!r} is class probabilities; --layer -2 taps the layer before",)
    return ()
