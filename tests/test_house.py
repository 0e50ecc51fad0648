"""The house rules: imports point down one list, and every heavy package has a home."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from writers import ROOT, WRITERS

#: From the top of the house to its foundations; a module may import only what stands below it.
FLOORS = [
    "__main__", "cli", "demo", "datasets", "adapters", "sweeping", "finetuning", "baseline",
    "fitting", "model_fitting", "choosing", "roles", "belonging", "audit", "splitting",
    "split_table", "comparison", "album", "evaluation", "classification", "report", "learning",
    "heads", "lookup", "api", "growing", "estimate", "checking", "extraction", "run", "filling",
    "known", "saving", "job", "identity", "labelled", "provenance", "proof", "pipeline",
    "reading", "timing", "probe", "throughput", "cache", "removal", "claims", "features",
    "tf_dataset", "interruption", "splits", "duplicates", "logistic", "runtimes", "backbones",
    "store", "images", "plots", "calibration", "metrics", "augment", "decode", "recipe",
    "class_weights", "home", "files", "folders", "errors",
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
    "baseline/training.py": {"save"},  # a Keras model, into a draft
    "finetuning/classifier.py": {"save"},  # a Keras model, into a draft
    "runtimes/openvino.py": {"save_model"},  # a graph, into a draft
    "plots/figure.py": {"savefig"},  # matplotlib, into an open file
    "datasets.py": {"save"},  # Pillow, into memory
    "fitting.py": {"save"},  # Head.save
    "finetuning/outcome.py": {"save"},  # Head.save
    "learning/loop.py": {"save"},  # Checkpoint.save
    "run.py": {"save"},  # StatCache.save
}

#: h5py writes into memory there.
IN_MEMORY = {"store/skeleton.py": "h5py.File(buffer, 'w'"}

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
        memory = IN_MEMORY.get(name, "nothing")
        assert [each for each in changes_of(tree) if not each.startswith(memory)] == []
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
