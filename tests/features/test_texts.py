"""Names are text: a comparison with numbers, and a selection that is empty, are told."""

from __future__ import annotations

import numpy as np
import pytest
from made_features import make_features, make_images

import featcache
from featcache.errors import FeatcacheError
from featcache.evaluation.audit import audit
from featcache.features.splits.division import divide
from featcache.features.splits.partition import Shares
from featcache.features.texts import Texts


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    folder = tmp_path_factory.mktemp("texts")
    make_features(make_images(folder / "photos"), folder / "cache")
    return featcache.load("photos", cache=folder / "cache")


@pytest.mark.parametrize(
    "number", [0, 1.0, np.int64(3), True, np.array([0] * 24), [0] * 24, float("nan")]
)
@pytest.mark.parametrize("column", ["labels", "splits", "groups", "names", "keys"])
def test_a_comparison_with_numbers_is_told(features, column, number) -> None:
    """`labels == 0` is neither no row nor, with `!=`, every row: it is a mistake."""
    names = getattr(features, column)
    for compare in (lambda: names == number, lambda: names != number, lambda: number == names):
        with pytest.raises(FeatcacheError, match="names are text, and were compared with the num"):
            compare()


def test_the_way_out_is_the_text(features) -> None:
    """The message has the number as text, and names that there are."""
    with pytest.raises(FeatcacheError, match=r"compare them with '0' \(names: 'cat', 'dog'\)"):
        features[features.labels == 0]


def test_comparisons_with_text_are_plain_masks(features) -> None:
    """Equal names, lists of names and slices compare as in NumPy."""
    mask = features.labels == "cat"
    assert type(mask) is np.ndarray
    assert mask.sum() == 12
    assert np.array_equal(mask, features.labels != "dog")
    assert (features.labels == features.labels.tolist()).all()
    assert (features[mask].labels[:3] == ["cat"] * 3).all()
    assert np.isin(features.labels, ["cat", "dog"]).all()
    with pytest.raises(FeatcacheError, match="compared with the number"):
        _ = features[mask].labels == 0
    assert np.unique(features.labels, return_inverse=True)[1].view(np.ndarray).max() == 1
    assert not (np.array([1, 2]).view(Texts) == 3).any()


def head_of(features):
    return featcache.fit_head(features, C=0.01)


@pytest.mark.parametrize(
    "verb",
    [
        featcache.fit_head,
        lambda none: featcache.sweep([none]),
        lambda none: divide(none, Shares()),
        lambda none: divide(none, Shares(), near=None),
        lambda none: audit(none, none.splits),
        lambda none: none.to_tf_dataset(),
        lambda none: featcache.evaluate(HEADS[0], none),
        lambda none: HEADS[0].predict_proba(none),
    ],
)
def test_an_empty_selection_is_refused_with_the_classes(features, verb) -> None:
    """Whatever is asked of no row, the answer is that a selection was empty, and the classes."""
    HEADS[:] = [head_of(features)]
    with pytest.raises(FeatcacheError, match=r"hold no row: a selection was empty.*'cat', 'dog'"):
        verb(features[features.labels == "cow"])


HEADS: list = []
