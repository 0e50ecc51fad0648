"""Sweeping: which head, which setting and which layer, chosen and judged honestly.

features --align--> rows --parts--> tasks --joblib--> scores --choose--> head, refitted and judged
"""

from featcache.sweeping.candidates import Candidate, NotFitted
from featcache.sweeping.grids import GRIDS
from featcache.sweeping.learning_curve import Gain, Point, measure_learning_curve
from featcache.sweeping.result import Sweep
from featcache.sweeping.search import sweep

__all__ = [
    "GRIDS",
    "Candidate",
    "Gain",
    "NotFitted",
    "Point",
    "Sweep",
    "measure_learning_curve",
    "sweep",
]
