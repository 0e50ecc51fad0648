"""The archive that a ``.keras`` file is: checked before Keras loads any of it."""

from __future__ import annotations

import json
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from featcache.backbones.hdf5_weights import check_weights_file
from featcache.backbones.keras_import import import_keras
from featcache.backbones.user_models.user_model import one_line
from featcache.errors import FeatcacheError, StorageFailure
from featcache.files.folders import scratch_folder
from featcache.files.write import put

_CONFIG, _WEIGHTS = "config.json", "model.weights.h5"
_MEMBERS = {_CONFIG, "metadata.json", _WEIGHTS}
_MOST_CONFIG = 64_000_000

#: Keras stores its members as they are, so an honest file unpacks to about its own size.
_UNPACKED_PER_BYTE = 4

#: Layers that are Python code or other files, and what Keras's safe mode says no to.
_UNSAFE = {"Lambda", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer"}

#: Modules of which Keras finds layers and functions by itself, and networks are made. Others of its
#: own read files (keras.utils), download (keras.datasets), or import what is not ours
#: (keras.src.backend.openvino).
_KERAS_MODULES = re.compile(
    r"builtins|keras|keras_(hub|cv|nlp)(\.\w+)*|keras\.src\.applications(\.(?!\w*_test\b)\w+)*|"
    r"keras\.(src\.)?(activations|constraints|dtype_policies|initializers|layers|losses|metrics|"
    r"models|ops|quantizers|random|regularizers)(\.(?!\w*_test\b)\w+)*"
)

#: What Python's zipfile, zlib and json raise for bytes that are not in their format.
_BROKEN = (
    zipfile.BadZipFile, zlib.error, KeyError, ValueError, EOFError, OSError,
    RecursionError, RuntimeError, OverflowError, struct.error,
)  # fmt: skip

_WAY_OUT = (
    "Rewrite it as a layer that is registered with @keras.saving.register_keras_serializable() and "
    "import that from Python before featcache opens the file, or export the model as a SavedModel: "
    "model.export('folder')"
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
    if isinstance(config, dict):
        # The model's own optimiser, loss and metrics are not loaded; those of models in it are.
        config.pop("compile_config", None)
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
    with scratch_folder() as folder:
        unpacked = Path(folder) / _WEIGHTS
        try:
            with archive.open(_WEIGHTS) as source:
                put(Path(folder), [_WEIGHTS], source)
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
        for value in config.values():
            yield from _classes(value)


def _check_class(path: Path, name: str, kind: str, part: dict[str, Any]) -> None:
    if kind in _UNSAFE or kind == "__lambda__":
        raise FeatcacheError(
            f"{path}: layer {name or kind!r} is a {kind.strip('_')}, whose code would run unseen; "
            f"safe loading refuses it. {_WAY_OUT}"
        )
    if "module" not in part or _KERAS_MODULES.fullmatch(str(part["module"])):
        return
    # As Keras looks for it: functions by the name in their place for a configuration.
    called = part.get("config") if kind == "function" else part.get("registered_name", kind)
    if _is_registered(called) or _is_preparation(part["module"], called):
        return
    what = f"layer {name!r} is of the class {called or kind}"
    if kind == "function":
        what = f"a layer uses the function {called!r} of {part['module']!r}"
    raise FeatcacheError(
        f"{path}: {what}, which is not one that Keras knows here as part of networks. {_WAY_OUT}"
    )


def _is_preparation(module: Any, name: Any) -> bool:
    """Whether a function is the ``preprocess_input`` of a family of `keras.applications`."""
    return name == "preprocess_input" and str(module).startswith("keras.applications.")


def _is_registered(name: Any) -> bool:
    if not isinstance(name, str):
        return False
    return import_keras().saving.get_registered_object(name) is not None
