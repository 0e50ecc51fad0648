"""Extraction: an ImageSet and a Recipe become Features."""
