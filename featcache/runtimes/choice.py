"""Which runtime runs a network, and why; told without importing any of them."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path

from featcache.errors import FeatcacheError

RUNTIMES = ("auto", "tensorflow", "openvino")


@dataclass(frozen=True, slots=True)
class Choice:
    """A runtime's name, whether the user named it, and one sentence that says why it is used."""

    name: str
    asked: bool
    reason: str


def choose_runtime(name: str) -> Choice:
    """The runtime that `name` means: "auto" is TensorFlow on a GPU, else OpenVINO where it is.

    Raises `FeatcacheError` for an unknown name, or a runtime that is not installed.
    """
    if name not in RUNTIMES:
        raise FeatcacheError(f"--runtime {name!r} is not one of {', '.join(RUNTIMES)}")
    if name == "openvino" and not has_openvino():
        raise FeatcacheError(
            "--runtime openvino: OpenVINO is not installed: pip install openvino, "
            "or use --runtime tensorflow"
        )
    if name != "auto":
        return Choice(name, True, f"asked for by --runtime {name}")
    if has_gpu():
        return Choice("tensorflow", False, "auto: TensorFlow, because it sees a GPU")
    if has_openvino():
        return Choice("openvino", False, "auto: OpenVINO, because there is no GPU")
    reason = "auto: TensorFlow, because there is no GPU and OpenVINO is not installed"
    return Choice("tensorflow", False, reason)


def has_openvino() -> bool:
    """Whether OpenVINO is installed; it is not imported."""
    return importlib.util.find_spec("openvino") is not None


def has_gpu() -> bool:
    """Whether TensorFlow sees a GPU. It is asked only where the system has one at all."""
    if not any(Path(trace).exists() for trace in _traces_of_gpus()):
        return False
    from featcache.backbones.keras_import import import_tensorflow

    return bool(import_tensorflow().config.list_physical_devices("GPU"))


def _traces_of_gpus() -> list[str]:
    """Paths that a driver makes: NVIDIA's, and AMD's, which its own TensorFlow build uses.

    On a Mac the GPU needs a plug-in of TensorFlow, which says so by being installed.
    """
    if sys.platform == "darwin":
        plugin = importlib.util.find_spec("tensorflow-plugins")
        return ["/"] if plugin else []
    return ["/proc/driver/nvidia", "/dev/nvidiactl", "/dev/nvidia0", "/dev/dxg", "/dev/kfd"]


def check_precision(runtime: str, precision: str) -> None:
    """Raise `FeatcacheError` where a runtime does not compute in that precision here."""
    if precision == "float32":
        return
    if runtime != "openvino":
        raise FeatcacheError(
            f"--precision {precision} needs the openvino runtime on a CPU, not {runtime}: use "
            "--runtime openvino, or --precision float32"
        )
    from featcache.runtimes.openvino import available_precisions

    available = available_precisions()
    if precision not in available:
        raise FeatcacheError(
            f"--precision {precision}: this CPU does not compute in it; it has "
            f"{', '.join(available)}"
        )
