"""Heads: what is learned on vectors. One file a head, all of one shape.

fit(vectors, codes, ...) -> head        predict_proba(vectors) -> (n, K)
state() -> arrays                       from_state(arrays, settings) -> head
"""

from featcache.heads.head import HEADS, Head, Prediction

__all__ = ["HEADS", "Head", "Prediction"]
