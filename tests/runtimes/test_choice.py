"""Which runtime "auto" takes and why, and where a precision is refused."""

from __future__ import annotations

import subprocess
import sys

import pytest

from featcache.errors import FeatcacheError
from featcache.runtimes import check_precision, choice, choose_runtime
from featcache.runtimes.openvino import available_precisions


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
def test_a_precision_that_is_not_there_is_refused(precision):
    """Reduced precision is OpenVINO's, on a CPU that reports it; elsewhere a clear error."""
    with pytest.raises(FeatcacheError, match="--runtime openvino"):
        check_precision("tensorflow", precision)
    if precision not in available_precisions():
        with pytest.raises(FeatcacheError, match="this CPU does not compute in it"):
            check_precision("openvino", precision)
    check_precision("tensorflow", "float32")
