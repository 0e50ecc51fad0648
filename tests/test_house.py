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
from writers import ROOT, WRITERS

import featcache

#: From the top of the house to its foundations: an import stays on its floor, or goes down.
FLOORS = [
    "__main__", "cli", "verification", "finetuning", "fitting/sweeping", "fitting", "evaluation",
    "evaluation/plots", "evaluation/metrics", "heads", "heads/logistic", "extraction",
    "features/splits", "features", "features/store", "runtimes", "training", "images/datasets",
    "backbones", "images", "recipe", "files", "interruption", "options", "errors",
]  # fmt: skip

#: Packages and the only places that may import them.
HOMES = {
    "h5py": {"backbones/hdf5_weights", "features/store"},
    "tensorflow": {
        "backbones",
        "features/tf_dataset",
        "heads/dense_training",
        "runtimes",
        "training",
    },
    "keras": {"backbones", "images/datasets", "runtimes", "training"},
    "openvino": {"runtimes"},
    "typer": {"cli"},
    "rich": {"cli"},
    "sklearn": {"extraction/feature_extractor", "heads", "images/datasets"},
    "scipy": {"evaluation/metrics", "features/splits", "fitting/sweeping", "heads"},
    "threadpoolctl": {"heads/logistic"},
    "safetensors": {"backbones", "heads", "training"},
    "pandas": {"features/features"},
    "cv2": {"images"},
    "matplotlib": {"evaluation/plots"},
    "simplejpeg": {"images"},
    "PIL": {"images"},
    "tifffile": {"images"},
    "imagecodecs": {"images"},
    "pydicom": {"images"},
    "pi_heif": {"images"},
    "torch": set(),
}

#: Imports that go up, and close a circle of files. None may join them.
CLOSING: set[tuple[str, str]] = set()

#: Names of faces that are names of their folder's modules too. None may join them.
TWO_MEANINGS: set[str] = set()


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


def test_the_tests_mirror_the_house():
    """A test lies in the folder of the room it tests; those of hostile files are of all rooms."""
    tests = Path(__file__).parent
    rooms = {path.parent.relative_to(tests) for path in tests.rglob("test_*.py")}
    assert {room for room in rooms if not (ROOT / room).is_dir()} == {Path("hostile")}


def test_a_name_has_one_address():
    """But for those of the images, which are public, no face shows what its modules have."""
    for face, path in modules():
        if path.name == "__init__.py" and face not in ("cli", "images"):
            assert imports_of(path) <= {"errors"}, f"{face} shows what is imported from its modules"


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

    (benchmarks/bound.py measures without a line of featcache; it shuts the telemetry out itself.)
    """
    repository = Path(__file__).parents[1]
    scripts = (repository / "scripts").rglob("*.py")
    files = [*(path for _, path in modules()), *scripts, *Path(__file__).parent.rglob("*.py")]
    assert len(files) > 200
    doors = {path.relative_to(repository) for path in files if openvino_imports(path)}
    assert {str(path) for path in doors} == {
        "featcache/runtimes/openvino_import.py",
        "scripts/benchmarks/bound.py",
    }
    bound = (repository / "scripts/benchmarks/bound.py").read_text()
    assert 'sys.modules["openvino_telemetry"] = None' in bound


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
    """Abstract or final: but for errors and lists of options, no class inherits from our own."""
    ours, bases = set(), []
    for _, path in modules():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and not node.keywords:  # total=False is a TypedDict's
                ours.add(node.name)
                bases += [(node.name, ast.unparse(base)) for base in node.bases]
    errors = {"ImageFailure", "DamagedFile", "StorageFailure"}
    assert [pair for pair in bases if pair[1] in ours and pair[0] not in errors] == []


#: Names that change what is on a disk, whichever module or path they are asked of.
CHANGING = {
    "unlink", "rmtree", "rmdir", "removedirs", "rename", "renames", "mkdir", "makedirs", "mkfifo",
    "mknod", "symlink", "symlink_to", "hardlink_to", "link_to", "chmod", "lchmod", "chown", "utime",
    "write_text", "write_bytes", "truncate", "ftruncate", "mkdtemp", "mkstemp", "mktemp",
    "TemporaryFile", "NamedTemporaryFile", "SpooledTemporaryFile", "TemporaryDirectory",
    "copyfile", "copy2", "copytree", "copymode", "extractall", "O_WRONLY", "O_RDWR", "O_CREAT",
    "O_APPEND", "O_TRUNC",
}  # fmt: skip
#: Of these modules nothing else may be used.
ALLOWED_OF = {
    "shutil": {"copyfileobj", "disk_usage", "get_terminal_size"},
    "tempfile": set(),
}
#: Asked of `os`, these change something; other things have methods of these names.
OF_OS = {"remove", "replace", "link", "fdopen"}

#: Methods that write to a path or a file that they are given, and who calls them with what.
GIVEN = {"save", "save_weights", "save_model", "savefig", "save_file", "imwrite", "tofile",
         "savetxt", "savez", "to_csv", "to_hdf", "to_feather", "to_parquet"}  # fmt: skip
GIVEN_BY = {
    "backbones/tuned.py": {"save", "save_weights"},  # a Keras model, into a draft
    "fitting/baseline.py": {"save"},  # a Keras model, into a draft
    "finetuning/graphs.py": {"save"},  # a Keras model, into a draft
    "runtimes/openvino.py": {"save_model"},  # a graph, into a draft
    "evaluation/plots/figure.py": {"savefig"},  # matplotlib, into an open file
    "images/datasets.py": {"save"},  # Pillow, into memory
    "fitting/fit_head.py": {"save"},  # Head.save
    "finetuning/outcome.py": {"save"},  # Head.save
    "training/loop.py": {"save"},  # Checkpoint.save
    "extraction/run.py": {"save"},  # StatCache.save
}

#: What looks like a change, and is none.
HARMLESS = {
    "features/store/skeleton.py": "h5py.File(buffer, 'w'",  # in memory
    "files/small_files.py": "os.fdopen",  # of a descriptor that reads
    "cli/console.py": "os.O_WRONLY",  # of the null device: where stdout goes when it is full
}

OPENING = {"open", "fdopen", "File", "ZipFile", "GzipFile", "FileIO", "memmap", "open_memmap"}


def is_of_the_disk(receiver: ast.expr) -> bool:
    """Whether something is asked of the store's own `Disk`, which is one of the writers."""
    return ast.unparse(receiver).split(".")[-1] == "disk"


def changes_of(tree: ast.AST) -> list[str]:
    """What a module does that only the writers may do."""
    return [ast.unparse(node) for node in ast.walk(tree) if is_change(node)]


def is_change(node: ast.AST) -> bool:
    if isinstance(node, ast.Attribute):
        owner = ast.unparse(node.value)
        return (
            (node.attr in CHANGING and not is_of_the_disk(node.value))
            or (owner == "os" and node.attr in OF_OS)
            or (owner in ALLOWED_OF and node.attr not in ALLOWED_OF[owner])
        )
    if isinstance(node, ast.ImportFrom):
        return node.module in {"os", "shutil", "tempfile"}
    return isinstance(node, ast.Call) and (is_replace(node) or opens_to_write(node))


def is_replace(call: ast.Call) -> bool:
    """`Path.replace` takes one argument, `str.replace` two or more, `dataclasses.replace` names."""
    is_method = isinstance(call.func, ast.Attribute) and call.func.attr == "replace"
    return is_method and len(call.args) == 1 and not call.keywords


def opens_to_write(call: ast.Call) -> bool:
    """A mode to write in, or one that cannot be seen; but for an open file, or memory."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else ast.unparse(call.func)
    given = {each.arg: each.value for each in call.keywords}
    if name not in OPENING or "fileobj" in given:
        return False
    modes = [each for each in (*call.args[:2], given.get("mode")) if each is not None]
    if "mode" in given and not isinstance(given["mode"], ast.Constant):
        return True
    words = [each.value for each in modes if isinstance(each, ast.Constant)]
    return any(
        isinstance(word, str) and set(word) <= set("rwaxbtU+") and set(word) & set("wax+")
        for word in words
    )


@pytest.mark.parametrize(("floor", "path"), modules(), ids=lambda value: str(value)[-40:])
def test_only_the_writers_change_what_is_on_a_disk(floor, path):
    """No other module opens a file for writing, or makes, renames or deletes anything."""
    name = path.relative_to(ROOT).as_posix()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    if name not in WRITERS:
        harmless = HARMLESS.get(name, "nothing")
        assert [each for each in changes_of(tree) if not each.startswith(harmless)] == []
        used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        assert used & GIVEN == GIVEN_BY.get(name, set())


@pytest.mark.parametrize(
    "code",
    [
        "path.open('w')", "path.open(mode='ab')", "open(path, 'x')", "open(path, mode=mode)",
        "gzip.open(path, 'wb')", "h5py.File(path, 'r+')", "zipfile.ZipFile(path, 'a')",
        "path.replace(other)", "os.replace(a, b)", "os.remove(path)", "path.unlink()",
        "shutil.rmtree(path)", "shutil.move(a, b)", "from shutil import rmtree",
        "from os import unlink as gone", "path.mkdir()", "os.open(path, os.O_RDWR)",
        "path.write_text('')", "tempfile.mkdtemp()", "delete = path.unlink",
    ],
)  # fmt: skip
def test_the_rule_sees_a_writer(code):
    """Each way to change a file is found in the syntax tree."""
    assert changes_of(ast.parse(code)) != []


@pytest.mark.parametrize(
    "code",
    [
        "text.replace('a', 'b')", "replace(entry, path=path)", "path.open()", "path.open('rb')",
        "open(path)", "names.remove(name)", "FeatureCache.open(cache)", "disk.unlink(path)",
        "place.disk.replace(a, b)", "gzip.GzipFile('', 'wb', fileobj=file)", "image.copy()",
        "shutil.disk_usage(path)", "moment.replace(hour=1)", "zipfile.ZipFile(path)",
    ],
)  # fmt: skip
def test_the_rule_leaves_a_reader_alone(code):
    """Reading, texts and lists are not mistaken for it."""
    assert changes_of(ast.parse(code)) == []
