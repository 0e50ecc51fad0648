"""The figures of the networks: those we count are Keras's, those published have a source."""

from __future__ import annotations

import pytest

from featcache.backbones.construct import Shape, construct
from featcache.backbones.imagenet_labels import class_names, synsets
from featcache.backbones.keras_import import import_keras
from featcache.backbones.table import BACKBONES, published, whereabouts
from featcache.errors import FeatcacheError
from tests.backbones.networks import FAMILIES, QUICK_FAMILIES


def check_counts(name: str) -> None:
    row, figures = BACKBONES[name], published(BACKBONES[name])
    whole = construct(row, Shape(None, include_top=True))
    assert figures.parameters == whole.count_params()
    assert figures.depth == sum(1 for layer in whole.layers if layer.weights)
    base = construct(row, Shape((row.smallest, row.smallest), "avg"))
    assert figures.base_parameters == base.count_params()


QUICK = QUICK_FAMILIES


@pytest.mark.parametrize("name", QUICK)
def test_parameters_and_depth_are_those_of_the_network(name):
    """Parameters with and without the top, and the depth, are what the built network has."""
    check_counts(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(BACKBONES) - set(QUICK)))
def test_parameters_and_depth_are_those_of_the_other_networks(name):
    """The same for every other network, the huge ones too."""
    check_counts(name)


def test_every_network_has_figures_with_a_source():
    """No network is without figures, and an accuracy is a percentage that somebody published."""
    for row in BACKBONES.values():
        figures = published(row)
        assert figures.base_parameters < figures.parameters
        assert figures.source.startswith("https://")
        assert figures.top1 is not None
        assert 60 < figures.top1 < 90
        assert figures.top5 is None or figures.top1 < figures.top5 < 99
    assert published(BACKBONES["efficientnet_lite0"]).top1 == 75.1
    assert round(published(BACKBONES["vgg16"]).megabytes) == 528


def file_that_keras_asks_for(name: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name under which Keras keeps the weights without the top."""
    asked = []

    def stop(fname: str, *_: object, **__: object) -> str:
        asked.append(fname)
        raise InterruptedError

    import_keras()
    from keras.src.utils import file_utils

    row = BACKBONES[name]
    construct_it = getattr(import_keras().applications, row.constructor)
    shape = (row.size, row.size, 3)
    monkeypatch.setattr(file_utils, "get_file", stop)
    with pytest.raises(InterruptedError):
        construct_it(include_top=False, weights="imagenet", input_shape=shape)
    return asked[0]


def check_whereabouts(name, folder, monkeypatch) -> None:
    monkeypatch.setenv("KERAS_HOME", str(folder))
    (folder / "models").mkdir()
    assert whereabouts(BACKBONES[name]) == "download"
    file = folder / "models" / file_that_keras_asks_for(name, monkeypatch)
    file.touch()
    here = [row.name for row in BACKBONES.values() if whereabouts(row) == "here"]
    assert here == [name]
    file.rename(file.with_name(file.name.replace("notop", "").replace("no_top", "")))
    assert whereabouts(BACKBONES[name]) == "download"


@pytest.mark.parametrize("name", QUICK[1:])
def test_weights_are_here_when_keras_has_their_file(name, tmp_path, monkeypatch):
    """The very file that Keras would ask for, and no network's but this one's, is "here"."""
    check_whereabouts(name, tmp_path, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(FAMILIES) - set(QUICK)))
def test_weights_of_the_other_families_are_here_when_keras_has_their_file(
    name, tmp_path, monkeypatch
):
    """The same for the other families."""
    check_whereabouts(name, tmp_path, monkeypatch)


def test_class_names_are_imagenets():
    """A thousand different names in ImageNet's order, known by a few."""
    names = class_names(1000)
    assert len(names) == len(set(names)) == 1000
    known = {0: "tench", 285: "Egyptian cat", 652: "military uniform", 999: "toilet tissue"}
    assert {place: names[place] for place in known} == known
    assert names[134] == "crane (n02012849)"
    numbers = [number for number, _ in synsets()]
    assert numbers == sorted(numbers)
    assert numbers[652] == "n03763968"


def test_a_top_of_1001_begins_with_the_background():
    """TensorFlow Hub's classifiers are offset by one."""
    names = class_names(1001)
    assert (names[0], names[653], len(names)) == ("background", "military uniform", 1001)


@pytest.mark.parametrize("outputs", [0, 10, 999, 1002, 21841])
def test_any_other_top_has_no_names(outputs):
    """A top that is not ImageNet's is refused, with its number of outputs."""
    with pytest.raises(FeatcacheError, match=f"{outputs} outputs"):
        class_names(outputs)
