"""Runtimes: what runs a network. Each is a function from a batch to one array for each tap."""
