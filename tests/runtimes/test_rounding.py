"""A network is judged by its own rounding, which is measured, and wrong ones are refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from featcache.backbones.float64 import in_float64
from featcache.backbones.keras_import import import_keras
from featcache.backbones.layers import computing_in
from featcache.backbones.network import Network, open_network, with_scaling
from featcache.backbones.table import find_backbone
from featcache.errors import FeatcacheError
from featcache.files.home import read_record
from featcache.recipe import Decoding, Recipe
from featcache.runtimes.probe import measure_error, probe_pixels
from featcache.runtimes.proof import open_proven
from featcache.runtimes.rounding import (
    LARGEST,
    LEAST,
    MULTIPLE,
    allowed_error,
    check_probe,
    disturbed_rounding,
    measure_rounding,
)
from featcache.runtimes.runtime import run_padded
from featcache.runtimes.tensorflow import computing_layers
from tests.backbones.networks import photographs, set_statistics, small_network


def opened(name: str, side: int, weights: str | None) -> Network:
    return open_network(find_backbone(name), weights=weights, size=(side, side))


@pytest.fixture(scope="module")
def lite() -> Network:
    """Trained weights, in float32 7.6e-6 from float64 on some CPUs."""
    return opened("efficientnet_lite0", 32, None)


@pytest.fixture(scope="module")
def magnifying() -> Network:
    """Random weights whose ReLUs cut off half of each map: 2.7e-5 from float64."""
    network = opened("inceptionv3", 96, "random:3")
    set_statistics(network, photographs(network.size, 16), offset=0.0)
    assert probed(network)[2] > 1e-5
    return network


def probed(network: Network) -> tuple[np.ndarray, np.ndarray, float]:
    """The probe's pixels, what live Keras gives for them, and the network's rounding."""
    pixels = probe_pixels(Decoding(network.size)).astype(np.float32)
    live = network.live(pixels)
    return pixels, live[0], measure_rounding(network, pixels, live)[0]


@pytest.mark.parametrize("name", ["efficientnet_lite0", "mobilenetv2", "vgg16"])
def test_disturbed_weights_tell_about_what_float64_tells(name, lite):
    """Where both can be had, the rounding by disturbed weights is that by float64, within 2."""
    network = lite if name == "efficientnet_lite0" else small_network(name)
    before = network.base.get_weights()
    pixels, live, rounding = probed(network)
    assert 1e-7 < rounding < 2e-5
    assert 0.5 < disturbed_rounding(network, pixels, [live])[0] / rounding < 2
    for value, variable in zip(before, network.base.weights, strict=True):
        assert np.array_equal(value, variable.numpy()), "the weights are what they were"


def test_the_copy_in_float64_is_the_same_network():
    """ConvNeXt's convolutions by channels and sub-models are computed in float64 too."""
    network = opened("convnexttiny", 32, "random:3")
    pixels, live, rounding = probed(network)
    exact = network.exact(pixels)[0]
    assert exact.dtype == np.float64
    assert 1e-7 < measure_error(live, exact) == rounding < 1e-5
    kinds = {str(each.dtype) for each in in_float64(network.base).weights}
    assert kinds == {"float64"}


def swapped(network: Network, pixels: np.ndarray) -> np.ndarray:
    return network.live(np.ascontiguousarray(pixels[..., ::-1]))[0]


def scaled_wrongly(network: Network, pixels: np.ndarray) -> np.ndarray:
    scaling = network.backbone.scaling
    scaling = replace(scaling, divisor=scaling.divisor * 256 / 255)
    return np.asarray(with_scaling(network.base, scaling, network.size)(pixels, training=False))


def without_a_layer(network: Network, pixels: np.ndarray) -> np.ndarray:
    """One activation in the middle does nothing."""
    layers = import_keras().layers
    kinds = (layers.ReLU, layers.Activation)
    places = [each for each in network.base.layers if isinstance(each, kinds)]
    chosen = places[len(places) // 2]
    call, chosen.call = chosen.call, lambda inputs, **_: inputs
    try:
        return network.live(pixels)[0]
    finally:
        chosen.call = call


def in_bfloat16(network: Network, pixels: np.ndarray) -> np.ndarray:
    with computing_in(computing_layers(network.model), "bfloat16"):
        return np.asarray(network.model(pixels, training=False), np.float32)


def weights_in_half(network: Network, pixels: np.ndarray) -> np.ndarray:
    """As a graph is saved by OpenVINO by default."""
    before = network.base.get_weights()
    network.base.set_weights([value.astype(np.float16) for value in before])
    try:
        return network.live(pixels)[0]
    finally:
        network.base.set_weights(before)


MUTANTS = [swapped, scaled_wrongly, without_a_layer, in_bfloat16, weights_in_half]


@pytest.mark.parametrize("wrong", MUTANTS, ids=lambda each: each.__name__)
@pytest.mark.parametrize("kind", ["lite", "magnifying"])
def test_a_wrong_computation_is_refused_by_a_wide_margin(kind, wrong, request):
    """Whether a network keeps or magnifies rounding, what is wrong is 10 times what is allowed."""
    if wrong is in_bfloat16:
        request.getfixturevalue("bfloat16")
    network = request.getfixturevalue(kind)
    pixels, live, rounding = probed(network)
    assert measure_error(wrong(network, pixels), live) > 10 * allowed_error(rounding)
    assert measure_error(network.live(pixels)[0], live) <= allowed_error(rounding)


def test_another_dct_is_no_rounding(lite):
    """A photograph that another library decodes gives vectors far from what is allowed."""
    import simplejpeg

    _, _, rounding = probed(lite)
    coded = simplejpeg.encode_jpeg(photographs((32, 32), 1)[0], quality=90)
    one, other = (
        lite.live(simplejpeg.decode_jpeg(coded, fastdct=fast)[None].astype(np.float32))[0]
        for fast in (False, True)
    )
    assert measure_error(one, other) > 10 * allowed_error(rounding)


def test_what_is_allowed_follows_from_the_rounding():
    """A multiple of it, at least some last bits; the largest of several; a ceiling, said so."""
    assert allowed_error(1e-8) == LEAST
    assert allowed_error(1e-5) == MULTIPLE * 1e-5
    assert allowed_error(2e-6, 1e-5) == MULTIPLE * 1e-5
    for rounding in (1.01 * LARGEST, float("nan")):
        with pytest.raises(FeatcacheError, match="magnifies rounding too much"):
            allowed_error(rounding)


def test_a_stored_probe_is_judged_by_both_roundings():
    """Features of a machine with a larger rounding are added to, and no further."""
    stored = np.linspace(1, 2, 32, dtype=np.float32).reshape(8, 4)
    measured = stored * np.float32(1 + 2e-5)
    with pytest.raises(FeatcacheError, match=r"at most 8.0e-06 is rounding"):
        check_probe(measured, stored, "no version changed", roundings=[2e-6])
    check_probe(measured, stored, "no version changed", roundings=[2e-6, 6e-6])


def user_network(weights: str) -> Network:
    """A network of one convolution that passes for efficientnet_lite0."""
    network = opened("efficientnet_lite0", 32, None)
    if weights == "nan":
        first = network.base.layers[1]
        first.set_weights([np.full_like(each, np.nan) for each in first.get_weights()])
    return network


def recipe_of(network: Network) -> Recipe:
    return Recipe(
        backbone=network.backbone.name,
        weights=network.taps[0].weights,
        decoding=Decoding(network.size),
        scaling=network.backbone.scaling,
    )


def test_a_network_that_gives_no_numbers_is_named(tmp_path, monkeypatch):
    """Weights that are NaN are told as that, not as a defect of a runtime."""
    monkeypatch.setenv("FEATCACHE_HOME", str(tmp_path))
    network = user_network("nan")
    with pytest.raises(FeatcacheError, match="values that are no numbers"):
        open_proven("auto", network, recipe_of(network), batch=4)


@pytest.mark.parametrize("runtime", ["openvino", "tensorflow"])
def test_the_rounding_is_measured_once(runtime, lite, tmp_path, monkeypatch):
    """It is noted for later runs; a kept graph from before the notes is used, and gets one."""
    monkeypatch.setenv("FEATCACHE_HOME", str(tmp_path))
    first = open_proven(runtime, lite, recipe_of(lite), batch=4)
    (note,) = sorted(Path(tmp_path / "notes").iterdir())
    assert read_record(note) == {"roundings": first.roundings}
    assert first.roundings[0] == probed(lite)[2]
    note.unlink()
    second = open_proven(runtime, lite, recipe_of(lite), batch=4)
    assert second.from_kept == (runtime == "openvino")
    assert second.roundings == first.roundings
    assert note.exists()
    rows = run_padded(second.runtime, probe_pixels(Decoding(lite.size)))[0]
    assert measure_error(rows, probed(lite)[1]) <= allowed_error(*second.roundings)
