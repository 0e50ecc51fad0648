"""Heads: what is learned on vectors. One file a kind, all of one shape.

    fit(training, options) -> model         predict_proba(vectors) -> (n, K)
    state() -> arrays                       from_state(arrays, settings) -> model

`HEADS` lists the kinds, `Head` is a model with everything needed to use it and to judge it.
"""

from featcache.heads.head import Head, Prediction
from featcache.heads.kinds import HEADS, Kind, options_of
from featcache.heads.training import Model, Training

__all__ = ["HEADS", "Head", "Kind", "Model", "Prediction", "Training", "options_of"]
