"""Roles: which rows train a head, which stop its training, and which judge it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from featcache.errors import FeatcacheError
from featcache.features import Features
from featcache.splits import holdout

#: Of an unsplit data set, this part of each class judges the head.
HELD_OUT = 0.2
#: Where the file has no validation split, this part of each class of the training rows stops.
STOPPING = 0.1


@dataclass(frozen=True, slots=True)
class Roles:
    """Which rows train, judge and stop, as masks, and the sentences that say so.

    `stop` is empty where nothing is stopped; its rows are rows that judge only where the file has
    a validation split and no test split.
    """

    train: np.ndarray
    judge: np.ndarray
    stop: np.ndarray
    protocol: str
    remarks: list[str]


def assign_roles(features: Features, seed: int, *, stopped: bool = False) -> Roles:
    """Training and judging rows: the file's own test or validation split, else a stratified one.

    Augmented views train, and never judge; all views of an image are on one side. With `stopped`
    there are rows that may stop the training too: the file's validation split, or a tenth of the
    training rows.

    Raises `FeatcacheError` where there are no labels, fewer than two classes, or no row to train
    or to judge on.
    """
    labelled = features.labels != ""
    if not labelled.any():
        raise FeatcacheError(
            f"{features.path}: no row has a label. Labels come from class folders "
            f"(photos/cat/1.jpg) or from the label column of a CSV manifest"
        )
    plain = features.views == 0
    for split in ("test", "validation"):
        judged = labelled & plain & (features.splits == split)
        if judged.any():
            train = labelled & np.isin(features.splits, ["train", ""])
            roles = _without_copies(
                features, train, judged, f"accuracy on the file's {split} split"
            )
            break
    else:
        held = np.zeros(len(features), dtype=bool)
        held[labelled] = holdout(
            features.labels[labelled],
            features.keys[labelled],
            features.groups[labelled],
            HELD_OUT,
            seed,
        )
        words = f"accuracy on a stratified {HELD_OUT:.0%} held out by image hash"
        roles = Roles(labelled & ~held, held & plain, np.zeros_like(held), words, [])
    _check_roles(features, roles)
    stopping = ""
    if stopped:
        roles, stopping = _with_stopping(features, roles, labelled & plain, seed)
    counts = f"{int(roles.judge.sum())} rows), trained on {int(roles.train.sum())} rows"
    if not plain.all():
        counts += f" (augmented views of {int((roles.train & plain).sum())} images among them)"
    return replace(roles, protocol=f"{roles.protocol} ({counts}{stopping}")


def _with_stopping(
    features: Features, roles: Roles, usable: np.ndarray, seed: int
) -> tuple[Roles, str]:
    """The roles with rows that stop the training, and the words that say which."""
    validation = usable & (features.splits == "validation")
    if (validation & roles.judge).any():
        words = "; the rows that judge stopped the training too: the accuracy may flatter the head"
        return replace(roles, stop=roles.judge), words
    validation &= ~np.isin(features.keys, features.keys[roles.train | roles.judge])
    if validation.any():
        words = f"; the file's validation split ({int(validation.sum())} rows) stopped the training"
        return replace(roles, stop=validation), words
    rows = np.flatnonzero(roles.train)
    held = holdout(
        features.labels[rows], features.keys[rows], features.groups[rows], STOPPING, seed + 1
    )
    stop = np.zeros_like(roles.train)
    stop[rows[held]] = True
    train, stop = roles.train & ~stop, stop & (features.views == 0)
    if not stop.any():
        return roles, "; too few rows to hold any back that could stop the training"
    words = f"; {int(stop.sum())} other training rows, chosen by image hash, stopped the training"
    return replace(roles, train=train, stop=stop), words


def _without_copies(
    features: Features, train: np.ndarray, judged: np.ndarray, protocol: str
) -> Roles:
    """Judged rows whose image is a training image prove nothing: leave out. Shared groups: say."""
    copies = judged & np.isin(features.keys, features.keys[train])
    remarks = []
    if copies.any():
        remarks.append(
            f"{int(copies.sum())} images stand in the training rows too (same bytes): "
            f"they do not count for the accuracy"
        )
    shared = set(features.groups[train]) & set(features.groups[judged]) - {""}
    if shared:
        remarks.append(
            f"{len(shared)} groups have images on both sides of the split "
            f"({', '.join(sorted(shared)[:3])}...): the accuracy may flatter the head"
        )
    return Roles(train, judged & ~copies, np.zeros_like(train), protocol, remarks)


def _check_roles(features: Features, roles: Roles) -> None:
    classes = features[roles.train].classes
    if not roles.train.any():
        raise FeatcacheError(
            f"{features.path}: no labelled row to train on: put images under train/ beside the "
            f"other splits, or give folders without splits"
        )
    if len(classes) < 2:
        raise FeatcacheError(
            f"{features.path}: the training rows hold one class only ({classes[0]!r}): a head "
            f"needs at least two"
        )
    if not roles.judge.any():
        raise FeatcacheError(
            f"{features.path}: {len(features)} rows in {len(classes)} classes leave none to judge "
            f"on: give more images of each class, at least two"
        )
