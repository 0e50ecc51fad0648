"""The house rules: imports point down one list, no circle, and every heavy package has a home.

A place is a path in `featcache/` without ".py", "heads/dense"; a folder's face, its `__init__`, is
the folder's own place, "heads". An entry of a list holds what its path begins with, but for what a
longer entry holds: after "heads", "heads/dense" gives one file of the folder a floor of its own.
"""

from __future__ import annotations

import ast
from collections.abc import Container
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import featcache

ROOT = Path(featcache.__file__).parent

#: From the top of the house to its foundations: an import stays on its floor, or goes down.
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

#: Packages and the only places that may import them.
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

#: Imports that go up, and close a circle of files. None may join them.
CLOSING = {("heads/dense_training", "heads/dense"), ("runtimes/openvino", "runtimes/choice")}

#: Names of faces that are names of their folder's modules too. None may join them.
TWO_MEANINGS = {"backbones/published"}


def modules() -> list[tuple[str, Path]]:
    """(place, file) of every module but the package's own face."""
    files = sorted(path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py")
    named = [(path.relative_to(ROOT).with_suffix("").as_posix(), path) for path in files]
    return [(place.removesuffix("/__init__"), path) for place, path in named]


@cache
def imported(path: Path) -> set[str]:
    """The dotted names of what a file imports: modules, and faces of folders.

    Anywhere in it; but what another package has for the type checker alone does not count.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing_only = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    names = set()
    for node in ast.walk(tree):
        found = set()
        if isinstance(node, ast.Import):
            found = {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            whole = {f"{node.module}.{alias.name}" for alias in node.names}
            found = {name if place_of(name) in PLACES else f"{node.module}" for name in whole}
        names |= {name for name in found if place_of(name) or node not in typing_only}
    return names


def place_of(name: str) -> str:
    """The place of a dotted name, "" of another package's."""
    return name.removeprefix("featcache.").replace(".", "/") if name[:10] == "featcache." else ""


def imports_of(path: Path) -> set[str]:
    """The places that a file imports."""
    return {place_of(name) for name in imported(path)} - {""}


def entry_of(place: str, entries: Container[str]) -> str:
    """The longest entry that a place begins with, folder by folder; "" where there is none."""
    while place and place not in entries:
        place = place.rpartition("/")[0]
    return place


PLACES = {place for place, _ in modules()}
every_module = pytest.mark.parametrize(
    ("place", "path"), modules(), ids=[place for place, _ in modules()]
)


@every_module
def test_imports_point_down(place, path):
    """No module imports one that stands above it in the house."""
    floor = entry_of(place, FLOORS)
    assert floor, f"{place} has no place in the house: add it to FLOORS"
    for target in imports_of(path) - {target for source, target in CLOSING if source == place}:
        assert FLOORS.index(entry_of(target, FLOORS)) >= FLOORS.index(floor), (
            f"{place} imports {target}, which stands above {floor}"
        )


@every_module
def test_every_heavy_package_has_a_home(place, path):
    """h5py is imported by the store alone, Keras by the backbones and runtimes, and so on."""
    for name in imported(path):
        package = name.split(".")[0]
        assert entry_of(place, HOMES.get(package, {place})), f"{place} must not import {package}"


def test_every_entry_is_of_use():
    """No floor and no home is left of a module that has gone."""
    entries = set(FLOORS).union(*HOMES.values())
    assert entries - {entry for place in PLACES for entry in [entry_of(place, entries)]} == set()


def test_no_files_import_each_other_in_a_circle():
    """The files have an order in which each can be read after what it imports."""
    graph = {place: imports_of(path) for place, path in modules()}
    for place, target in CLOSING:
        graph[place].remove(target)
    TopologicalSorter(graph).prepare()


@every_module
def test_no_module_imports_the_face_of_its_folder(place, path):
    """A face shows what its modules have: they do not see it."""
    assert place.rpartition("/")[0] not in imports_of(path)


def test_a_name_of_a_face_is_not_a_module_too():
    """`featcache.folder.name` is a module, or what a face shows, never both."""
    both = set()
    for face, path in modules():
        if path.name == "__init__.py":
            tree = ast.parse(path.read_text(encoding="utf-8"))
            froms = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
            shown = {
                f"{face}/{alias.asname or alias.name}"
                for node in froms
                for alias in node.names
                if place_of(f"{node.module}.{alias.name}") not in PLACES
            }
            both |= shown & PLACES
    assert both | (set(featcache.__all__) & PLACES) == TWO_MEANINGS


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
