"""The house rules: imports point down one list, and every heavy package has a home."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import featcache

ROOT = Path(featcache.__file__).parent

#: From the top of the house to its foundations; a module may import only what stands below it.
FLOORS = [
    "__main__", "cli", "demo", "datasets", "adapters", "sweeping", "finetuning", "baseline",
    "fitting", "model_fitting", "choosing", "roles", "belonging", "audit", "splitting",
    "split_table", "comparison", "album", "evaluation", "classification", "report", "learning",
    "heads", "lookup", "api", "growing", "estimate", "checking", "extraction", "run", "filling",
    "known", "saving", "job", "identity", "labelled", "provenance", "proof", "pipeline",
    "reading", "timing", "probe", "throughput", "cache", "features", "tf_dataset",
    "interruption", "splits", "duplicates", "logistic", "runtimes", "backbones", "store",
    "images", "plots", "calibration", "metrics", "augment", "decode", "recipe", "class_weights",
    "home", "whole_file", "errors",
]  # fmt: skip

#: Packages and the only modules that may import them.
HOMES = {
    "h5py": {"store"},
    "tensorflow": {"backbones", "runtimes", "learning", "heads", "tf_dataset"},
    "keras": {"backbones", "runtimes", "datasets", "learning", "heads"},
    "openvino": {"runtimes"},
    "typer": {"cli"},
    "rich": {"cli"},
    "sklearn": {"heads", "choosing", "logistic", "splits", "datasets", "adapters"},
    "scipy": {"splits", "metrics", "calibration", "sweeping", "logistic"},
    "threadpoolctl": {"logistic"},
    "safetensors": {"learning", "heads", "backbones"},
    "pandas": {"features"},
    "cv2": {"decode", "augment"},
    "matplotlib": {"plots"},
    "simplejpeg": {"decode"},
    "PIL": {"decode", "datasets"},
    "torch": set(),
}


def modules() -> list[tuple[str, Path]]:
    """(floor, file) of every module: the floor is the top-level module or folder it is in."""
    files = sorted(path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py")
    return [(path.relative_to(ROOT).parts[0].removesuffix(".py"), path) for path in files]


def imported(path: Path) -> set[str]:
    """The dotted names a file imports, anywhere in it but under TYPE_CHECKING."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    names = set()
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            names.add(node.module or "")
    return names


@pytest.mark.parametrize(("floor", "path"), modules(), ids=lambda value: str(value)[-40:])
def test_imports_point_down(floor, path):
    """No module imports one that stands above it in the house."""
    assert floor in FLOORS, f"{floor} has no place in the house: add it to FLOORS"
    for name in imported(path):
        if name.startswith("featcache."):
            target = name.split(".")[1]
            assert target == floor or FLOORS.index(target) > FLOORS.index(floor), (
                f"{path.name} imports {name}, which stands above {floor}"
            )


@pytest.mark.parametrize(("floor", "path"), modules(), ids=lambda value: str(value)[-40:])
def test_every_heavy_package_has_a_home(floor, path):
    """h5py is imported by the store alone, Keras by the backbones and runtimes, and so on."""
    for name in imported(path):
        package = name.split(".")[0]
        assert floor in HOMES.get(package, {floor}), f"{path.name} must not import {package}"


def openvino_imports(path: Path) -> list[str]:
    """Everything in a file that imports OpenVINO, by statement or by a function's argument."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        elif isinstance(node, ast.Call):
            # import_module("openvino"), __import__("openvino"), submit(import_module, "openvino")
            called = ast.unparse(node)
            if "import_module" in called or "__import__" in called:
                arguments = [each for each in ast.walk(node) if isinstance(each, ast.Constant)]
                names = [each.value for each in arguments if isinstance(each.value, str)]
        found += [ast.unparse(node) for name in names if name.split(".")[0] == "openvino"]
    return found


def test_one_door_imports_openvino():
    """Its telemetry is off behind that door alone, so nothing else imports it, scripts included.

    (scripts/bound.py measures without a line of featcache; it shuts the telemetry out itself.)
    """
    repository = Path(__file__).parents[1]
    scripts = (repository / "scripts").rglob("*.py")
    files = [*(path for _, path in modules()), *scripts, *Path(__file__).parent.rglob("*.py")]
    assert len(files) > 200
    doors = {path.relative_to(repository) for path in files if openvino_imports(path)}
    assert {str(path) for path in doors} == {
        "featcache/runtimes/openvino_import.py",
        "scripts/bound.py",
    }
    assert (
        'sys.modules["openvino_telemetry"] = None' in (repository / "scripts/bound.py").read_text()
    )


@pytest.mark.parametrize(
    "code",
    [
        "import openvino as ov",
        "from openvino.tools import ovc",
        "import_module('openvino')",
        "importlib.import_module('openvino.tools.ovc')",
        "__import__('openvino')",
        "second.submit(import_module, 'openvino')",
    ],
)
def test_every_way_to_import_it_is_seen(tmp_path, code):
    """A statement, a function, a function handed on."""
    (tmp_path / "m.py").write_text(code)
    assert openvino_imports(tmp_path / "m.py")


def test_no_class_of_ours_is_subclassed():
    """Abstract or final: but for the tree of errors, no class inherits from one of our own."""
    ours, bases = set(), []
    for _, path in modules():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                ours.add(node.name)
                bases += [(node.name, ast.unparse(base)) for base in node.bases]
    errors = {"ImageFailure", "DamagedFile", "StorageFailure"}
    assert [pair for pair in bases if pair[1] in ours and pair[0] not in errors] == []
