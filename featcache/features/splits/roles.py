"""Roles: which rows train a head, which stop its training, and which judge it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from featcache.errors import FeatcacheError
from featcache.features.features import Features
from featcache.features.rows import Rows
from featcache.features.splits.duplicates import NEAR
from featcache.features.splits.partition import holdout
from featcache.features.splits.ties import Ties, find_ties

#: Of an unsplit data set, this part of each class judges the head.
HELD_OUT = 0.2
#: Where the file has no validation split, this part of each class of the training rows stops.
STOPPING = 0.1


@dataclass(frozen=True, slots=True)
class Roles:
    """Which rows train, judge and stop, as masks, and the sentences that say so.

    `stop` (rows that stop the training, or set a temperature, or both) is empty where nothing
    does; its rows are rows that judge only where they stop alone, and the file has a validation
    split and no test split.
    """

    train: np.ndarray
    judge: np.ndarray
    stop: np.ndarray
    protocol: str
    remarks: list[str]
    unit: np.ndarray

    def used(self, features: Rows) -> np.ndarray:
        """A mask of the rows that what was trained has used up.

        Rows held back to stop the training shaped it too; those of the file's own split may judge.
        """
        mask: np.ndarray = self.train | (self.stop & np.isin(features.splits, ["train", ""]))
        return mask


def assign_roles(
    features: Rows,
    seed: int,
    *,
    stopped: bool = False,
    calibrated: bool = False,
    ties: Ties | None = None,
) -> Roles:
    """Training and judging rows: the file's own test or validation split, else a stratified one.

    Augmented views train, and never judge; all views of an image are on one side, and so is what
    belongs together (`ties`; None: `find_ties` finds it out). With `stopped` there are rows
    that may stop the training too: the file's validation split, or a tenth of the training rows.
    With `calibrated` these rows set the temperature, and never judge.

    Raises `FeatcacheError` where there are no labels, fewer than two classes, or no row to train
    or to judge on.
    """
    if isinstance(features, Features):
        features.check_any()
    labelled = features.labels != ""
    if not labelled.any():
        raise FeatcacheError(
            f"{features.path}: no row has a label. Labels come from class folders "
            f"(photos/cat/1.jpg) or from the label column of a CSV manifest"
        )
    ties = find_ties(features) if ties is None else ties
    plain = features.views == 0
    roles = _of_file(features, labelled, ties) or _dealt(features, labelled, seed, ties)
    _check_roles(features, roles)
    stopping = ""
    if stopped or calibrated:
        use = " and ".join(
            ["stopped the training"] * stopped + ["set the temperature"] * calibrated
        )
        may_judge = stopped and not calibrated
        roles, stopping = _with_stopping(features, roles, seed, use=use, may_judge=may_judge)
    counts = f"{int(roles.judge.sum())} rows), trained on {int(roles.train.sum())} rows"
    if not plain.all():
        counts += f" (augmented views of {int((roles.train & plain).sum())} images among them)"
    return replace(roles, protocol=f"{roles.protocol} ({counts}{stopping}")


def _of_file(features: Rows, labelled: np.ndarray, ties: Ties) -> Roles | None:
    """The roles that the file's own splits give, if it has one to judge on."""
    for split in ("test", "validation"):
        judged = labelled & (features.views == 0) & (features.splits == split)
        if judged.any():
            train = labelled & np.isin(features.splits, ["train", ""])
            words = f"accuracy on the file's {split} split"
            return _without_copies(features, train, judged, words, ties)
    return None


def _dealt(features: Rows, labelled: np.ndarray, seed: int, ties: Ties) -> Roles:
    """The roles where the file has no split to judge on: a part of each class is held out."""
    held = _held_out(features, labelled, HELD_OUT, seed, ties.unit)
    words = f"accuracy on a stratified {HELD_OUT:.0%} held out by image hash"
    if ties.twins:
        words += f", {ties.twins} near duplicates on one side with those they are like"
    remarks = [ties.remark] if ties.remark else []
    judge = held & (features.views == 0)
    return Roles(labelled & ~held, judge, np.zeros_like(held), words, remarks, ties.unit)


def _with_stopping(
    features: Rows, roles: Roles, seed: int, *, use: str, may_judge: bool
) -> tuple[Roles, str]:
    """The roles with rows that stop the training, and the words that say which.

    `use` is what these rows did, in words. Without `may_judge` they are no rows that judge.
    """
    # A class that only these rows have cannot be learned: they would only mislead.
    usable = np.isin(features.labels, features[roles.train].classes) & (features.views == 0)
    validation = usable & (features.splits == "validation")
    if may_judge and (validation & roles.judge).any():
        words = "; the rows that judge stopped the training too: the accuracy may flatter the head"
        return replace(roles, stop=roles.judge & usable), words
    validation &= ~np.isin(features.keys, features.keys[roles.train | roles.judge])
    if validation.any():
        words = f"; the file's validation split ({int(validation.sum())} rows) {use}"
        return replace(roles, stop=validation), words
    stop = _held_out(features, roles.train, STOPPING, seed + 1, roles.unit)
    train, stop = roles.train & ~stop, stop & (features.views == 0)
    if not stop.any():
        return roles, "; too few rows to hold any back that could stop the training"
    words = f"; {int(stop.sum())} other training rows, chosen by image hash, {use}"
    return replace(roles, train=train, stop=stop), words


def _held_out(
    features: Rows, among: np.ndarray, share: float, seed: int, unit: np.ndarray
) -> np.ndarray:
    """A mask of about a share of each class of the rows `among`, by image hash."""
    rows = features[among]
    held = np.zeros(len(features), dtype=bool)
    held[among] = holdout(rows.labels, rows.keys, rows.groups, share, seed, unit[among])
    return held


def _without_copies(
    features: Rows, train: np.ndarray, judged: np.ndarray, protocol: str, ties: Ties
) -> Roles:
    """Judged rows whose image is a training image prove nothing: leave out. What is near: say."""
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
    judged = judged & ~copies
    if near := _near(judged, train, ties.pairs):
        folder = features.path.parent
        remarks.append(
            f"{near} of the {int(judged.sum())} images that judge have a near duplicate in the "
            f"training rows (cosine of {NEAR:g} or more): the accuracy may flatter the head; "
            f"`featcache split {folder.parent.name}/{folder.name} --audit` tells it without them"
        )
    return Roles(train, judged, np.zeros_like(train), protocol, remarks, ties.unit)


def _near(judged: np.ndarray, train: np.ndarray, pairs: np.ndarray) -> int:
    """How many rows that judge have a near duplicate that trains."""
    both = np.concatenate([pairs, pairs[:, ::-1]])
    return len(np.unique(both[judged[both[:, 0]] & train[both[:, 1]], 0]))


def _check_roles(features: Rows, roles: Roles) -> None:
    classes = features[roles.train].classes
    if not roles.train.any():
        raise FeatcacheError(
            f"{features.path}: no labelled row to train on: put images under train/ beside the "
            f"other splits, or give folders without splits"
        )
    if len(classes) < 2:
        raise FeatcacheError(
            f"{features.path}: the training rows hold one class only ({classes[0]!r}), a head "
            f"needs at least two: add a folder (or label) of images that are something else"
        )
    if not roles.judge.any():
        raise FeatcacheError(
            f"{features.path}: {len(features)} rows in {len(classes)} classes leave none to judge "
            f"on: give more images of each class, at least two"
        )
