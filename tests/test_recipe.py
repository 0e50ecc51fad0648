"""The one law of the cache: the key holds everything that changes a vector, and nothing else."""

from __future__ import annotations

import json
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featcache.errors import FeatcacheError
from featcache.features.cache import FeatureCache
from featcache.recipe import (
    PIPELINE,
    BitDepth,
    Decoding,
    Interpolation,
    Pooling,
    Precision,
    Recipe,
    Resize,
    Scaling,
    StoredType,
    parse_channels,
)

finite = st.floats(-1e6, 1e6)
triples = st.tuples(finite, finite, finite)
decodings = st.builds(
    Decoding,
    size=st.tuples(st.integers(1, 2000), st.integers(1, 2000)),
    resize=st.sampled_from(get_args(Resize)),
    interpolation=st.sampled_from(get_args(Interpolation)),
    bit_depth=st.sampled_from(get_args(BitDepth)),
    page=st.integers(0, 99),
    channels=st.sampled_from([(), (1,), (0, 2, 1)]),
)
scalings = st.builds(
    Scaling, order=st.sampled_from(["rgb", "bgr"]), divisor=finite, mean=triples, std=triples
)
recipes = st.builds(
    Recipe,
    backbone=st.text(min_size=1, max_size=40),
    weights=st.text("0123456789abcdef", min_size=64, max_size=64),
    layer=st.text(max_size=20),
    pooling=st.sampled_from(get_args(Pooling)),
    decoding=decodings,
    scaling=scalings,
    precision=st.sampled_from(get_args(Precision)),
    runtime=st.sampled_from(["", "openvino"]),
    dtype=st.sampled_from(get_args(StoredType)),
)


def leaves(value: Any, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """The paths of all fields that are not dataclasses themselves."""
    found = []
    for field in fields(value):
        inner = getattr(value, field.name)
        deeper = (*path, field.name)
        found += leaves(inner, deeper) if is_dataclass(inner) else [deeper]
    return found


def changed(value: Any, path: tuple[str, ...], other: Any) -> Any:
    """`value` with the field at `path` taken from `other`."""
    name, *rest = path
    inner = getattr(other, name)
    if rest:
        inner = changed(getattr(value, name), tuple(rest), inner)
    return replace(value, **{name: inner})


LEAVES = leaves(Recipe(backbone="b", weights="w", decoding=Decoding((1, 1)), scaling=Scaling()))


@given(first=recipes, second=recipes, place=st.sampled_from(LEAVES))
def test_changing_any_field_changes_the_key(first, second, place):
    """Two recipes that differ in one field, whichever it is, have different keys."""
    other = changed(first, place, second)
    assert (other.key == first.key) == (other == first)


@given(recipes)
def test_a_recipe_survives_its_own_text(recipe):
    """Writing and reading a recipe keeps every field and the key."""
    again = Recipe.from_json(recipe.to_json())
    assert again == recipe
    assert again.key == recipe.key
    assert recipe.differences(again) == []


@given(recipes, st.text())
def test_the_folder_name_is_safe(recipe, name):
    """Whatever the backbone is called, the folder name holds only harmless characters."""
    folder = FeatureCache.place(Path("nowhere"), recipe, name).name
    assert folder == folder.strip("-.")
    assert not set(folder) & set("/\\:*?<>|\0 \n")
    assert len(folder) <= 48
    assert folder.endswith(recipe.key[:8])


def test_the_key_is_the_same_everywhere():
    """A key computed by an earlier release is computed again: caches stay valid."""
    recipe = Recipe(
        backbone="vgg16",
        weights="0" * 64,
        decoding=Decoding((224, 224)),
        scaling=Scaling("bgr", 1.0, (103.939, 116.779, 123.68)),
    )
    assert recipe.key == "7dd132462233415503282f5398e1baef05727d97e6caa18639784f1b9f4e69fa"
    (before,) = recipe.earlier
    assert before.key == "10f68af088967252838ec6ef20d5fc470639c7d647991c2dd67c4c280d6991d2"


def test_the_runtime_is_in_the_key_only_where_it_is_named():
    """Without a runtime the text is that of releases that had none; with one, the key differs."""
    recipe = Recipe(backbone="b", weights="w", decoding=Decoding((1, 1)), scaling=Scaling())
    assert "runtime" not in recipe.to_json()
    reduced = replace(recipe, precision="bfloat16")
    assert len({recipe.key, reduced.key, replace(reduced, runtime="openvino").key}) == 3


@pytest.mark.parametrize(
    ("field", "value", "word"),
    [
        ("pooling", "mean", "--pooling"),
        ("dtype", "int8", "--dtype"),
        ("precision", "int8", "--precision"),
        ("decoding", Decoding((1, 1), resize="stretch"), "--resize"),
        ("decoding", Decoding((1, 1), interpolation="lanczos"), "--interpolation"),
        ("decoding", Decoding((1, 1), bit_depth="8"), "--bit-depth"),
        ("decoding", Decoding((1, 1), bit_depth="17"), "--bit-depth"),
    ],
)
def test_a_wrong_choice_names_its_option(field, value, word):
    """A value outside the choices is refused, naming the option and the choices."""
    with pytest.raises(FeatcacheError, match=word):
        Recipe(**{"backbone": "b", "weights": "w", "decoding": Decoding((1, 1)),
                  "scaling": Scaling(), field: value})  # fmt: skip


@pytest.mark.parametrize(
    "asked", ["0,1", "x", "1_0", "\u0663", "0,1,2,3", (0, -1, 2), (0, 1.5, "a")]
)
def test_channels_are_one_or_three_numbers(asked):
    """Anything else is a sentence with an example."""
    with pytest.raises(FeatcacheError, match="such as 0,2,1"):
        Decoding((1, 1), channels=parse_channels(asked))


def test_page_and_channels_are_in_the_text_only_where_they_are_asked_for():
    """At their defaults the key is that of recipes before they existed."""
    recipe = Recipe(backbone="b", weights="w", decoding=Decoding((1, 1)), scaling=Scaling())
    assert not {"page", "channels"} & set(json.loads(recipe.to_json())["decoding"])
    asked = replace(recipe, decoding=Decoding((1, 1), page=2, channels=parse_channels("0, 2,1")))
    assert json.loads(asked.to_json())["decoding"]["channels"] == [0, 2, 1]
    assert json.loads(asked.to_json())["decoding"]["page"] == 2
    assert (recipe.earlier[0].pipeline, asked.earlier) == (1, [])


def test_a_recipe_of_a_newer_pipeline_is_refused():
    """A recipe whose meaning we cannot know is refused with the advice to upgrade."""
    recipe = Recipe(backbone="b", weights="w", decoding=Decoding((1, 1)), scaling=Scaling())
    text = recipe.to_json().replace(f'"pipeline":{PIPELINE}', f'"pipeline":{PIPELINE + 1}')
    with pytest.raises(FeatcacheError, match="upgrade"):
        Recipe.from_json(text)


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", '{"backbone": "b"}', "{", "1"])
def test_text_that_is_no_recipe_is_refused(text):
    """Anything but a recipe's text gives our error, not Python's."""
    with pytest.raises(FeatcacheError, match="not a recipe"):
        Recipe.from_json(text)


def test_differences_name_the_fields():
    """What separates two recipes is named field by field, inner fields with their path."""
    recipe = Recipe(backbone="b", weights="w", decoding=Decoding((8, 8)), scaling=Scaling())
    other = replace(recipe, pooling="max", decoding=Decoding((9, 8)))
    assert recipe.differences(other) == ["pooling: avg, max", "decoding.size: [8, 8], [9, 8]"]
