"""One list of options: the type checker, Python, the command line, the estimator show the same."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
import typer
from typer.testing import CliRunner

import featcache
from featcache.cli import app
from featcache.cli.finetune import OF_PYTHON
from featcache.cli.options import LISTS
from featcache.errors import FeatcacheError
from featcache.extraction.extract import prepare
from featcache.extraction.options import ExtractionOptions, NetworkOptions
from featcache.finetuning.options import FinetuneOptions
from featcache.finetuning.plan import FinetunePlan
from featcache.images.decoder import MAX_PIXELS
from featcache.options import flag, options_in
from featcache.recipe import Pooling
from featcache.runtimes.choice import RUNTIMES
from featcache.training.options import LearningOptions

#: What a function takes beside the options of its list.
OWN = {
    featcache.extract: {"images", "backbone", "layer", "progress"},
    prepare: {"images", "backbone", "layer"},
    featcache.finetune: {"images", "out", "backbone", "layer", "head", "say", "progress"},
    featcache.FeatureExtractor: {"backbone", "layer", "cache", "cache_name"},
}
LISTED = {
    featcache.extract: ExtractionOptions,
    prepare: ExtractionOptions,
    featcache.finetune: FinetuneOptions,
    featcache.FeatureExtractor: NetworkOptions,
}
#: Commands: what they have beside the list, and what of the list is Python's alone.
COMMANDS = {
    "extract": (ExtractionOptions, {"images", "backbone", "layer", "check", "dry_run", "json"},
                {"labels", "splits", "groups"}),
    "finetune": (FinetuneOptions, {"images", "out", "backbone", "head", "layer", "plots", "json"},
                 {"precision", "batch", "on_error", "retry_failed", "rehash", *LISTS}),
}  # fmt: skip


@pytest.mark.parametrize("function", LISTED, ids=lambda each: each.__qualname__)
def test_the_type_checker_the_signature_and_the_text_agree(function: Callable[..., Any]):
    """What ``**options`` is for the type checker is what a notebook and `help` show."""
    written = inspect.unwrap(function.__init__ if isinstance(function, type) else function)
    described = LISTED[function]
    (last,) = [
        each for each in inspect.signature(written).parameters.values()
        if each.kind is each.VAR_KEYWORD
    ]  # fmt: skip
    assert get_args(get_type_hints(written)[last.name]) == (described,)
    listed, shown = options_in(described), dict(inspect.signature(function).parameters)
    assert set(shown) == OWN[function] | set(listed)
    for name, option in listed.items():
        assert shown[name].default == option.default
        assert shown[name].annotation == option.kind
        if function is not prepare:  # which is not public
            assert f"{name}: {option.help}"[:50] in " ".join(function.__doc__.split())


@pytest.mark.parametrize("name", COMMANDS)
def test_the_command_line_has_the_same_list(name):
    """Names, defaults, texts of --help; what is Python's alone is named."""
    described, own, of_python = COMMANDS[name]
    command = typer.main.get_command(app).commands[name]
    listed = options_in(described)
    shown = {each.name: each for each in command.params}
    assert set(shown) - {"help"} == own | (set(listed) - of_python)
    for each, option in listed.items():
        if each not in of_python:
            assert shown[each].opts == [flag(each)]
            assert shown[each].default == option.default
            assert shown[each].help == option.help
    assert of_python == set(LISTS if name == "extract" else OF_PYTHON)


def test_an_estimators_parameters_are_its_signature():
    """scikit-learn's get_params has what the signature has, with its defaults."""
    shown = inspect.signature(featcache.FeatureExtractor).parameters
    assert featcache.FeatureExtractor().get_params() == {
        name: each.default for name, each in shown.items()
    }


def test_defaults_and_choices_are_those_of_the_rooms_below():
    """What is described for all is what the recipe, the decoder, runtimes and trainings have."""
    extraction, tuning = options_in(ExtractionOptions), options_in(FinetuneOptions)
    assert extraction["max_pixels"].default == MAX_PIXELS
    assert get_args(extraction["runtime"].kind) == RUNTIMES
    assert get_args(extraction["pooling"].kind) == (*get_args(Pooling), "flatten")
    for owner in (LearningOptions, FinetunePlan):
        for field in dataclasses.fields(owner):
            if field.name not in ("out", "learning"):
                assert tuning[field.name].default == field.default


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"layers": ["fc1"]}, r"extract\(\) has no option layers; did you mean layer\?"),
        ({"size": "big"}, "size 'big': expected a whole number, two whole numbers or None"),
        ({"views": "3"}, "views '3': expected a whole number of at least 0"),
        ({"trust_model": "yes"}, "trust_model 'yes': expected True or False"),
        ({"batch": 2.5}, r"batch 2\.5: expected a whole number of at least 1 or None"),
        ({"labels": 3}, "labels 3: expected a list"),
        ({"layer": 3}, "layer 3: expected text or a list"),
        ({"on_error": "stop"}, "on_error 'stop': expected 'skip' or 'fail'"),
    ],
)
def test_python_callers_get_the_names_of_python(wrong, words, tmp_path):
    """Whatever is wrong is said before anything is read: the folder is not there."""
    with pytest.raises(FeatcacheError, match=words):
        featcache.extract(tmp_path / "none", **{"backbone": "vgg16", **wrong})


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: featcache.FeatureExtractor(poling="max"), r"FeatureExtractor\(\) has no option "
         r"poling; did you mean pooling\?"),
        (lambda: featcache.FeatureExtractor(size="big").fit(["x.png"]), "size 'big': expected"),
        (lambda: featcache.finetune("x", out="y", epoch=3), "did you mean epochs"),
        (lambda: featcache.finetune("x", out="y", epochs="3"), "epochs '3': expected a whole"),
        (lambda: featcache.finetune("x", out="y"), "which network is to be fine-tuned"),
        (lambda: featcache.finetune("x", backbone="vgg16"), "required argument: 'out'"),
    ],
)  # fmt: skip
def test_the_others_say_the_same(call, words):
    """The estimator, for types when it fits, and finetune."""
    with pytest.raises(FeatcacheError, match=words):
        call()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--pooling", "mux"], "--pooling 'mux': expected 'avg', 'max', 'none' or 'flatten'; "
         "did you mean 'max'?"),
        (["--runtime", "gpu"], "--runtime 'gpu': expected 'auto', 'tensorflow' or 'openvino'"),
        (["--size", "big"], "--size 'big': expected pixels such as 224, or HEIGHTxWIDTH"),
    ],
)  # fmt: skip
def test_command_line_users_get_the_names_of_options(words, said, tmp_path):
    """The same check, spelled with dashes."""
    done = CliRunner().invoke(app, ["extract", str(tmp_path), "--backbone", "vgg16", *words])
    assert (done.exit_code, said in done.stderr) == (2, True)


@pytest.mark.slow
def test_mypy_sees_the_list(tmp_path):
    """A wrong name and a wrong type are found before the program runs."""
    mypy = pytest.importorskip("mypy.api")
    program = tmp_path / "program.py"
    program.write_text(
        "import featcache\n"
        "featcache.extract('x', backbone='vgg16', layers=['fc1'])\n"
        "featcache.extract('x', backbone='vgg16', pooling='mux')\n"
        "featcache.FeatureExtractor(size='big')\n"
        "featcache.finetune('x', out='y', epochs=3, size=(3, 4))\n"
    )
    config = str(Path(__file__).parents[2] / "pyproject.toml")
    said, _, _ = mypy.run(["--config-file", config, "--follow-imports", "silent", str(program)])
    wrong = {line.split(":")[1] for line in said.splitlines() if ": error:" in line}
    assert wrong == {"2", "3", "4"}
