"""The public names, and what importing them costs."""

from __future__ import annotations

import subprocess
import sys

import pytest

import featcache

HEAVY = ("tensorflow", "keras", "sklearn", "h5py", "cv2", "pandas", "matplotlib")


def loaded_after(code: str) -> set[str]:
    """The heavy packages that a fresh interpreter has loaded after running some code."""
    report = f"{code}\nimport sys\nprint(*[name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", report], capture_output=True, text=True, check=True
    )
    return set(done.stdout.splitlines()[-1].split())


def test_the_public_names_are_these():
    """Adding or dropping a public name is a decision, not an accident."""
    assert featcache.__all__ == [
        "extract", "load", "fit_head", "finetune", "evaluate", "sweep", "find_images",
        "write_dataset", "FeatureExtractor", "FastLogisticRegression", "FastLogisticRegressionCV",
        "ImageSet", "Recipe", "Features", "FeatureCache", "Head", "Report",
        "BACKBONES", "HEADS", "FeatcacheError", "ImageFailure", "DamagedFile", "StorageFailure",
    ]  # fmt: skip
    assert featcache._HOME.keys() == set(featcache.__all__)


@pytest.mark.parametrize("name", featcache.__all__)
def test_every_public_name_is_there_and_documented(name):
    """Each public name can be had, and says what it is."""
    assert getattr(featcache, name).__doc__


def test_an_unknown_name_is_an_attribute_error():
    """A misspelt name fails as in any module."""
    with pytest.raises(AttributeError, match="no attribute 'extrct'"):
        _ = featcache.extrct


def test_importing_featcache_loads_nothing_heavy():
    """`import featcache` and the command line's help load no heavy package."""
    assert loaded_after("import featcache") == set()
    assert loaded_after("import featcache.cli") == set()


def test_a_public_function_is_no_module():
    """After every module is imported, the public names still are functions and classes."""
    code = (
        "import featcache, pkgutil, importlib\n"
        "for found in pkgutil.walk_packages(featcache.__path__, 'featcache.'):\n"
        "    if not found.name.endswith('__main__'): importlib.import_module(found.name)\n"
        "print(all(callable(getattr(featcache, name)) or isinstance(getattr(featcache, name), dict)"
        " for name in featcache.__all__))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"
