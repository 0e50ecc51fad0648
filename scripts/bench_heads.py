"""How fast the logistic solver is beside scikit-learn's, in one run on one matrix.

    python scripts/bench_heads.py logistic FEATURES [--rows N] [--rounds R] [--low -4 --high -1]

FEATURES is what `featcache.load` takes; its training split (or every row) is standardised once for
scikit-learn and given as it is to `solve_path`. Prints one JSON object: in every round the seconds
of one `LogisticRegression(C=0.01, tol=1e-4)`, of `solve_path` with ten values of C from 10**low to
10**high, and with ten values and five folds; the ratios of each round and their spread; and how far
every loss is above the best that either found.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

import featcache
from featcache.heads.logistic_path import solve_path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["logistic"])
    parser.add_argument("features")
    parser.add_argument("--rows", type=int)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--low", type=float, default=-4)
    parser.add_argument("--high", type=float, default=-1)
    parser.add_argument("--no-folds", action="store_true")
    print(json.dumps(logistic(parser.parse_args()), indent=1))


def logistic(options: argparse.Namespace) -> dict[str, Any]:
    """Rounds of the same three jobs, one after the other, so that a busy machine slows all."""
    vectors, codes = _table(options.features, options.rows)
    Cs = np.logspace(options.low, options.high, 10)
    folds = np.random.default_rng(0).permutation(len(codes)) % 5
    scaled = _standardised(vectors)
    rounds = []
    for _ in range(options.rounds):
        one, theirs = timed(lambda: _scikit_learns(scaled, codes))
        path, ours = timed(lambda: solve_path(vectors, codes, Cs=Cs))
        crossed = float("nan")
        if not options.no_folds:
            crossed, _ = timed(lambda: solve_path(vectors, codes, Cs=Cs, folds=folds))
        rounds.append({"scikit-learn, one C": one, "path": path, "path x 5 folds": crossed})
    (same,) = solve_path(vectors, codes, Cs=[0.01], tol=1e-6)
    (default,) = solve_path(vectors, codes, Cs=[0.01])
    return {
        "rows": len(codes),
        "width": vectors.shape[1],
        "classes": int(codes.max()) + 1,
        "Cs": Cs.tolist(),
        "seconds": rounds,
        "path / one fit": _spread([r["path"] / r["scikit-learn, one C"] for r in rounds]),
        "path x 5 folds / one fit": _spread(
            [r["path x 5 folds"] / r["scikit-learn, one C"] for r in rounds]
        ),
        "scikit-learn's iterations": int(theirs.n_iter_.max()),
        "iterations": [s.iterations for s in ours],
        "converged": [s.converged for s in ours],
        "loss above tol=1e-6, C=0.01": {
            "scikit-learn": _loss(theirs, scaled, codes, 0.01) / same.loss - 1,
            "solve_path": default.loss / same.loss - 1,
        },
    }


def timed(job: Callable[[], Any]) -> tuple[float, Any]:
    started = time.perf_counter()
    result = job()
    return round(time.perf_counter() - started, 3), result


def _table(features: str, rows: int | None) -> tuple[np.ndarray, np.ndarray]:
    loaded = featcache.load(features)
    train = np.flatnonzero(np.isin(loaded.splits, ["train", ""]) & (loaded.labels != ""))
    if rows and rows < len(train):
        train = np.sort(np.random.default_rng(0).choice(train, rows, replace=False))
    _, codes = np.unique(loaded.labels[train], return_inverse=True)
    return np.array(loaded.vectors[train], dtype=np.float32), codes


def _standardised(vectors: np.ndarray) -> np.ndarray:
    from sklearn.preprocessing import StandardScaler

    scaled: np.ndarray = StandardScaler().fit_transform(vectors)
    return scaled


def _scikit_learns(scaled: np.ndarray, codes: np.ndarray) -> Any:
    from sklearn.linear_model import LogisticRegression

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return LogisticRegression(C=0.01, tol=1e-4, max_iter=1000).fit(scaled, codes)


def _loss(model: Any, scaled: np.ndarray, codes: np.ndarray, C: float) -> float:
    logits = model.decision_function(scaled).astype(np.float64)
    if logits.ndim == 1:
        logits = np.stack([np.zeros_like(logits), logits], axis=1)
    logits -= logits.max(axis=1, keepdims=True)
    each = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(codes)), codes]
    return float(each.mean() + (model.coef_.astype(np.float64) ** 2).sum() / (2 * C * len(codes)))


def _spread(values: list[float]) -> dict[str, float]:
    ordered = sorted(values)
    return {"least": ordered[0], "middle": ordered[len(ordered) // 2], "most": ordered[-1]}


if __name__ == "__main__":
    main()
