"""Which runtime runs a network, and why; told without importing any of them."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from featcache.errors import FeatcacheError

RUNTIMES = ("auto", "tensorflow", "openvino")

#: What the drivers of NVIDIA, of Windows' GPUs in Linux, and of AMD leave in the file system.
GPU_TRACES = ("/proc/driver/nvidia", "/dev/nvidiactl", "/dev/nvidia0", "/dev/dxg", "/dev/kfd")


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


def default_batch(name: str, size: tuple[int, int]) -> int:
    """Images in a batch where the user does not say, for an input of (height, width) pixels.

    OpenVINO is fastest where what passes from layer to layer stays in the cores' own memory:
    four images of 224x224, or as many pixels. (The eight probe images fill two such batches.)
    """
    if choose_runtime(name).name == "tensorflow":
        return 32
    fitting = 4 * 224 * 224 // (size[0] * size[1])
    return next((batch for batch in (16, 8) if fitting >= batch), 4)


def has_openvino() -> bool:
    """Whether OpenVINO is installed; it is not imported."""
    return importlib.util.find_spec("openvino") is not None


def has_gpu() -> bool:
    """Whether TensorFlow sees a GPU. It is asked, and imported, only where a driver is there."""
    if not any(Path(trace).exists() for trace in GPU_TRACES) and not _has_mac_plugin():
        return False
    from featcache.backbones.keras_import import import_tensorflow

    return bool(import_tensorflow().config.list_physical_devices("GPU"))


def _has_mac_plugin() -> bool:
    """Whether the package is installed through which TensorFlow reaches a Mac's GPU."""
    try:
        version("tensorflow-metal")
    except PackageNotFoundError:
        return False
    return True


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
