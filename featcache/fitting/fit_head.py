"""Fitting: a head of any kind on cached vectors, judged on rows it has not seen, saved."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from featcache.errors import FeatcacheError, checked_seed
from featcache.evaluation.evaluate import judge, prefixes
from featcache.evaluation.report import Report
from featcache.extraction.lookup import VectorSource
from featcache.features.cache import images_root
from featcache.features.features import Features
from featcache.features.splits.roles import Roles, assign_roles
from featcache.features.splits.ties import Ties
from featcache.files.write import check_output
from featcache.heads.calibration import check_enough, fit_temperature, no_temperature
from featcache.heads.head import Head
from featcache.heads.kinds import HEADS, fit_model, options_of
from featcache.heads.model import Model
from featcache.heads.training_set import TrainingSet, training_set_of
from featcache.images.pages import split_page


@dataclass(frozen=True, slots=True)
class Fit:
    """A fitted head, how good it is on the rows `judged`, and how long it took in seconds."""

    head: Head
    report: Report
    judged: Features
    seconds: float


@dataclass(frozen=True, slots=True)
class Selection:
    """How a kind of head and its settings were chosen, for the head's protocol.

    `candidates` were compared, `words` says how; `split` is the split of the file whose rows chose,
    "" where training rows did.
    """

    candidates: int
    words: str
    split: str = ""


def fit_head(
    features: Features,
    *,
    head: Any = "logreg",
    seed: int = 0,
    out: str | Path | None = None,
    sample_weight: np.ndarray | None = None,
    calibrate: bool = False,
    say: Callable[[str], None] = lambda line: None,
    **options: Any,
) -> Head:
    """Train a head on cached vectors, judge it on rows it has not seen, and save it.

    Parameters
    ----------
    head: the kind of head, a name in `featcache.HEADS`; or a scikit-learn classifier of your own,
        of which a clone is fitted, and which is not saved.
    seed: which rows are held out where the features carry no test or validation split, and every
        random number of the training.
    out: the head's file; None: beside the features.
    sample_weight: (R,) what each row of the features counts in training.
    calibrate: set a temperature on rows that neither train nor judge (docs/judging.md).
    say: called with a line of text now and then.
    options: those of the kind of head, under the names of the command's options:
        `HEADS[head].options` documents them. `C=0.01` for "logreg"; `hidden=(64,)` for "dense".

    Returns
    -------
    Head: with `.metrics` and `.protocol`, saved at `.path`.

    Raises
    ------
    FeatcacheError: no labels, a single class, too few rows, a vector that is not finite, or an
        option that the kind of head does not have; `DamagedFile`: a bad row.
    """
    return fit(
        features,
        head=head,
        seed=seed,
        out=out,
        sample_weight=sample_weight,
        calibrate=calibrate,
        say=say,
        **options,
    ).head


def fit(
    features: Features,
    *,
    head: Any,
    seed: int,
    out: str | Path | None,
    sample_weight: np.ndarray | None = None,
    stopped: bool = False,
    calibrate: bool = False,
    ties: Ties | None = None,
    selection: Selection | None = None,
    say: Callable[[str], None] = lambda line: None,
    **options: Any,
) -> Fit:
    """`fit_head` with its report and its time.

    `stopped`: rows that may stop a training are held back, whether or not this head needs them.
    `ties`: which rows belong together, where that was found out already. `selection`: how
    this head was chosen out of others, where it was.
    """
    started = time.monotonic()
    checked_seed(seed)
    chosen = _chosen(head, options, out)
    if out is not None:
        check_output(Path(out), [features.path, *_images(features)])
    features.recipe.check_reading(features.path.parent.name, features.names)
    is_stopped = stopped or (isinstance(head, str) and HEADS[head].is_stopped)
    roles = assign_roles(features, seed, stopped=is_stopped, calibrated=calibrate, ties=ties)
    features[roles.train | roles.judge | roles.stop].check()
    weights = _checked_weights(features, sample_weight)
    training = training_set_of(features, roles, weights=weights, seed=seed, say=say)
    if calibrate:
        check_enough(len(training.validation or ()))
    model, how = fit_model(training, head, chosen)
    kind = head if isinstance(head, str) else type(head).__name__
    if selection:
        selected = f"the best of {selection.candidates} candidates, {selection.words}"
        how = "; ".join([how] * bool(how) + [selected])
    fitted = _head(features, roles, kind, model, f"{roles.protocol}{how and '; ' + how}")
    remarks = _all_remarks(features, roles, model)
    if calibrate and training.validation:
        fitted, more = _calibrated(fitted, training.validation)
        remarks += more
    judged = features[roles.judge]
    report = judge(fitted, judged, protocol=fitted.protocol, remarks=remarks)
    metrics = {**report.to_dict(), "training_rows": len(training)}
    if selection:
        metrics |= {"candidates": selection.candidates, "chosen_on": selection.split}
    fitted = replace(fitted, metrics=metrics)
    if isinstance(head, str):
        place = features.path.parent
        beside = place / f"{kind}.head"
        path = fitted.save(out) if out else fitted.save(beside, base=place.parent.parent)
        fitted = replace(fitted, path=path)
    return Fit(fitted, report, judged, time.monotonic() - started)


def _images(features: Features) -> list[Path]:
    """The files that features were made of, where their root is known."""
    root = images_root(features.path.parent)
    names = dict.fromkeys(split_page(name)[0] for name in features.names.tolist())
    return [Path(root, name) for name in names] if root else []


def _chosen(head: Any, options: dict[str, Any], out: str | Path | None) -> Any:
    """The checked options of a kind of head; None for a classifier of the user's own."""
    if isinstance(head, str):
        return options_of(head, options)
    name = type(head).__name__
    if isinstance(head, type) or not hasattr(head, "fit"):
        raise FeatcacheError(
            f"head={head!r}: expected one of {', '.join(HEADS)}, or a scikit-learn classifier"
        )
    if options:
        raise FeatcacheError(
            f"{', '.join(options)}: give a classifier of your own its options itself: {name}(...)"
        )
    if out is not None:
        raise FeatcacheError(
            f"out={str(out)!r}: a head made of your own {name} is not saved (its file could run "
            f"foreign code when loaded): leave out= away, or take one of {', '.join(HEADS)}"
        )
    return None


def _checked_weights(features: Features, given: np.ndarray | None) -> np.ndarray | None:
    if given is None:
        return None
    weights = np.asarray(given, dtype=np.float32)
    if weights.shape != (len(features),) or not np.isfinite(weights).all() or (weights < 0).any():
        raise FeatcacheError(
            f"sample_weight: expected {len(features)} numbers of at least 0, one for each row of "
            f"the features, got an array of shape {weights.shape}"
        )
    return weights


def _head(features: Features, roles: Roles, kind: str, model: Model, protocol: str) -> Head:
    packages = ["featcache", "scikit-learn", "numpy", *["keras"] * (kind == "dense")]
    return Head(
        kind=kind,
        model=model,
        classes=features[roles.train].classes,
        source=VectorSource.of(features),
        trained_on=np.unique(prefixes(features.keys[roles.used(features)])),
        protocol=protocol,
        metrics={},
        versions={name: version(name) for name in packages},
    )


def _calibrated(head: Head, rows: TrainingSet) -> tuple[Head, list[str]]:
    """The head with the temperature that these rows, on which it was not fitted, set; remarks.

    Where they tell none, the head stays as it is: it may have taken hours.
    """
    probabilities = head.model.predict_proba(rows.vectors)
    reason = no_temperature(probabilities, rows.codes)
    temperature = 1.0 if reason else fit_temperature(probabilities, rows.codes)
    words = f"temperature {temperature:.3g}{' (these rows tell none)' if reason else ''}"
    calibrated = replace(head, temperature=temperature, protocol=f"{head.protocol}; {words}")
    if not reason:
        return calibrated, []
    return calibrated, [
        f"--calibrate: {reason}, which tells no temperature: the head is saved without one; more "
        f"or harder validation images may tell one"
    ]


def _all_remarks(features: Features, roles: Roles, model: Model) -> list[str]:
    remarks = list(roles.remarks)
    train = features[roles.train]
    single = [name for name in train.classes if len(set(train.names[train.labels == name])) == 1]
    if single:
        remarks.append(
            f"classes with a single training image: {_listed(single)}: give them more images"
        )
    if not model.settings.get("converged", True):
        remarks.append("the solver stopped before it had converged: try a smaller --C")
    return remarks


def _listed(names: list[str]) -> str:
    return ", ".join(repr(name) for name in names[:5]) + (", ..." if len(names) > 5 else "")
