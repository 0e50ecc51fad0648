"""Fitting: a head on features, the best of many heads, a small network from scratch."""
