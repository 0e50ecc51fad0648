"""The README's code runs, and what it promises about itself is true."""

from __future__ import annotations

import re
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"


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


def test_the_readme_is_short():
    """A stranger reads it in a few minutes."""
    assert len(README.read_text().splitlines()) <= 120
