"""Splits: who trains, who stops, who judges, and what must stay on one side."""
