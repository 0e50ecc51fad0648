"""Heads and augmented views: all views train, the plain image is judged, none leaks."""

from __future__ import annotations

import numpy as np
import pytest

import featcache
from featcache.features.splits.roles import assign_roles


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    """120 digits, three views each, on every image."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.repeat(np.repeat(digits.images[:120] * 15, 4, axis=1), 4, axis=2)
    return featcache.extract(
        images.astype(np.uint8),
        backbone="efficientnet_lite0",
        size=32,
        labels=[str(label) for label in digits.target[:120]],
        views=2,
        augment="rotate=10,shift=0.1",
        augment_all=True,
        cache=tmp_path_factory.mktemp("cache"),
    )


def test_views_of_one_image_never_fall_on_two_sides(features):
    """All views of held-out images are out of training, and only their plain rows judge."""
    roles = assign_roles(features, seed=0)
    assert not set(features.keys[roles.train]) & set(features.keys[roles.judge])
    assert set(features.views[roles.judge].tolist()) == {0}
    assert set(features.views[roles.train].tolist()) == {0, 1, 2}
    assert roles.train.sum() + 3 * roles.judge.sum() == len(features)


def test_a_head_trains_on_views_and_is_judged_on_images(features):
    """The report counts images; averaging over views judges the same images otherwise."""
    head = featcache.fit_head(features, C=0.01)
    assert "augmented views" in head.protocol
    held = assign_roles(features, seed=0).judge.sum()
    plain = featcache.evaluate(head, features)
    averaged = featcache.evaluate(head, features, average_views=True)
    assert plain.rows == averaged.rows == held
    assert plain.log_loss != averaged.log_loss
    assert "mean of 3 views" in averaged.protocol
    assert averaged.accuracy > 0.5


def test_averaging_is_the_mean_of_probabilities(features):
    """The log loss of averaged views is that of the mean of an image's three probabilities."""
    from sklearn.metrics import log_loss

    head = featcache.fit_head(features, C=0.01)
    held = np.isin(features.keys, features.keys[assign_roles(features, seed=0).judge])
    mean = head.predict_proba(features[held]).reshape(-1, 3, len(head.classes)).mean(axis=1)
    labels = features.labels[held][::3]
    averaged = featcache.evaluate(head, features, average_views=True)
    assert averaged.log_loss == pytest.approx(log_loss(labels, mean, labels=head.classes))


def test_a_head_of_augmented_features_takes_plain_ones(features, tmp_path):
    """Augmentation makes other rows, not another space: predictions on arrays just work."""
    head = featcache.fit_head(features, C=0.01, out=tmp_path / "x.head")
    images = [np.zeros((32, 32), np.uint8), np.full((32, 32), 200, np.uint8)]
    assert len(head.predict_images(np.stack(images), cache=tmp_path)) == 2
