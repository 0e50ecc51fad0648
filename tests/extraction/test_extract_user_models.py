"""A model of the user's own, all the way: extract, warm start, fit a head, predict."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import featcache
from featcache.errors import FeatcacheError
from featcache.runtimes.probe import row_error
from tests.backbones.user_models.made_models import functional, save, save_hub

#: Keras's own saving and OpenVINO's conversion warn of what we cannot change.
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The structure of `inputs`:UserWarning"),
]


@pytest.fixture(scope="module")
def hub(tmp_path_factory) -> Path:
    """A feature vector as TF-Hub ships it: a SavedModel's folder, of any input size."""
    path = tmp_path_factory.mktemp("models") / "hub_vector"
    save_hub(path)
    return path


@pytest.fixture(scope="module")
def own(tmp_path_factory) -> Path:
    """A .keras file of 32-pixel images."""
    return save(functional(), tmp_path_factory.mktemp("models") / "mine.keras")


def test_a_saved_model_is_a_backbone(photos, cache, hub):
    """W1: a SavedModel's rows are those of TensorFlow's own call, on both runtimes, to 1e-5."""
    import tensorflow

    options = {"backbone": str(hub), "trust_model": True, "scale": "0..1", "size": 32}
    features = featcache.extract(photos, cache=cache, interpolation="keras", **options)
    assert features.path.parent.name.startswith("hub_vector-")
    loaded = tensorflow.saved_model.load(str(hub))
    decoded = [
        tensorflow.io.decode_image((photos / name).read_bytes(), 3, expand_animations=False)
        for name in features.names
    ]
    loop = tensorflow.stack([tensorflow.image.resize(each, (32, 32)) for each in decoded])
    want = np.asarray(loaded(loop / np.float32(255)))
    assert row_error(features.vectors, want).max() < 1e-5
    other = featcache.extract(
        photos, cache=cache.parent / "tf", interpolation="keras", runtime="tensorflow", **options
    )
    assert row_error(features.vectors, other.vectors).max() < 1e-5
    assert features.recipe == other.recipe


def test_inner_layers_of_a_keras_file(photos, cache, own):
    """A .keras file can be tapped at its layers, several in one pass; renamed, it is the same."""
    from featcache.backbones.user_models.user_network import open_user_model

    names = open_user_model(own, trusted=True, scale="none").outputs
    options = {"trust_model": True, "scale": "none", "cache": cache}
    both = featcache.extract(photos, backbone=str(own), layer=["", names[1]], **options)
    assert [each.run.extracted for each in both] == [48, 48]
    renamed = own.with_name("another_name.keras")
    renamed.write_bytes(own.read_bytes())
    again = featcache.extract(photos, backbone=str(renamed), layer=["", names[1]], **options)
    assert [each.run.extracted for each in again] == [0, 0]
    assert [each.path for each in again] == [each.path for each in both]


def test_heads_and_predictions(photos, cache, own, tmp_path):
    """fit-head and predict work as with any backbone; predicting asks for trust again."""
    options = {"backbone": str(own), "trust_model": True, "scale": "-1..1"}
    features = featcache.extract(photos, cache=cache, **options)
    head = featcache.fit_head(features, C=1.0, out=tmp_path / "x.head")
    new = tmp_path / "new.png"
    Image.fromarray(np.full((50, 40, 3), 90, np.uint8)).save(new)
    with pytest.raises(FeatcacheError, match="--trust-model"):
        head.predict_images(new, cache=cache)
    assert head.predict_images(new, cache=cache, trust_model=True)[0].classes


def test_a_known_model_starts_without_tensorflow(photos, cache, own):
    """The second command with the same model imports neither TensorFlow nor Keras."""
    options = f"backbone={str(own)!r}, trust_model=True, scale='none', cache={str(cache)!r}"
    code = (
        "import sys, featcache\n"
        f"featcache.extract({str(photos)!r}, {options})\n"
        "print(sorted({'tensorflow', 'keras'} & set(sys.modules)))"
    )
    runs = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        for _ in range(2)
    ]
    assert runs[0].stdout.strip() == "['keras', 'tensorflow']"
    assert runs[1].stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "--trust-model"),
        ({"trust_model": True}, "--scale"),
        ({"trust_model": True, "scale": "0..2"}, "not one of"),
        ({"trust_model": True, "scale": "none", "weights": "imagenet"}, "are inside it"),
        ({"trust_model": True, "scale": "none", "layer": "nix"}, "nearest"),
    ],
)
def test_what_is_missing_is_asked_for(photos, cache, own, options, says):
    """Trust, the pixel range, a layer's name: each a sentence that says what to do."""
    with pytest.raises(FeatcacheError, match=says):
        featcache.extract(photos, backbone=str(own), cache=cache, **options)


def test_scale_belongs_to_own_models(photos, cache):
    """--scale with a network of the table is refused, not ignored."""
    with pytest.raises(FeatcacheError, match="is for models of your own"):
        featcache.extract(photos, backbone="vgg16", scale="0..1", cache=cache)


def test_what_can_be_tapped_is_listed(own, hub):
    """featcache layers names the taps of a user's model and says what can be done with it."""
    from featcache.backbones.listing import list_user_layers

    rows, words = list_user_layers(own, trusted=True)
    assert len(rows) > 3
    assert words.startswith("its layers can be tapped; it can be fine-tuned")
    rows, words = list_user_layers(hub, trusted=True, size=(32, 32))
    assert [row.name for row in rows]
    assert words.startswith("its outputs alone can be tapped")
