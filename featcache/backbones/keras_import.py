"""The one door to Keras: quiet, on TensorFlow, in float32, with channels last.

No setting silences TensorFlow's start: its messages are written to file descriptor 2 before any
log level is read. So that descriptor is a file while it is imported, and whatever else was said is
said after.
"""

from __future__ import annotations

import contextlib
import os
import platform
import re
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import joblib

from featcache.errors import FeatcacheError
from featcache.files.folders import scratch_file

_TENSORFLOWS = ("tensorflow", "tensorflow-cpu", "tensorflow-macos", "tf-nightly")

_QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "GRPC_VERBOSITY": "ERROR", "GLOG_minloglevel": "2"}

_NOISE = re.compile(
    rb"^(WARNING: All log messages before absl::InitializeLog|[IWE]\d{4} |"
    rb"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+: [IWE] |To enable the following instructions)"
)


def import_keras() -> Any:
    """The `keras` module, its settings checked: with others, vectors would differ.

    Raises `FeatcacheError` for another backend, channel order, float type or dtype policy.
    """
    _check_backend(os.environ.get("KERAS_BACKEND", "tensorflow"))
    import_tensorflow()
    try:
        import keras
    except ImportError as error:
        raise FeatcacheError(f"Keras could not be imported: {error}") from error
    _check_backend(keras.backend.backend())
    _check_setting("image_data_format", keras.config.image_data_format(), "channels_last")
    _check_setting("floatx", keras.config.floatx(), "float32")
    _check_setting("dtype_policy", keras.config.dtype_policy().name, "float32")
    return keras


def import_tensorflow() -> Any:
    """The `tensorflow` module, without its start-up messages unless the user asked for them."""
    # Where a log level is set, or TensorFlow was imported before us, its messages are shown.
    silent = "tensorflow" not in sys.modules and "TF_CPP_MIN_LOG_LEVEL" not in os.environ
    for variable, value in _QUIET.items():
        os.environ.setdefault(variable, value)
    try:
        with without_startup_noise() if silent else contextlib.nullcontext():
            import tensorflow
    except ImportError as error:
        raise FeatcacheError(f"TensorFlow could not be imported: {error}") from error
    _prepare_gpus(tensorflow)
    _set_threads(tensorflow)
    return tensorflow


def _set_threads(tensorflow: Any) -> None:
    """As many as a container's limits allow, which TensorFlow does not read by itself."""
    threading, count = tensorflow.config.threading, joblib.cpu_count()
    try:
        if not threading.get_intra_op_parallelism_threads():
            threading.set_intra_op_parallelism_threads(count)
        if not threading.get_inter_op_parallelism_threads():
            threading.set_inter_op_parallelism_threads(count)
    except RuntimeError:
        # The caller has computed with TensorFlow before us: its threads are there already.
        return


def _prepare_gpus(tensorflow: Any) -> None:
    """Take GPU memory as needed, and full float32: TF32 would be off by 1e-3."""
    tensorflow.config.experimental.enable_tensor_float_32_execution(False)
    for gpu in tensorflow.config.list_physical_devices("GPU"):
        try:
            tensorflow.config.experimental.set_memory_growth(gpu, True)
        except RuntimeError:
            # The caller used this GPU before us: how it takes memory is already settled.
            return


def _check_backend(backend: str) -> None:
    if backend != "tensorflow":
        raise FeatcacheError(
            f"Keras is set to its {backend!r} backend; featcache needs 'tensorflow': "
            "set KERAS_BACKEND=tensorflow (or edit ~/.keras/keras.json) and start again"
        )


def _check_setting(name: str, value: str, needed: str) -> None:
    if value != needed:
        raise FeatcacheError(
            f"the Keras setting {name} is {value!r}; featcache needs {needed!r}, or the vectors "
            f"would be others than the recipe says: keras.config.set_{name}({needed!r})"
        )


def keras_versions() -> list[str] | None:
    """Of what builds a network, without importing it; None where that is unknown."""
    for name in _TENSORFLOWS:
        try:
            return [version("keras"), version(name), platform.machine()]
        except PackageNotFoundError:
            continue
    return None


@contextlib.contextmanager
def without_startup_noise() -> Iterator[None]:
    """Within it, log lines of TensorFlow's C++ written to stderr are dropped, others delayed."""
    try:
        terminal = os.dup(2)
    except OSError:
        # There is no stderr (a service): nobody would see the noise.
        yield
        return
    with scratch_file() as said:
        os.dup2(said.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)
            said.seek(0)
            for line in said:
                if not _NOISE.match(line):
                    os.write(2, line)
