"""How often our 95 % intervals hold the true accuracy, in simulated data sets.

    python scripts/evidence/intervals.py [REPETITIONS]

Two classes of normal vectors, a ridge classifier, fresh rows to know the true accuracy by. A test
set: `metrics.accuracy_interval` on as many fresh rows. Folds: Wilson's interval on all rows alone,
and `candidates.interval_of`, which is Nadeau and Bengio's and never shorter than Wilson's.
"""

from __future__ import annotations

import argparse

import numpy as np
from sklearn.linear_model import RidgeClassifier

from featcache.evaluation.metrics import accuracy_interval, wilson
from featcache.fitting.sweeping.candidates import interval_of

#: Rows, numbers in a vector, distance of the classes along each of ten numbers, folds.
CASES = [(100, 40, 0.8, 5), (300, 100, 0.6, 5), (300, 20, 1.2, 5), (300, 100, 0.6, 3)]
#: Rows that tell the true accuracy of a classifier.
MANY = 20_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("repetitions", type=int, nargs="?", default=400)
    repetitions = parser.parse_args().repetitions
    print(f"{repetitions} data sets each; coverage (mean width)")
    print("rows numbers folds   test set, Wilson   folds, Wilson   folds, interval_of")
    for case in CASES:
        print(row(case, repetitions), flush=True)


def row(case: tuple[int, int, float, int], repetitions: int) -> str:
    """A line of the table: coverage and mean width of each interval."""
    rows, width, distance, folds = case
    generator = np.random.default_rng(0)
    fresh = draw(generator, MANY, width, distance)
    results = [
        once(generator, fresh, draw(generator, rows, width, distance), folds=folds)
        for _ in range(repetitions)
    ]
    covered, widths = np.mean(results, axis=0).T
    cells = "".join(
        f"   {share:7.3f} ({reach:.3f})" for share, reach in zip(covered, widths, strict=True)
    )
    return f"{rows:4} {width:7} {folds:5}{cells}"


def draw(
    generator: np.random.Generator, rows: int, width: int, distance: float
) -> tuple[np.ndarray, np.ndarray]:
    """Vectors and their classes; the classes differ in the first ten numbers."""
    codes = generator.integers(0, 2, rows)
    means = np.where(np.arange(width) < 10, distance / np.sqrt(2) / 2, 0.0)
    return generator.normal(size=(rows, width)) + np.outer(2 * codes - 1, means), codes


def once(
    generator: np.random.Generator,
    fresh: tuple[np.ndarray, np.ndarray],
    data: tuple[np.ndarray, np.ndarray],
    *,
    folds: int,
) -> list[tuple[bool, float]]:
    """Whether each interval holds the true accuracy (that of a fit on all rows), and its width."""
    vectors, codes = data
    whole = RidgeClassifier(alpha=10).fit(vectors, codes).predict(fresh[0]) == fresh[1]
    truth = whole.mean()
    judged = generator.choice(MANY, len(codes), replace=False)
    place = generator.permutation(len(codes)) % folds
    right = []
    for fold in range(folds):
        inside, outside = place == fold, place != fold
        model = RidgeClassifier(alpha=10).fit(vectors[outside], codes[outside])
        right.append(model.predict(vectors[inside]) == codes[inside])
    every = np.concatenate(right)
    intervals = [
        accuracy_interval(whole[judged], np.arange(len(judged))),
        wilson(float(every.mean()), len(every)),
        interval_of(right),
    ]
    return [(low <= truth <= high, high - low) for low, high in intervals]


if __name__ == "__main__":
    main()
