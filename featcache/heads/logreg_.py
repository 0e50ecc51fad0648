"""The head `logreg`: its options, and how it is fitted. The solver: `featcache.heads.logistic`."""

from __future__ import annotations

from dataclasses import dataclass

from featcache.errors import FeatcacheError, above_zero, one_of
from featcache.heads.logistic import solve_path
from featcache.heads.logistic_ import LogisticHead
from featcache.heads.training_set import TrainingSet


@dataclass(frozen=True, slots=True)
class LogregOptions:
    """Options of `logreg`.

    C: inverse strength of the penalty; None: chosen by cross-validation on the training rows.
    class_weight: "balanced" makes every class count the same, "none" every row.
    """

    C: float | None = None
    class_weight: str = "none"

    def __post_init__(self) -> None:
        if self.C is not None:
            above_zero("--C", self.C, "0.01 (small = simple)")
        one_of("--class-weight", self.class_weight, ("none", "balanced"))


def fit(training: TrainingSet, options: LogregOptions) -> LogisticHead:
    """Multinomial logistic regression on standardised vectors."""
    if options.C is None:
        raise FeatcacheError("--C is needed here: choose it with `featcache.heads.logreg.choose_c`")
    training.say(f"fitting logreg with C = {options.C:g} on {len(training)} rows")
    (found,) = solve_path(
        training.vectors, training.codes, Cs=[options.C], sample_weight=training.weights
    )
    return LogisticHead.of(found)
