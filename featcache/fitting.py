"""Fitting: which rows train a head, which judge it, and how its setting is chosen."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np

from featcache.cache import weights_hint
from featcache.errors import FeatcacheError
from featcache.evaluation import Report, judge, prefixes
from featcache.features import Features
from featcache.heads import HEADS, Head
from featcache.heads.logistic import LogisticHead, solve, standardise
from featcache.lookup import Source
from featcache.splits import holdout, uniform, units
from featcache.store import open_packed

#: The values of C that cross-validation compares; vectors are standardised first.
C_GRID = (0.0001, 0.001, 0.01, 0.1, 1.0)
#: Solvers of the search stop earlier than the final one: accuracy settles long before the loss.
SEARCH_TOL = 1e-3
#: Cross-validation looks at no more rows than this; the chosen C is then refitted on all.
SEARCH_ROWS = 10_000
#: Of an unsplit data set, this part of each class judges the head.
HELD_OUT = 0.2


@dataclass(frozen=True, slots=True)
class Roles:
    """Which rows train and which judge, as masks, and the sentences that say so."""

    train: np.ndarray
    judge: np.ndarray
    protocol: str
    remarks: list[str]


@dataclass(frozen=True, slots=True)
class Fit:
    """A fitted head, how good it is, and how long it took in seconds."""

    head: Head
    report: Report
    seconds: float


def fit_head(
    features: Features,
    *,
    head: str = "logreg",
    C: float | None = None,
    seed: int = 0,
    out: str | Path | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Head:
    """Train a head on cached vectors, judge it on rows it has not seen, and save it.

    Parameters
    ----------
    head: the kind of head, a name in `featcache.HEADS`.
    C: inverse strength of the penalty; None: chosen by cross-validation on the training rows.
    seed: which rows are held out where the features carry no test or validation split.
    out: the head's file; None: beside the features.
    say: called with a line of text now and then.

    Returns
    -------
    Head: with `.metrics` and `.protocol`, saved at `.path`.

    Raises
    ------
    FeatcacheError: no labels, a single class, or too few rows; `DamagedFile`: a bad row.
    """
    return fit(features, head=head, C=C, seed=seed, out=out, say=say).head


def fit(
    features: Features,
    *,
    head: str,
    C: float | None,
    seed: int,
    out: str | Path | None,
    say: Callable[[str], None],
) -> Fit:
    """`fit_head` with its report and its time."""
    started = time.monotonic()
    if head not in HEADS:
        raise FeatcacheError(
            f"--head {head!r}: there is no such head; there are: {', '.join(HEADS)}"
        )
    if C is not None and not (np.isfinite(C) and C > 0):
        raise FeatcacheError(f"--C {C}: expected a number above 0, such as 0.01 (small = simple)")
    roles = assign_roles(features, seed)
    features[roles.train | roles.judge].check()
    train = features[roles.train]
    classes = train.classes
    codes = np.searchsorted(np.array(classes), train.labels)
    chosen, how = (C, f"C = {C:g} as given") if C else choose_c(train, codes, seed, say)
    say(f"fitting {head} with C = {chosen:g} on {len(train)} rows of {train.width}")
    model = HEADS[head].fit(np.array(train.vectors, dtype=np.float32), codes, C=chosen)
    fitted = Head(
        kind=head,
        model=model,
        classes=classes,
        source=Source(
            features.recipe, weights_hint(features.path.parent), open_packed(features.path).probe
        ),
        trained_on=np.unique(prefixes(train.keys)),
        protocol=f"{roles.protocol}; {how}",
        metrics={},
        versions={name: version(name) for name in ("featcache", "scikit-learn", "numpy")},
    )
    report = judge(
        fitted, features[roles.judge], protocol=fitted.protocol, remarks=_all_remarks(roles, model)
    )
    fitted = replace(fitted, metrics={**report.to_dict(), "training_rows": len(train)})
    path = fitted.save(out or features.path.parent / f"{head}.head")
    return Fit(replace(fitted, path=path), report, time.monotonic() - started)


def assign_roles(features: Features, seed: int) -> Roles:
    """Training and judging rows: the file's own test or validation split, else a stratified one.

    Augmented views train, and never judge; all views of an image are on one side.

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
        roles = Roles(labelled & ~held, held & plain, words, [])
    _check_roles(features, roles)
    counts = f"{int(roles.judge.sum())} rows), trained on {int(roles.train.sum())} rows"
    if not plain.all():
        counts += f" (augmented views of {int((roles.train & plain).sum())} images among them)"
    return replace(roles, protocol=f"{roles.protocol} ({counts}")


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
    return Roles(train, judged & ~copies, protocol, remarks)


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


def choose_c(
    train: Features, codes: np.ndarray, seed: int, say: Callable[[str], None]
) -> tuple[float, str]:
    """The C of `C_GRID` with the best accuracy in cross-validation, and how it was found."""
    rows = _search_rows(train, codes, seed)
    vectors, codes = np.array(train.vectors[rows], dtype=np.float32), codes[rows]
    unit = units(train.keys[rows], train.groups[rows])
    smallest = min(len(np.unique(unit[codes == code])) for code in np.unique(codes))
    folds = min(3 if len(rows) > 2000 else 5, smallest)
    if folds < 2:
        return 0.01, "C = 0.01 without cross-validation (a class has a single training image)"
    say(f"choosing C out of {len(C_GRID)} by {folds}-fold cross-validation on {len(rows)} rows")
    plain = train.views[rows] == 0
    scores = np.mean(
        [
            _fold_scores(vectors, codes, fit_rows, test_rows[plain[test_rows]])
            for fit_rows, test_rows in _folds(codes, unit, folds, seed)
        ],
        axis=0,
    )
    # argmax takes the first of equals: the simplest model.
    best = C_GRID[int(scores.argmax())]
    where = f"{len(rows)} of {len(train)}" if len(rows) < len(train) else f"all {len(rows)}"
    return best, f"C = {best:g} by {folds}-fold cross-validation on {where} training rows"


def _search_rows(train: Features, codes: np.ndarray, seed: int) -> np.ndarray:
    """At most `SEARCH_ROWS` rows, the same share of every class, chosen by image hash."""
    if len(train) <= SEARCH_ROWS:
        return np.arange(len(train))
    order = np.array([uniform(str(key), f"search{seed}") for key in train.keys])
    share = SEARCH_ROWS / len(train)
    picked = []
    for code in np.unique(codes):
        members = np.flatnonzero(codes == code)
        count = max(2, int(len(members) * share))
        picked.append(members[np.argsort(order[members], kind="stable")[:count]])
    return np.sort(np.concatenate(picked))


def _folds(
    codes: np.ndarray, unit: np.ndarray, folds: int, seed: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Stratified folds; where images share a group or their bytes, they share a fold."""
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    together = len(np.unique(unit)) < len(unit)
    kind = StratifiedGroupKFold if together else StratifiedKFold
    splitter = kind(n_splits=folds, shuffle=True, random_state=seed)
    return list(splitter.split(codes, codes, groups=unit if together else None))


def _fold_scores(
    vectors: np.ndarray, codes: np.ndarray, fit_rows: np.ndarray, test_rows: np.ndarray
) -> list[float]:
    """Accuracy on the test rows for every C, each solver starting where the last one ended."""
    seen, unseen = vectors[fit_rows], vectors[test_rows]
    mean, scale = standardise(seen)
    unseen = (unseen - mean) / scale
    scores, solver = [], None
    for C in C_GRID:
        solver = solve(seen, codes[fit_rows], C=C, tol=SEARCH_TOL, start=solver)
        scores.append(float(solver.score(unseen, codes[test_rows])))
    return scores


def _all_remarks(roles: Roles, model: LogisticHead) -> list[str]:
    remarks = list(roles.remarks)
    if not model.settings["converged"]:
        remarks.append(
            f"the solver stopped after {model.settings['iterations']} iterations before it had "
            f"converged: try a smaller --C"
        )
    return remarks
