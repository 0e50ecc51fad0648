"""Where a graph can be cut, and the portable names of places in it."""

from __future__ import annotations

import pytest

from featcache.backbones.construct import Shape, construct
from featcache.backbones.graph import cut_places, steps, stride_layers
from featcache.backbones.keras_import import import_keras
from featcache.backbones.layers import aliases, find_layer
from featcache.backbones.listing import list_layers
from featcache.backbones.table import BACKBONES, find_backbone
from featcache.errors import FeatcacheError
from tests.backbones.networks import FAMILIES

QUICK = ["efficientnet_lite0", "vgg16", "mobilenet", "mobilenetv3small", "resnet50", "convnexttiny"]
SLOW = sorted(set(FAMILIES) - set(QUICK))


def cut_names(network) -> set[str]:
    graph = steps(network)
    return {graph[place].operation.name for place in cut_places(network, graph)}


def test_a_residual_block_can_be_cut_behind_it_only():
    """ResNet50: the block's output is a cut; what runs beside its shortcut is not."""
    cuts = cut_names(construct(BACKBONES["resnet50"], Shape((64, 64))))
    assert {"conv1_relu", "conv2_block1_add", "conv2_block1_out", "conv5_block3_out"} <= cuts
    assert not cuts & {"conv2_block1_1_relu", "conv2_block1_0_conv", "conv2_block2_3_bn"}


def test_a_chain_can_be_cut_everywhere():
    """VGG16 with its top: every layer is a cut."""
    network = construct(BACKBONES["vgg16"], Shape(None, include_top=True))
    assert cut_names(network) == {layer.name for layer in network.layers}


def test_inception_can_be_cut_where_its_branches_meet():
    """InceptionV3: mixed7 is a cut, the branches before it are not."""
    network = construct(BACKBONES["inceptionv3"], Shape((75, 75)))
    cuts = cut_names(network)
    assert {f"mixed{number}" for number in range(11)} <= cuts
    branches = [
        node.operation.name for node in network.get_layer("mixed7")._inbound_nodes[0].parent_nodes
    ]
    assert len(branches) == 4
    assert not cuts & set(branches)


@pytest.mark.parametrize("name", ["efficientnet_lite0", "mobilenetv3small"])
def test_the_cuts_are_those_that_keras_can_make(name):
    """Keras builds the rest of the network on a layer's output alone exactly where we say cut."""
    keras = import_keras()
    network = construct(BACKBONES[name], Shape((32, 32)))
    cuts = cut_names(network)
    for layer in network.layers[1:-1:3]:
        if layer.name in cuts:
            assert keras.Model(layer.output, network.output)
        else:
            with pytest.raises(ValueError, match="not connected"):
                keras.Model(layer.output, network.output)


def test_two_inputs_or_outputs_or_calls_are_no_cut():
    """A second input, a second output and a layer that is called twice stop a cut."""
    keras = import_keras()
    first, second = keras.Input((8, 8, 3), name="one"), keras.Input((8, 8, 3), name="two")
    twice = keras.layers.Conv2D(3, 1, name="twice")
    early = keras.layers.ReLU(name="early")(twice(twice(first)))
    late = keras.layers.ReLU(name="late")(keras.layers.Add(name="sum")([early, second]))
    end = keras.layers.ReLU(name="end")(late)
    assert cut_names(keras.Model([first, second], end)) == {"sum", "late", "end"}
    assert cut_names(keras.Model([first, second], [end, late])) == {"sum", "late"}
    assert cut_names(keras.Model(first, early)) == {"one", "early"}


def test_a_sequential_network_is_a_chain_and_a_subclassed_one_has_no_graph():
    """Users' models: Sequential ones have aliases, subclassed ones have none and no error."""
    keras = import_keras()
    layers = keras.layers
    chain = keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            layers.Conv2D(4, 3, strides=2, padding="same", name="half"),
            layers.MaxPooling2D(name="quarter"),
            layers.GlobalAveragePooling2D(name="pooled"),
            layers.Dense(2, name="classes"),
        ]
    )
    assert aliases(chain) == {"stride2": "half", "stride4": "quarter", "penultimate": ""}
    assert cut_names(chain) >= {"half", "quarter", "pooled", "classes"}
    subclassed = type("Subclassed", (keras.Model,), {})()
    assert aliases(subclassed) == {}


def test_layers_that_other_networks_use_too_are_cut_as_before():
    """What is built on a network later does not change what can be cut in it."""
    keras = import_keras()
    network = construct(BACKBONES["mobilenet"], Shape((32, 32)))
    before = cut_names(network)
    conv = network.get_layer("conv1").output
    keras.Model(network.input, keras.layers.Add()([conv, keras.layers.ReLU()(conv)]))
    assert cut_names(network) == before


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("resnet50", ["conv1_relu", "conv2_block3_out", "conv3_block4_out", "conv4_block6_out",
                      "conv5_block3_out"]),
        ("vgg16", ["block2_conv2", "block3_conv3", "block4_conv3", "block5_conv3", "block5_pool"]),
        ("mobilenetv2", ["block_1_expand_relu", "block_3_expand_relu", "block_6_expand_relu",
                         "block_13_expand_relu", "out_relu"]),
        ("inceptionv3", ["activation_2", "activation_4", "mixed2", "mixed7", "mixed10"]),
    ],
)  # fmt: skip
def test_an_alias_is_the_same_layer_at_any_size(name, expected):
    """stride2 ... stride32 name the last layers of their strides, whatever the size."""
    row = BACKBONES[name]
    names = {f"stride{2**power}": layer for power, layer in enumerate(expected, start=1)}
    assert aliases(construct(row, Shape((row.smallest, row.smallest + 61)))) == names


def check_strides(name: str) -> None:
    """Each alias has a map of size/stride, but for the borders that unpadded networks lose."""
    row = BACKBONES[name]
    found = stride_layers(construct(row, Shape((row.size, row.size))))
    assert {"stride4", "stride8", "stride16", "stride32"} <= set(found) or name.startswith("nasnet")
    assert "stride32" in found
    for alias, layer in found.items():
        stride = int(alias.removeprefix("stride"))
        height, width = layer.output.shape[1:3]
        assert height == width
        assert row.size / stride - 4 < height < row.size / stride + 1


@pytest.mark.parametrize("name", QUICK)
def test_an_alias_has_the_map_it_promises(name):
    """At the default size the map of strideN is size/N, give or take a border."""
    check_strides(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_an_alias_has_the_map_it_promises_in_the_other_families(name):
    """The same for the other families."""
    check_strides(name)


def check_penultimate(name: str) -> None:
    row = BACKBONES[name]
    network = construct(row, Shape((row.size, row.size), include_top=True))
    assert aliases(network)["penultimate"] == row.penultimate
    canonical, layer = find_layer(network, "penultimate")
    assert canonical == row.penultimate
    if not canonical:
        assert layer.output.shape[-1] == row.width
    assert "penultimate" not in aliases(construct(row, Shape((row.size, row.size), "avg")))


@pytest.mark.parametrize("name", QUICK)
def test_penultimate_is_what_the_classifier_reads(name):
    """The table's penultimate layer is the one that the graph with its top leads to."""
    check_penultimate(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*SLOW, "mobilenetv3large"])
def test_penultimate_is_what_the_classifier_reads_in_the_other_families(name):
    """The same for the other families."""
    check_penultimate(name)


def test_penultimate_is_fc2_in_vgg_and_the_pooled_output_elsewhere():
    """The two kinds of tops, and MobileNetV3 whose top has a convolution of its own."""
    assert find_backbone("vgg19").penultimate == "fc2"
    assert find_backbone("resnet50").penultimate == ""
    assert find_backbone("mobilenetv3small").penultimate == "activation_18"


def test_a_layer_is_found_by_alias_index_or_name():
    """All three lead to the same canonical name; a wrong one is told names and aliases."""
    network = construct(BACKBONES["mobilenet"], Shape((32, 32)))
    found = {find_layer(network, name)[0] for name in ("stride32", "-1", "conv_pw_13_relu")}
    assert found == {"conv_pw_13_relu"}
    with pytest.raises(FeatcacheError, match="nearest are stride4") as caught:
        find_layer(network, "stride_4")
    assert "aliases here are stride2, stride4, stride8, stride16, stride32" in str(caught.value)


def test_the_listing_tells_all_of_a_layer():
    """Name, class, shape, numbers, bytes, cut, alias and top of VGG16's layers."""
    rows = {row.name: row for row in list_layers(BACKBONES["vgg16"])}
    pool = rows["block5_pool"]
    assert (pool.kind, pool.shape, pool.numbers, pool.bytes) == (
        "MaxPooling2D", (7, 7, 512), 25088, 100352,
    )  # fmt: skip
    assert (pool.cut, pool.alias, pool.top) == (True, "stride32", False)
    assert [row.name for row in rows.values() if row.top] == [
        "flatten",
        "fc1",
        "fc2",
        "predictions",
    ]
    assert (rows["fc2"].shape, rows["fc2"].alias) == ((4096,), "penultimate")


def test_the_listing_marks_the_layers_own_output():
    """MobileNetV3's open sizes are filled in; its top has the penultimate layer."""
    rows = {row.name: row for row in list_layers(BACKBONES["mobilenetv3small"])}
    assert rows["activation_17"].alias == "stride32"
    assert not rows["activation_17"].top
    assert (rows["activation_18"].alias, rows["activation_18"].shape) == (
        "penultimate",
        (1, 1, 1024),
    )
