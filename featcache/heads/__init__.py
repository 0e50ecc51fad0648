"""Heads: what is learned on vectors. One file a kind, all of one shape.

    fit(training, options) -> model         predict_proba(vectors) -> (n, K)
    state() -> arrays                       from_state(arrays, settings) -> model

`kinds.HEADS` lists the kinds; `head.Head` is a model with everything to use it and to judge it.
"""
