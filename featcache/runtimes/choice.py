"""Which runtime runs a network, and why; told without importing any of them."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from featcache.errors import FeatcacheError, one_of
from featcache.runtimes.openvino_import import import_openvino

RUNTIMES = ("auto", "tensorflow", "openvino")

#: What the drivers of NVIDIA, of Windows' GPUs in Linux, and of AMD leave in the file system.
GPU_TRACES = ("/proc/driver/nvidia", "/dev/nvidiactl", "/dev/nvidia0", "/dev/dxg", "/dev/kfd")


@dataclass(frozen=True, slots=True)
class RuntimeChoice:
    """A runtime's name, whether the user named it, and one sentence that says why it is used."""

    name: str
    asked: bool
    reason: str


def choose_runtime(name: str) -> RuntimeChoice:
    """The runtime that `name` means: "auto" is TensorFlow on a GPU, else OpenVINO where it is.

    Raises `FeatcacheError` for an unknown name, or a runtime that is not installed.
    """
    one_of("--runtime", name, RUNTIMES)
    if name == "openvino" and not has_openvino():
        raise FeatcacheError(
            "--runtime openvino: OpenVINO is not installed: pip install openvino, "
            "or use --runtime tensorflow"
        )
    if name != "auto":
        return RuntimeChoice(name, True, f"asked for by --runtime {name}")
    if has_gpu():
        return RuntimeChoice("tensorflow", False, "auto: TensorFlow, because it sees a GPU")
    if has_openvino():
        return RuntimeChoice("openvino", False, "auto: OpenVINO, because there is no GPU")
    reason = "auto: TensorFlow, because there is no GPU and OpenVINO is not installed"
    return RuntimeChoice("tensorflow", False, reason)


def default_batch(name: str, size: tuple[int, int]) -> int:
    """Images in a batch where the user does not say, for an input of (height, width) pixels.

    `name` is a runtime's, or "auto"; on a driver's machine it takes TensorFlow to answer.
    """
    if choose_runtime(name).name == "tensorflow" and has_gpu():
        return gpu_batch(size)
    return cpu_batch(size)


def cpu_batch(size: tuple[int, int]) -> int:
    """A CPU is fastest where what passes from layer to layer stays in the cores' own memory.

    That is four images of 224x224, or as many pixels. (The eight probe images fill two such.)
    """
    fitting = 4 * 224 * 224 // (size[0] * size[1])
    return next((batch for batch in (16, 8) if fitting >= batch), 4)


def gpu_batch(size: tuple[int, int]) -> int:
    """A GPU is the busier the more it is given: 256 images of 224x224, or as many pixels.

    A power of two from 8 to 1024; it is halved where the memory does not hold it.
    """
    fitting = 256 * 224 * 224 // (size[0] * size[1])
    return int(2 ** min(10, max(3, fitting.bit_length() - 1)))


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
    if runtime == "openvino":
        available, device = available_precisions(), "this CPU"
    else:
        capability = gpu_capability() if has_gpu() else None
        if capability is None:
            raise FeatcacheError(
                f"--precision {precision}: {runtime} computes in it on an NVIDIA GPU only, and "
                "sees none: use --runtime openvino, or --precision float32"
            )
        available, device = gpu_precisions(capability), "this GPU"
    if precision not in available:
        raise FeatcacheError(
            f"--precision {precision}: {device} does not compute in it; it has "
            f"{', '.join(available)}"
        )


def gpu_capability() -> tuple[int, int] | None:
    """The CUDA compute capability of the first GPU; None where it has none (AMD, Apple)."""
    from featcache.backbones.keras_import import import_tensorflow

    config = import_tensorflow().config
    details = config.experimental.get_device_details(config.list_physical_devices("GPU")[0])
    return details.get("compute_capability")  # type: ignore[no-any-return]


def gpu_precisions(capability: tuple[int, int]) -> list[str]:
    """The types whose matrix products a GPU of this compute capability has circuits for."""
    since = {"float32": (0, 0), "float16": (7, 0), "bfloat16": (8, 0)}
    return [name for name, first in since.items() if capability >= first]


def available_precisions() -> list[str]:
    """The types in which OpenVINO computes on this CPU."""
    openvino = import_openvino()
    names = {"FP32": "float32", "BF16": "bfloat16", "FP16": "float16"}
    reported = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return [name for capability, name in names.items() if capability in reported]
