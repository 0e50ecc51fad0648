"""How fast the logistic solver and the sweep are beside scikit-learn, in one run on one matrix.

    python scripts/benchmarks/heads.py logistic FEATURES [--rows N] [--threads T] [--rounds R]
    python scripts/benchmarks/heads.py sweep FEATURES [--rows N] [--threads T] [--folds F]

FEATURES is what `featcache.load` takes; both print one JSON object.

`logistic`: the training rows are standardised once for scikit-learn and given as they are to
`solve_path`. In every round the seconds of one `LogisticRegression(C=0.01, tol=1e-4)`, of ten
values of C from 10**low to 10**high, and of ten values and five folds; the ratios of each round and
their spread; and how far every loss is above the best that either found.

`sweep`: `featcache sweep` with its own choice of heads, and with `logreg` and ten values of C,
beside scikit-learn's `StandardScaler` and `LogisticRegressionCV` with the same values and folds:
seconds, and accuracy with its interval on the file's test split.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

import featcache
from featcache.evaluation.metrics import wilson
from featcache.heads.logistic.path import solve_path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["logistic", "sweep"])
    parser.add_argument("features")
    parser.add_argument("--cache")
    parser.add_argument("--rows", type=int, help="training rows, drawn at random")
    parser.add_argument("--threads", type=int, help="of the matrix library; 1: processor seconds")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--low", type=float, default=-4)
    parser.add_argument("--high", type=float)
    options = parser.parse_args()
    job, high = {"logistic": (logistic, -1.0), "sweep": (sweep, 4.0)}[options.what]
    if options.high is None:
        options.high = high
    print(json.dumps(job(options), indent=1))


def logistic(options: argparse.Namespace) -> dict[str, Any]:
    """Rounds of the same three jobs, one after the other, so that a busy machine slows all."""
    features = training_rows(options)
    vectors, codes = np.array(features.vectors, np.float32), codes_of(features)
    Cs = np.logspace(options.low, options.high, 10)
    folds = np.random.default_rng(0).permutation(len(codes)) % options.folds
    scaled, threads = standardised(vectors), options.threads
    rounds = []
    for _ in range(options.rounds):
        one, theirs = timed(lambda: scikit_learns(scaled, codes), threads)
        path, ours = timed(lambda: solve_path(vectors, codes, Cs=Cs), threads)
        crossed, found = timed(lambda: solve_path(vectors, codes, Cs=Cs, folds=folds), threads)
        rounds.append({"scikit-learn, one C": one, "path": path, "path x folds": crossed})
    (same,) = solve_path(vectors, codes, Cs=[0.01], tol=1e-6)
    (default,) = solve_path(vectors, codes, Cs=[0.01])
    return {
        "rows": len(codes),
        "width": vectors.shape[1],
        "classes": int(codes.max()) + 1,
        "Cs": Cs.tolist(),
        "folds": options.folds,
        "threads": threads,
        "seconds": rounds,
        "path / one fit": spread([r["path"] / r["scikit-learn, one C"] for r in rounds]),
        "path x folds / one fit": spread(
            [r["path x folds"] / r["scikit-learn, one C"] for r in rounds]
        ),
        "scikit-learn's iterations": int(theirs.n_iter_.max()),
        "iterations": [solution.iterations for solution in ours],
        "converged": all(solution.converged for solution in [*ours, *found]),
        "loss above tol=1e-6, C=0.01": {
            "scikit-learn": loss_of(theirs, scaled, codes, 0.01) / same.loss - 1,
            "solve_path": default.loss / same.loss - 1,
        },
    }


def sweep(options: argparse.Namespace) -> dict[str, Any]:
    """A round of both sweeps, their cross-validation once, then the other rounds."""
    features = training_rows(options, judged=True)
    Cs = np.logspace(options.low, options.high, 10).tolist()
    folds, threads = options.folds, options.threads
    swept_here = partial(swept, features, threads, folds=folds)
    before, like = swept_here(), swept_here(heads=["logreg"], Cs=Cs)
    theirs = cross_validated(features, Cs, folds, threads)
    again = [swept_here() for _ in range(options.rounds - 1)]
    like_again = [swept_here(heads=["logreg"], Cs=Cs) for _ in range(options.rounds - 1)]
    train, test = sides_of(features)
    return {
        "training rows": len(train),
        "test rows": len(test),
        "Cs": Cs,
        "folds": folds,
        "threads": threads,
        "LogisticRegressionCV": theirs,
        "sweep": [before, *again],
        "sweep, logreg with the same Cs": [like, *like_again],
        "time of theirs / ours": spread(
            [theirs["seconds"] / each["seconds"] for each in (before, *again)]
        ),
        "time of theirs / ours, same Cs": spread(
            [theirs["seconds"] / each["seconds"] for each in (like, *like_again)]
        ),
    }


def swept(features: featcache.Features, threads: int | None, **options: Any) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        seconds, found = timed(
            lambda: featcache.sweep(features, out=Path(folder) / "best.head", **options), threads
        )
    return {
        "seconds": seconds,
        "best": found.best.label,
        "accuracy": found.report.accuracy,
        "interval": wilson(found.report.accuracy, found.report.rows),
        "cross-validated": {each.label: round(each.accuracy, 4) for each in found.candidates},
    }


def cross_validated(
    features: featcache.Features, Cs: list[float], folds: int, threads: int | None
) -> dict[str, Any]:
    """scikit-learn's own, as people write it; its other settings are its defaults."""
    from sklearn.linear_model import LogisticRegressionCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    train, test = sides_of(features)
    chosen = LogisticRegressionCV(
        Cs=Cs, cv=folds, l1_ratios=(0,), scoring="accuracy", use_legacy_attributes=False
    )
    model = make_pipeline(StandardScaler(), chosen)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        seconds, _ = timed(lambda: model.fit(train.vectors, train.labels), threads)
    accuracy = float(model.score(test.vectors, test.labels))
    return {
        "seconds": seconds,
        "C": float(chosen.C_),
        "accuracy": accuracy,
        "interval": wilson(accuracy, len(test)),
        "cross-validated": np.round(chosen.scores_.mean(axis=0).ravel(), 4).tolist(),
        "fits that did not converge": len([w for w in caught if "converge" in str(w.message)]),
    }


def timed(job: Callable[[], Any], threads: int | None) -> tuple[float, Any]:
    """Seconds by the clock; with `threads` 1, of the processor: on a busy machine these hold."""
    clock = time.process_time if threads == 1 else time.perf_counter
    with threadpool_limits(threads, user_api="blas"):
        started = clock()
        result = job()
        return round(clock() - started, 3), result


def training_rows(options: argparse.Namespace, *, judged: bool = False) -> featcache.Features:
    """The labelled training rows, some of them with --rows; with the test split where asked for."""
    loaded = featcache.load(options.features, cache=options.cache)
    train = np.flatnonzero(np.isin(loaded.splits, ["train", ""]) & (loaded.labels != ""))
    if options.rows and options.rows < len(train):
        train = np.sort(np.random.default_rng(0).choice(train, options.rows, replace=False))
    test = np.flatnonzero(loaded.splits == "test") if judged else np.array([], int)
    return loaded[np.sort(np.concatenate([train, test]))]


def sides_of(features: featcache.Features) -> tuple[featcache.Features, featcache.Features]:
    return features[features.splits != "test"], features[features.splits == "test"]


def codes_of(features: featcache.Features) -> np.ndarray:
    codes: np.ndarray = np.unique(features.labels, return_inverse=True)[1]
    return codes


def standardised(vectors: np.ndarray) -> np.ndarray:
    from sklearn.preprocessing import StandardScaler

    scaled: np.ndarray = StandardScaler().fit_transform(vectors)
    return scaled


def scikit_learns(scaled: np.ndarray, codes: np.ndarray) -> Any:
    from sklearn.linear_model import LogisticRegression

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return LogisticRegression(C=0.01, tol=1e-4, max_iter=1000).fit(scaled, codes)


def loss_of(model: Any, scaled: np.ndarray, codes: np.ndarray, C: float) -> float:
    logits = model.decision_function(scaled).astype(np.float64)
    if logits.ndim == 1:
        logits = np.stack([np.zeros_like(logits), logits], axis=1)
    logits -= logits.max(axis=1, keepdims=True)
    each = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(codes)), codes]
    return float(each.mean() + (model.coef_.astype(np.float64) ** 2).sum() / (2 * C * len(codes)))


def spread(values: list[float]) -> dict[str, float]:
    ordered = sorted(values)
    return {"least": ordered[0], "middle": ordered[len(ordered) // 2], "most": ordered[-1]}


if __name__ == "__main__":
    main()
