"""Evaluation: how good a head is."""
