"""Which runtime "auto" takes and why, and where a precision is refused."""

from __future__ import annotations

import subprocess
import sys

import pytest

from featcache.errors import FeatcacheError
from featcache.runtimes import choice
from featcache.runtimes.choice import (
    available_precisions,
    check_precision,
    choose_runtime,
    cpu_batch,
    default_batch,
    gpu_batch,
    gpu_precisions,
)


def test_auto_is_openvino_without_a_gpu_and_imports_nothing_to_tell():
    """With no driver in the file system, auto is OpenVINO, and neither library is imported."""
    code = (
        "import sys\n"
        "from featcache.runtimes import choice\n"
        "choice.GPU_TRACES = ()\n"
        "print(choice.choose_runtime('auto').name, {'tensorflow', 'openvino'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "openvino set()\n"


def test_auto_is_tensorflow_where_openvino_is_missing(monkeypatch):
    """Without OpenVINO, auto is TensorFlow and says so; asking for OpenVINO is an error."""
    monkeypatch.setattr(choice, "GPU_TRACES", ())
    monkeypatch.setitem(sys.modules, "openvino", None)
    chosen = choose_runtime("auto")
    assert (chosen.name, chosen.asked) == ("tensorflow", False)
    assert "OpenVINO is not installed" in chosen.reason
    with pytest.raises(FeatcacheError, match="pip install openvino"):
        choose_runtime("openvino")


def test_a_driver_without_a_gpu_is_no_gpu(monkeypatch):
    """Where a driver left traces, TensorFlow is asked whether there is a GPU; it decides."""
    tensorflow = pytest.importorskip("tensorflow")
    monkeypatch.setattr(choice, "GPU_TRACES", ("/",))
    expected = "tensorflow" if tensorflow.config.list_physical_devices("GPU") else "openvino"
    assert choose_runtime("auto").name == expected


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_a_precision_that_is_not_there_is_refused(monkeypatch, precision):
    """Without a GPU, reduced precision is OpenVINO's, on a CPU that reports it."""
    monkeypatch.setattr(choice, "GPU_TRACES", ())
    with pytest.raises(FeatcacheError, match="--runtime openvino"):
        check_precision("tensorflow", precision)
    if precision not in available_precisions():
        with pytest.raises(FeatcacheError, match="this CPU does not compute in it"):
            check_precision("openvino", precision)
    check_precision("tensorflow", "float32")


@pytest.mark.parametrize(
    ("capability", "precisions"),
    [
        ((6, 1), ["float32"]),
        ((7, 0), ["float32", "float16"]),
        ((7, 5), ["float32", "float16"]),
        ((8, 0), ["float32", "float16", "bfloat16"]),
        ((12, 0), ["float32", "float16", "bfloat16"]),
    ],
)
def test_a_gpu_has_the_precisions_of_its_compute_capability(capability, precisions):
    """Pascal has neither, Volta and Turing have float16, Ampere and later bfloat16, too."""
    assert gpu_precisions(capability) == precisions


def test_a_gpu_gets_large_batches_and_a_cpu_small_ones(monkeypatch):
    """256 or 4 images of 224x224, more of smaller ones; the same CPU batch in both runtimes."""
    sides = (32, 64, 112, 224, 299, 512, 2048)
    assert [gpu_batch((side, side)) for side in sides] == [1024, 1024, 1024, 256, 128, 32, 8]
    assert [cpu_batch((side, side)) for side in sides] == [16, 16, 16, 4, 4, 4, 4]
    monkeypatch.setattr(choice, "GPU_TRACES", ())
    assert default_batch("tensorflow", (224, 224)) == default_batch("openvino", (224, 224)) == 4
