"""Runtimes: what runs a network. Each is a function from a batch to one array for each tap."""

from featcache.runtimes.runtime import RUNTIMES, Runtime, open_runtime

__all__ = ["RUNTIMES", "Runtime", "open_runtime"]
