"""A head as layers says what the head said."""

from __future__ import annotations

import numpy as np
import pytest

import featcache
from featcache.errors import FeatcacheError
from featcache.finetuning.graphs import as_layers
from featcache.heads.dense_training import head_of, keras_model_of


@pytest.fixture(scope="module")
def features(tmp_path_factory, digits):
    """Vectors of the digits, five classes apart from two."""
    cache = tmp_path_factory.mktemp("layers")
    return featcache.extract(digits, backbone="efficientnet_lite0", size=32, cache=cache)


HEADS = {
    "logreg": {"C": 0.01},
    "ridge": {},
    "dense": {"hidden": (16,), "batch_norm": True, "dropout": 0.2, "epochs": 2, "standardize": 1},
}


@pytest.mark.parametrize("classes", [2, 10])
@pytest.mark.parametrize("kind", HEADS)
def test_layers_say_what_the_head_says(features, kind, classes, tmp_path):
    """Layers of every kind, in numpy and in Keras, give the head's probabilities to 1e-5."""
    rows = features[np.isin(features.labels, features.classes[:classes])]
    head = featcache.fit_head(rows, head=kind, out=tmp_path / "a.head", **HEADS[kind])
    layers = as_layers(head.model)
    expected = head.model.predict_proba(rows.vectors)
    assert np.abs(layers.predict_proba(rows.vectors) - expected).max() < 1e-5
    model = keras_model_of(layers, 0, fixed_statistics=True)
    logits = np.asarray(model(np.array(rows.vectors), training=False))
    assert np.abs(logits - layers.logits(rows.vectors)).max() < 1e-3 * np.abs(logits).max()
    again = head_of(model, layers.layers, {})
    assert all(np.allclose(again.arrays[name], layers.arrays[name], 1e-6) for name in layers.arrays)


def test_a_temperature_is_folded_in(features, tmp_path):
    """Layers of a head of temperature 2 have half its logits."""
    head = featcache.fit_head(features, C=0.01, out=tmp_path / "a.head")
    rows = np.array(features.vectors[:5])
    plain, cooled = as_layers(head.model), as_layers(head.model, temperature=2.0)
    assert np.allclose(cooled.logits(rows), plain.logits(rows) / 2, rtol=1e-5)


@pytest.mark.parametrize("kind", ["knn", "centroid"])
def test_a_head_without_layers_is_refused(features, kind, tmp_path):
    """Neighbours and cosine distances are no layers: the sentence names the kinds that are."""
    head = featcache.fit_head(features, head=kind, out=tmp_path / "a.head")
    with pytest.raises(FeatcacheError, match="--head logreg, dense, ridge or svm"):
        as_layers(head.model)
