"""Sweeping: which head, which setting and which layer, chosen and judged honestly.

features --align--> rows --parts--> tasks --joblib--> scores --choose--> head, refitted and judged
"""

from featcache.sweeping.grids import GRIDS
from featcache.sweeping.learning_curve import Point, measure_learning_curve
from featcache.sweeping.search import Candidate, Sweep, sweep

__all__ = ["GRIDS", "Candidate", "Point", "Sweep", "measure_learning_curve", "sweep"]
