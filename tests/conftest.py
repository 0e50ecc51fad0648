"""Real images for the tests, made on the fly from photographs that packages ship."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits, load_sample_image
from writers import Watch

# No test is timed: a busy machine must not make one fail.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest file of tests begins first: otherwise one process would run it alone at the end.

    Files stay whole, and in their order.
    """
    items.sort(key=lambda item: item.path.name != "test_workflows.py")


@pytest.fixture(scope="session", autouse=True)
def featcache_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """No test touches the user's own kept graphs; the tests share theirs, as a user's runs do."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEATCACHE_HOME", str(folder))
        yield folder


_watch = Watch()


@pytest.fixture(scope="session", autouse=True)
def watched(tmp_path_factory: pytest.TempPathFactory) -> None:
    _watch.start(tmp_path_factory.getbasetemp())


@pytest.fixture(autouse=True)
def every_change_goes_one_way(watched: None) -> Iterator[None]:
    """Whatever a test makes featcache do: only the modules for it write and delete."""
    _watch.strays.clear()
    yield
    assert _watch.strays == []


@pytest.fixture(scope="session")
def bfloat16() -> None:
    """TensorFlow convolves in bfloat16 here: ONEDNN_MAX_CPU_ISA can take that from a CPU."""
    from featcache.backbones.keras_import import import_tensorflow

    tensorflow = import_tensorflow()
    images, kernel = (tensorflow.ones((1, 4, 4, 4), "bfloat16") for _ in range(2))
    try:
        tensorflow.nn.conv2d(images, kernel, 1, "SAME")
    except tensorflow.errors.AbortedError:
        limit = os.environ["ONEDNN_MAX_CPU_ISA"]
        pytest.skip(f"oneDNN has no bfloat16 (ONEDNN_MAX_CPU_ISA={limit})")


@pytest.fixture(scope="session")
def photographs() -> list[np.ndarray]:
    """Forty-eight different crops of two photographs, (60, 80, 3) uint8."""
    sources = [load_sample_image("china.jpg"), load_sample_image("flower.jpg")]
    return [
        source[top : top + 60, left : left + 80]
        for source in sources
        for top in range(0, 360, 90)
        for left in range(0, 600, 100)
    ]


@pytest.fixture
def photos(tmp_path: Path, photographs: list[np.ndarray]) -> Path:
    """A folder of JPEG files in two classes: 24 temples, 24 flowers."""
    root = tmp_path / "photos"
    for number, pixels in enumerate(photographs):
        target = root / ("temple" if number < 24 else "flower") / f"{number:02d}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(target, quality=92)
    return root


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """300 of scikit-learn's digits as PNG files in ten class folders."""
    root = tmp_path_factory.mktemp("data") / "digits"
    source = load_digits()
    for number in range(300):
        target = root / str(source.target[number]) / f"{number:04d}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((source.images[number] * 15.9).astype(np.uint8)).save(target)
    return root


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def digit_features(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cache with the digits' features by efficientnet_lite0 at 32 pixels."""
    import featcache

    folder = tmp_path_factory.mktemp("shared") / "cache"
    featcache.extract(digits, backbone="efficientnet_lite0", size=32, cache=folder)
    return folder
