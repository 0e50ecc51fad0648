"""README's code runs, every path that a guide names is there, and every script starts."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
SCRIPTS = ROOT / "scripts"

FOLDERS = ("docs", "featcache", "scripts", "tests")
#: A file or a folder of a guide, with `*` or <name> for any.
PATH = re.compile(r"(?<![\w/.])[\w<>*-][\w<>*/-]*(?:/|\.(?:md|py|sh)\b)")


def test_the_readmes_code_runs(tmp_path, monkeypatch):
    """Every Python block marked to be run works, one after the other, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FEATCACHE_DIR", raising=False)
    blocks = re.findall(r"<!-- run -->\n```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert len(blocks) == 2
    scope: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, str(README), "exec"), scope)
    assert len(scope["frame"]) == 1797
    assert scope["dataset"]["features"].shape == (1797, 1280)


def test_the_page_on_folders_runs(tmp_path, monkeypatch):
    """Its Python block works, and the user's own y goes with the rows of a shuffled list."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FEATCACHE_DIR", raising=False)
    page = README.parent / "docs" / "folders.md"
    (block,) = re.findall(r"<!-- run -->\n```python\n(.*?)```", page.read_text(), re.DOTALL)
    scope: dict[str, object] = {}
    exec(compile(block, str(page), "exec"), scope)
    features, y = scope["features"], scope["y"]
    assert [name.split("/")[0] for name in features.names] == y.tolist()
    assert scope["fitted"].score(features.X, y) > 0.95


def test_the_readme_is_short():
    """A newcomer reads it in a few minutes."""
    assert len(README.read_text().splitlines()) <= 120


@pytest.mark.parametrize("name", ["docs/architecture.md", "CONTRIBUTING.md", "scripts/README.md"])
def test_every_path_that_a_guide_names_is_there(name):
    """From the repository, from the guide, or as the end of a path in the package."""
    guide = ROOT / name
    named = [re.sub(r"<\w+>", "*", path) for path in PATH.findall(guide.read_text())]
    assert len(named) > 3
    finds = (ROOT.glob, guide.parent.glob, (ROOT / "featcache").rglob)
    gone = [path for path in named if not any(any(find(path.rstrip("/"))) for find in finds)]
    assert gone == []


def test_every_path_of_the_repository_in_a_text_is_there():
    """Docs, docstrings and comments name files of docs/, scripts/ and tests/ as they lie now."""
    texts = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.*")]
    texts = [path for path in texts if path.suffix in {".md", ".py", ".sh"}]
    named = re.compile(r"(?<![\w/.])(?:docs|scripts|tests)/[\w./*-]*\w")
    gone = [
        f"{text.relative_to(ROOT)}: {path}"
        for text in [README, ROOT / "CONTRIBUTING.md", *texts]
        for path in named.findall(text.read_text())
        if not any(ROOT.glob(path))
    ]
    assert gone == []


def test_every_test_that_a_promise_names_is_there():
    """docs/security.md gives the tests that hold each promise."""
    tests = "".join(path.read_text() for path in (ROOT / "tests").rglob("*.py"))
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs" / "security.md").read_text()))
    assert len(named) > 20
    assert {name for name in named if f"def {name}(" not in tests} == set()


def test_the_map_shows_every_room():
    """What lies at the root of the package is in docs/architecture.md."""
    rooms = {path.name for path in (ROOT / "featcache").iterdir() if not path.name.startswith("_")}
    shown = (ROOT / "docs" / "architecture.md").read_text().split("\n## ")[0]
    assert {room for room in rooms if not re.search(rf"\b{room}\b", shown)} == set()


def test_every_script_is_listed_and_starts():
    """scripts/README.md has a line of each, and each of Python answers --help."""
    listed = (SCRIPTS / "README.md").read_text()
    scripts = list(SCRIPTS.rglob("*.py"))
    assert [path for path in scripts if f"`{path.relative_to(SCRIPTS)}`" not in listed] == []
    programs = [path for path in scripts if "__main__" in path.read_text()]
    assert len(programs) > 5
    runs = [
        subprocess.Popen(
            [sys.executable, path, "--help"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        for path in programs
    ]
    said = [run.communicate()[0].decode() for run in runs]
    assert [text for text, run in zip(said, runs, strict=True) if run.returncode] == []
    assert all(text.startswith("usage: ") for text in said)
