"""The demo tells its story with real commands and ends with a picture."""

from __future__ import annotations

import shutil

from PIL import Image
from typer.testing import CliRunner

from featcache.cli import app
from featcache.cli.demo import run_demo


def test_the_demo_ends_with_its_confusion_matrix_as_a_picture(digits, tmp_path):
    """Every command succeeds, the second extraction computes nothing, and the pictures are there.

    A folder of digits that is there already is used, so 300 of them do.
    """
    shutil.copytree(digits, tmp_path / "digits")
    said, answers = [], []

    def command(arguments):
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code == 0, done.output
        answers.append(done.output)

    run_demo(tmp_path, command, lambda *lines: said.extend(lines))
    assert len(answers) == 6
    assert "extracted 0" in answers[1] or "0 extracted" in answers[1]
    for name in ("confusion", "reliability", "predictions"):
        with Image.open(tmp_path / "pictures" / f"{name}.png") as picture:
            assert min(picture.size) > 200
    assert any("--plots" in line for line in said)
